"""Any order, duplicates, batches, crashes and other workers: random schedules end in one state; faults change that."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Final, LiteralString, cast

import pytest

from clerk_supabase.credentials import Fixed
from clerk_supabase.model.changes import changes_of
from clerk_supabase.model.events import parse_event
from clerk_supabase.postgres.store import Store
from clerk_supabase_cli.simulator.orders import exploration
from clerk_supabase_cli.simulator.orders.exploration import explore
from clerk_supabase_cli.simulator.orders.schedules import Batch
from clerk_supabase_cli.simulator.portions import Plan, Template, portions_of, search_portions
from tests.kit.databases import Database, Databases, Rows, tables, value

# Two rounds, for --exhaustive; test_simulated_pipeline has the outages. A few rounds of 10 find each fault below.
SCHEDULES = 200
# Enough to find any fault; a search ends when it has. Always the same schedules, so that the duration is the same, too.
PER_FAULT = 1000
PLANTED = "planted"


@pytest.fixture(scope="module")
def reference(databases: Databases) -> Iterator[Database]:
    """A database in which each event is applied once, alone and in order."""
    database = databases.take()
    yield database
    databases.give_back(database)


@pytest.fixture
def seed(pytestconfig: pytest.Config) -> str:
    """Printed at the top of every run, settable by --hypothesis-seed."""
    return str(pytestconfig.option.hypothesis_seed)


@pytest.fixture
def small_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounds that take less time, for faults that show in any round."""
    monkeypatch.setattr(exploration, "AT_ONCE", 10)


def test_random_schedules_end_in_one_state(
    database: Database, reference: Database, seed: str, exhaustive: bool
) -> None:
    # Schedules of a round meet each other, which a second round does not show better.
    number = SCHEDULES if exhaustive else exploration.AT_ONCE
    report = explore(database, reference, schedules=number, seed=seed)
    assert (report.differences, report.deadlocks) == ([], 0)
    assert report.schedules == number
    assert report.redelivered_batches > 0


def test_workers_that_hold_their_locks_for_long_do_not_deadlock(
    database: Database, reference: Database, seed: str
) -> None:
    slow_down(database)
    report = explore(database, reference, schedules=60, seed=seed, first=SCHEDULES)
    assert (report.differences, report.deadlocks) == ([], 0)


@dataclass(frozen=True)
class Fault:
    """A way to get clerk_sync.apply() wrong."""

    name: str
    edits: dict[str, str]
    """Text of the function, and the replacement."""
    function: str = "clerk_sync.apply(jsonb)"
    first: int = 0
    """Number of the first schedule of the search, so that the search is short."""


_CHANGES: Final = "clerk_sync.changes_of(jsonb)"
_CANDIDATES: Final = "clerk_sync.candidates_of(clerk_sync.change[])"
_ADVANCE: Final = "clerk_sync.advance_entities(clerk_sync.change[])"

FAULTS = [
    Fault(
        "the last to arrive wins",
        {
            "c.version > known.version": "c.version is not null",
            "greatest(known.version, c.version)": "c.version",
        },
        _ADVANCE,
    ),
    Fault(
        "the first to arrive wins",
        {"c.version > known.version": "false"},
        _ADVANCE,
    ),
    Fault("the oldest of a batch wins", {"c.version desc": "c.version"}, _CANDIDATES),
    Fault("a tie is decided by arrival", {"jsonb_hash_extended(given.content, 0)": "0"}, _CHANGES),
    Fault(
        "only the envelope's clock counts",
        {
            "coalesce(given.source_updated_at, -1), coalesce(given.observed_at, -1)": (
                "coalesce(given.observed_at, -1), 0"
            )
        },
        _CHANGES,
    ),
    Fault("a late update lifts the tombstone", {"least(known.deleted_at, c.deleted_at)": "c.deleted_at"}, _ADVANCE),
    Fault(
        "the last delete wins",
        {"least(known.deleted_at, ": "greatest(known.deleted_at, ", "< coalesce": "> coalesce"},
        _ADVANCE,
    ),
    Fault(
        "an update that loses is written all the same",
        {
            "case when version = own_version and purged_at is null then": "case when true then",
            " filter (where version = own_version or deleted_at = own_delete)": "",
        },
        _ADVANCE,
    ),
    Fault(
        "a stub overrides what is known",
        {"coalesce(given.source_updated_at, -1)": "coalesce(nullif(given.source_updated_at, 0), 1e13::bigint)"},
        _CHANGES,
    ),
    Fault(
        "what a delete hides stays visible",
        {"if cardinality(moved) > 0 or cardinality(deletes) > 0": "if cardinality(moved) > 0"},
    ),
    Fault(
        "a membership of a deleted organization or user is shown",
        {", parent_clerk_org_id.deleted_at, parent_clerk_user_id.deleted_at": ""},
        "clerk_sync.write_membership(jsonb, clerk_sync.change[])",
        first=200,
    ),
    Fault(
        "a member who leaves is deleted by user, not by membership",
        {
            "array(select d.id collate \"default\" from unnest(deleted) as d where d.kind = 'membership')": (
                "array(select m.clerk_membership_id from clerk.organization_memberships as m"
                " inner join clerk.organization_memberships as o using (clerk_user_id)"
                " where o.clerk_membership_id = any(array(select d.id from unnest(deleted) as d)))"
            ),
            'd.id collate "default" = named.clerk_membership_id': (
                "named.clerk_user_id = (select m.clerk_user_id from clerk.organization_memberships as m"
                " where m.clerk_membership_id = d.id)"
            ),
        },
        "clerk_sync.hide_membership(clerk_sync.change[], text[])",
        first=180,
    ),
]


