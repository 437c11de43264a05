"""The owner decides how long the database keeps records: sync's password can lengthen the times, never shorten them."""

from __future__ import annotations

import io
import json
from dataclasses import asdict, replace
from datetime import timedelta
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg.errors import InsufficientPrivilege

from clerk_supabase.housekeeping import Housekeeping
from clerk_supabase.postgres.store import Store
from clerk_supabase.settings import Keep
from clerk_supabase_cli.operate.retention import allowed, command_for, shortfalls
from tests.kit.databases import Connection, Database, rows, value
from tests.kit.parked import Command
from tests.kit.purging import let_time_pass
from tests.kit.webhooks import deleted, user

NOTHING_KEPT = Keep(hold_back_days=0, purge_by="delete", deliveries_days=0, audit_days=0, runs_days=0)


def keep_house(database: Database, keep: Keep = NOTHING_KEPT) -> Any:
    """Keep house as the worker, asking for this."""
    with psycopg.connect(database.worker_url, autocommit=True) as worker:
        return value(worker, "select clerk_sync.keep_house(%s::jsonb)", json.dumps(asdict(keep)))


@pytest.fixture
def evidence(store: Store, admin: Connection) -> None:
    """A forged delete of a user to whom a row of the app belongs, and the records that prove it."""
    admin.execute("create table public.notes (author text references clerk.users (clerk_id) on delete cascade)")
    store.apply([user(at=1, svix_id="msg_1")])
    admin.execute("insert into public.notes values ('user_1')")
    store.apply([deleted("user", "user_1", at=2, svix_id="msg_2")])
    admin.execute(
        """
        insert into clerk_sync.reconcile_runs (mode, is_dry_run, versions_only, state, as_of, finished_at)
        select 'full', false, false, 'complete', 1, now() - interval '89 days' from generate_series(1, 2)
        """
    )


def left(admin: Connection) -> list[int]:
    """Counts the remaining rows of each kind that housekeeping removes."""
    counted: list[LiteralString] = [
        "select count(*) from clerk.users where first_name is not null",
        "select count(*) from public.notes",
        "select count(*) from clerk_sync.deliveries",
        "select count(*) from clerk_sync.audit_log where coalesce(old_values, new_values) is not null",
        "select count(*) from clerk_sync.reconcile_runs",
    ]
    return [value(admin, query) for query in counted]


@pytest.mark.usefixtures("evidence")
def test_the_worker_can_erase_nothing_before_its_time(database: Database, admin: Connection) -> None:
    before = left(admin)
    answer = keep_house(database)
    assert left(admin) == before
    assert answer["purged"] == []
    assert set(answer["pruned"].values()) == {0}
    assert answer["not_followed"] == {
        "hold_back_days": {"asked": 0, "allowed": 30},
        "purge_by": {"asked": "delete", "allowed": "scrub"},
        "deliveries_days": {"asked": 0, "allowed": 100},
        "audit_days": {"asked": 0, "allowed": 365},
    }


@pytest.mark.usefixtures("evidence")
def test_the_worker_cannot_have_rows_of_users_deleted_unless_the_owner_allows_it(
    database: Database, admin: Connection
) -> None:
    let_time_pass(admin)
    assert [(each["kind"], each["outcome"]) for each in keep_house(database)["purged"]] == [("user", "scrubbed")]
    assert value(admin, "select count(*) from public.notes") == 1


@pytest.mark.usefixtures("evidence")
def test_the_database_follows_the_times_that_the_owner_allows(database: Database, admin: Connection) -> None:
    assert Command({"DATABASE_URL": database.url}).json(
        *("retention", "--hold-back-days", "0", "--purge-by", "delete", "--deliveries-days", "0"),
        *("--audit-days", "0", "--runs-days", "0"),
    ) == asdict(NOTHING_KEPT)
    answer = keep_house(database)
    assert answer["not_followed"] == {}
    assert left(admin) == [0, 0, 0, 0, 1]


@pytest.mark.usefixtures("evidence")
def test_the_stack_may_ask_for_more_than_the_owner_does(database: Database, admin: Connection) -> None:
    Command({"DATABASE_URL": database.url}).run("retention", "--hold-back-days", "0", "--purge-by", "delete")
    assert keep_house(database, Keep(hold_back_days=30, purge_by="scrub"))["purged"] == []
    let_time_pass(admin)
    [purged] = keep_house(database, Keep(hold_back_days=30, purge_by="scrub"))["purged"]
    assert purged["outcome"] == "scrubbed"