@pytest.mark.parametrize("fault", FAULTS, ids=[fault.name for fault in FAULTS])
def test_a_fault_in_apply_is_found(
    fault: Fault, database: Database, reference: Database, small_rounds: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exploration, "_MOST_SHRUNK", 0)
    put_in(fault, database)
    # Schedules of its own: the reference must not know their users.
    first = PER_FAULT * (3 + FAULTS.index(fault)) + fault.first
    assert explore(database, reference, schedules=PER_FAULT, seed=PLANTED, first=first).differences


@pytest.mark.parametrize("search", range(3))
def test_a_schedule_that_fails_is_shrunk_to_what_fails_in_new_databases_too(
    search: int, database: Database, reference: Database, databases: Databases, small_rounds: None
) -> None:
    put_in(FAULTS[0], database)
    first = (100 + search) * PER_FAULT
    report = explore(database, reference, schedules=PER_FAULT, seed=PLANTED, first=first)
    # The last to arrive wins: an older event after a newer one is all it takes.
    assert len(report.smallest) == 2

    right, wrong = databases.take(), databases.take()
    put_in(FAULTS[0], wrong)
    assert after(report.smallest, wrong) != after(report.smallest, right)
    databases.give_back(right)
    databases.give_back(wrong)


def test_a_long_search_ends_soon_after_the_first_difference(
    databases: Databases, database: Database, small_rounds: None
) -> None:
    # A copy, because Postgres copies a database only without sessions.
    wrong = databases.copy(database)
    put_in(FAULTS[0], wrong)
    template = Template(wrong.server.url(), wrong.name, wrong.worker_password)
    portions = portions_of(100 * PER_FAULT, 0)["schedules"]
    report = search_portions(Plan(template, PLANTED), portions, jobs=1).schedules
    assert report.failed_from is not None
    assert len(report.smallest) == 2
    assert report.schedules < PER_FAULT
    databases.drop(wrong.name)


def test_locks_in_no_fixed_order_are_found(database: Database, reference: Database) -> None:
    put_in(Fault("", {"order by u.kind, u.id limit": "order by random() limit"}, _ADVANCE), database)
    slow_down(database)
    searches = (
        explore(database, reference, schedules=50, seed=PLANTED, first=first).deadlocks
        for first in range(PER_FAULT, 2 * PER_FAULT, 50)
    )
    assert any(searches)


def test_profiles_that_do_not_follow_are_found(database: Database, reference: Database, small_rounds: None) -> None:
    with database.connect() as admin:
        admin.execute("alter table clerk.users disable trigger users_project_on_update")
    assert explore(database, reference, schedules=PER_FAULT, seed=PLANTED, first=2 * PER_FAULT).differences


def after(batches: Sequence[Batch], database: Database) -> dict[str, Rows]:
    """The tables after the arrival of these batches' messages, one by one."""
    with closing(Store(Fixed(database.worker_url))) as store, database.connect() as admin:
        for message in (message for batch in batches for message in batch.messages):
            store.apply([(changes_of(parse_event(message.envelope.body), message.envelope.received_at), None)])
        return tables(admin)


def put_in(fault: Fault, database: Database) -> None:
    with database.connect() as admin:
        function = value(admin, "select pg_get_functiondef(%s::regprocedure)", fault.function)
        for right, wrong in fault.edits.items():
            assert right in function, "the function is written differently now: write the fault differently too"
            function = function.replace(right, wrong)
        admin.execute(cast("LiteralString", function))


def slow_down(database: Database) -> None:
    """Makes a worker wait between two locks, so that others come in between."""
    with database.connect() as admin:
        admin.execute("""
            create function clerk_sync.wait_a_moment() returns trigger language plpgsql
            as 'begin perform pg_sleep(0.001); return new; end';
            create trigger wait_a_moment before insert or update on clerk_sync.entities
            for each row execute function clerk_sync.wait_a_moment();
        """)