def test_a_schema_that_was_restored_without_rows_keeps_what_is_usual(database: Database, admin: Connection) -> None:
    admin.execute("delete from clerk_sync.retention")
    assert keep_house(database)["not_followed"]["hold_back_days"] == {"asked": 0, "allowed": 30}
    assert rows(admin, "select hold_back_days, purge_by from clerk_sync.retention") == [(30, "scrub")]


def test_the_database_allows_what_a_stack_asks_for_that_nobody_changed(admin: Connection) -> None:
    assert allowed(admin) == asdict(Keep())


@pytest.mark.parametrize(
    "statement",
    [
        "update clerk_sync.retention set hold_back_days = 0",
        "delete from clerk_sync.retention",
        "select clerk_sync.allowed_retention()",
        "select clerk_sync.purge('0', 'delete')",
        "select clerk_sync.prune('0', '0')",
        "update clerk_sync.hidden_by_hand set seen_at = '2000-01-01'",
        "update clerk_sync.entities set delete_recorded_at = '2000-01-01'",
        'select clerk_sync.reset_runs(\'{"instance": true, "dry_run": false}\')',
    ],
)
@pytest.mark.parametrize("role", ["worker", "session"])
def test_the_worker_and_the_session_role_cannot_change_the_shortest_times(
    role: str, statement: LiteralString, database: Database
) -> None:
    url = database.worker_url if role == "worker" else database.session_url
    with psycopg.connect(url, autocommit=True) as connection, pytest.raises(InsufficientPrivilege):
        connection.execute(statement)


def test_housekeeping_says_once_what_the_database_did_not_follow(
    store: Store, admin: Connection, log: io.StringIO
) -> None:
    store.apply([each for n in range(1_001) for each in (user(f"user_{n}", at=1), deleted("user", f"user_{n}", at=2))])
    let_time_pass(admin)
    Housekeeping(store, Keep(hold_back_days=7, purge_by="delete")).run()
    told = [json.loads(line) for line in log.getvalue().splitlines() if "keeps more" in line]
    assert [(line["level"], line["hold_back_days"], line["purge_by"], line["todo"]) for line in told] == [
        ("WARNING", "7 asked for, 30 allowed", "delete asked for, scrub allowed", "clerk-supabase retention")
    ]


def test_deliveries_and_the_log_are_pruned_after_days_of_24_hours(
    database: Database, store: Store, admin: Connection
) -> None:
    store.apply([user(at=1, svix_id="msg_1")])
    admin.execute("update clerk_sync.deliveries set applied_at = applied_at - %s", [timedelta(days=101)])
    assert keep_house(database)["pruned"]["deliveries"] == 1


# The command


def test_the_command_shows_what_is_allowed_and_changes_what_it_is_told(database: Database) -> None:
    command = Command({"DATABASE_URL": database.url})
    assert command.json("retention") == asdict(Keep())
    printed = command.run("retention", "--hold-back-days", "7").stdout
    assert [line.split() for line in printed.splitlines()] == [
        ["hold-back-days", "7", "HoldBackDays"],
        ["purge-by", "scrub", "PurgeBy"],
        ["deliveries-days", "100", "DeliveriesDays"],
        ["audit-days", "365", "AuditDays"],
        ["runs-days", "90"],
        ["sessions-days", "0", "SessionsDays"],
    ]
    assert command.json("retention") == asdict(replace(Keep(), hold_back_days=7))


def test_days_that_cannot_be_are_refused(database: Database) -> None:
    Command({"DATABASE_URL": database.url}).run("retention", "--audit-days", "-1", status=2)
    Command({"DATABASE_URL": database.url}).run("retention", "--purge-by", "burn", status=2)


def test_the_command_advised_by_the_doctor_allows_the_times_that_the_stack_asks_for(database: Database) -> None:
    keep = Keep(hold_back_days=7, purge_by="delete", deliveries_days=120, audit_days=30)
    command = Command({"DATABASE_URL": database.url})
    found = shortfalls(keep, command.json("retention"))
    assert found == {"hold_back_days": (7, 30), "purge_by": ("delete", "scrub"), "audit_days": (30, 365)}
    for name, (asked, _) in found.items():
        command.run(*command_for({name: asked}).split()[1:])
    assert shortfalls(keep, command.json("retention")) == {}
