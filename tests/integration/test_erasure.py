"""Erasure of a person in every table of the catalogue, also after a kill, and beside other people."""

from __future__ import annotations

import itertools
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, field

import pytest
from psycopg import sql

from clerk_supabase.credentials import Fixed
from clerk_supabase.housekeeping import Housekeeping
from clerk_supabase.postgres.store import Store
from clerk_supabase.settings import Keep
from clerk_supabase_cli.operate.person import find_person, forget
from clerk_supabase_cli.standin import samples
from tests.kit.canaries import (
    ADA,
    ADDRESS,
    CANARIES,
    NAME,
    NEARLY,
    bystanders,
    delete_ada,
    dump,
    fill_every_column,
    fill_with_canaries,
    places_with,
    rows_without,
)
from tests.kit.databases import Connection, Database, rows, value
from tests.kit.histories import CREATED_AT, Applied
from tests.kit.meanwhile import started, waiting
from tests.kit.parked import Command, park
from tests.kit.pipeline import Pipeline
from tests.kit.polling import eventually
from tests.kit.purging import allow_at_once
from tests.kit.webhooks import deleted, domain, invitation, membership, user


@pytest.fixture
def command(database: Database) -> Command:
    return Command({"DATABASE_URL": database.url})


# All of it


def test_a_person_is_erased_in_every_column_of_every_table(
    pipeline: Pipeline, admin: Connection, command: Command
) -> None:
    bystanders(pipeline)
    fill_with_canaries(pipeline, admin)
    admin.execute(
        """
        with run as (
            insert into clerk_sync.reconcile_runs (mode, is_dry_run, versions_only, state, as_of)
            values ('full', false, false, 'complete', 1) returning run_id
        ), seen as (
            insert into clerk_sync.reconcile_seen select run_id, 'membership', 'orgmem_ada' from run
        ), part as (insert into clerk_sync.reconcile_windows (run_id, number, kind) select run_id, 1, 'user' from run)
        insert into clerk_sync.reconcile_findings (run_id, kind, entity_id, difference, action, cause)
        select run_id, 'user', 'user_ada', 'stale', 'repair', 'its last change did not arrive' from run
        """
    )
    delete_ada(pipeline)
    filled = fill_every_column(admin)
    assert {("clerk_sync.reconcile_runs", "reason"), ("clerk_sync.parked_events", "body")} <= set(filled)
    before = places_with(admin, *CANARIES)
    assert {
        ("clerk.users", "email"),
        ("clerk.organization_invitations", "email_address"),
        ("clerk.organization_domains", "affiliation_email_address"),
        ("clerk_sync.audit_log", "old_values"),
        ("clerk_sync.audit_log", "new_values"),
        ("clerk_sync.private_metadata", "private_metadata"),
        ("clerk_sync.parked_events", "body"),
    } <= set(before)
    others = rows_without(admin, *CANARIES, "ada", "orgdmn_1", "org_elsewhere", "org_labs", "\\u0040")

    answer = command.json("forget", ADA, "--yes")

    assert places_with(admin, *CANARIES) == []
    after = rows_without(admin)
    assert {table: gone for table, kept in others.items() if (gone := kept - after[table])} == {}
    assert answer["of_others"] == []
    assert answer["emptied"].keys() >= {"clerk.users", "clerk_sync.audit_log", "clerk_sync.parked_events"}


def test_the_addresses_that_only_look_like_it_are_kept(pipeline: Pipeline, admin: Connection, command: Command) -> None:
    bystanders(pipeline)
    fill_with_canaries(pipeline, admin)
    delete_ada(pipeline)
    command.run("forget", ADA, "--yes")
    kept = set(dump(admin)["clerk.organization_invitations", "email_address"])
    assert kept == set(NEARLY)
    assert set(dump(admin)["clerk.organization_domains", "affiliation_email_address"]) == set(NEARLY)
    bodies = rows(admin, "select count(*) from clerk_sync.parked_events where body is not null")
    assert bodies == [(len(NEARLY),)]


def test_every_table_is_looked_through_and_a_new_one_too(
    database: Database, admin: Connection, command: Command
) -> None:
    tables = rows(
        admin,
        """
        select c.oid::regclass::text from pg_class as c
        where c.relkind in ('r', 'p') and c.relnamespace in ('clerk'::regnamespace, 'clerk_sync'::regnamespace)
        """,
    )
    looked_through = rows(
        admin,
        """
        select t::text from clerk_sync.other_tables() as t
        union all select k.relation::regclass::text from clerk_sync.kinds as k
        union all values ('clerk_sync.audit_log'), ('clerk.users_public')
        """,
    )
    assert sorted(tables) == sorted(set(looked_through))

    admin.execute("create table clerk_sync.tomorrow (id int primary key, said json, note varchar, body bytea not null)")
    admin.execute("alter table clerk_sync.tomorrow alter said type jsonb")
    body = json.dumps({"note": ADDRESS}).encode()
    for number, address in enumerate((ADDRESS, NEARLY[0])):
        admin.execute(
            "insert into clerk_sync.tomorrow values (%s, %s, %s, %s)",
            [number, json.dumps({"a": address, "b": 1}), address, body.replace(ADDRESS.encode(), address.encode())],
        )
    command.run("forget", "--email", ADDRESS.upper(), "--yes")
    assert rows(admin, "select said, note, length(body) > 0 from clerk_sync.tomorrow order by id") == [
        ({"b": 1, "a": None}, "forgotten", False),
        ({"a": NEARLY[0], "b": 1}, NEARLY[0], True),
    ]


# Killed, and beside others


def test_a_command_that_is_killed_halfway_has_changed_nothing_and_the_next_one_does_it_all(
    pipeline: Pipeline, database: Database, admin: Connection, command: Command
) -> None:
    fill_with_canaries(pipeline, admin)
    delete_ada(pipeline)
    before = dump(admin)
    kill = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'clerk-supabase'"
    # It has to wait for each of these, the first before it has written anything and the last after almost everything.
    for table in ("entities", "parked_events", "erasures"):
        with database.connect() as other, other.transaction():
            other.execute(sql.SQL("lock table clerk_sync.{} in share row exclusive mode").format(sql.Identifier(table)))
            killed = started(lambda: command.run("forget", ADA, "--yes", status=1))
            eventually(lambda: waiting(admin), bool)
            admin.execute(kill)
            killed.join(60)
        assert dump(admin) == before
    command.run("forget", ADA, "--yes")
    assert places_with(admin, *CANARIES) == []


def test_events_that_arrive_during_an_erasure_are_erased_too(
    store: Store, database: Database, admin: Connection
) -> None:
    store.apply([user(ADA, at=1), deleted("user", ADA, at=2)])
    with database.connect() as connection:
        person = find_person(connection, ADA, [ADDRESS])
        with database.connect() as other, other.transaction():
            # The command has found what there is, and waits for this to write.
            other.execute("lock table clerk_sync.erasures in share mode")
            forgetting = started(lambda: forget(connection, person, purge_by="scrub", erased_by="ops"))
            eventually(lambda: waiting(admin), bool)
            store.apply([invitation("orginv_late", at=3, email_address=ADDRESS)])
        forgetting.join(60)
    assert places_with(admin, ADDRESS.lower()) == []
    assert value(admin, "select count(*) from clerk_sync.erasures") == 2


@dataclass
class Crowd:
    """People about whom events go on arriving while one person after the other is erased."""

    database: Database
    addresses: dict[str, str]
    is_over: threading.Event = field(default_factory=threading.Event)

    def events(self, user_id: str, at: int) -> list[Applied]:
        """One event of each sort that names a person, and one about somebody else; sometimes a parent is deleted."""
        address, org = self.addresses[user_id], f"org_{at % 3}"
        emails = [samples.email_address("idn_1", address, CREATED_AT)]
        return [
            user(user_id, at=at, email_addresses=emails, last_name=NAME),
            membership(f"orgmem_{user_id}{at % 4}", at=at, org_id=org, user_id=user_id),
            invitation(f"orginv_{user_id}{at % 4}", at=at, org_id=org, email_address=address),
            domain(f"orgdmn_{user_id}", at=at, org_id=org, affiliation_email_address=address),
            user(f"user_other{at % 5}", at=at),
            *([deleted("organization", org, at=at)] if at % 11 == 0 else []),
        ]

    def all_events(self, at: int, *, first: int = 0) -> list[Applied]:
        everybody = list(self.addresses)
        turn = [*everybody[first:], *everybody[:first]]
        return [event for user_id in turn for event in self.events(user_id, at)]

    def arrive(self, first: int) -> None:
        """Applies and parks events, as a worker does; no two workers begin with the same person."""
        with closing(Store(Fixed(self.database.worker_url))) as store:
            for at in itertools.count(3):
                if self.is_over.is_set():
                    return
                assert all(isinstance(outcome, str) for outcome in store.apply(self.all_events(at, first=first)))
                body = json.dumps({"data": {"at": [*self.addresses.values()][first]}}).encode()
                park(store, f"msg_{first}_{at}", body)
                # The delete of a user locks the parked events before it locks rows.
                store.apply([deleted("user", f"user_gone{first}_{at}", at=at)])

    def keep_house(self) -> None:
        keep = json.dumps(asdict(Keep(hold_back_days=0, deliveries_days=1, audit_days=1)))
        with self.database.connect() as connection:
            while not self.is_over.is_set():
                connection.execute("select clerk_sync.keep_house(%s::jsonb)", [keep])

    def forget_once(self, user_id: str) -> None:
        """Without another attempt after a deadlock."""
        request = {"users": [user_id], "words": [self.addresses[user_id]], "purge_by": "scrub", "erased_by": "ops"}
        with self.database.connect() as connection:
            connection.execute("select clerk_sync.forget(%s::jsonb)", [json.dumps(request)])


def test_people_are_erased_beside_webhooks_parking_and_housekeeping_without_a_deadlock(
    database: Database, store: Store, admin: Connection, command: Command
) -> None:
    allow_at_once(admin)
    crowd = Crowd(database, {f"user_p{number}": f"p{number}@canary.test" for number in range(6)})
    store.apply(crowd.all_events(1))
    store.apply([deleted("user", user_id, at=2) for user_id in crowd.addresses])
    with ThreadPoolExecutor(3) as pool:
        others = [pool.submit(crowd.arrive, 0), pool.submit(crowd.arrive, 3), pool.submit(crowd.keep_house)]
        try:
            for user_id in [*crowd.addresses] * 3:
                crowd.forget_once(user_id)
        finally:
            crowd.is_over.set()
        for other in others:
            other.result(60)
    for user_id, address in crowd.addresses.items():
        command.run("forget", user_id, "--email", address, "--yes")
    assert places_with(admin, "canary.test", NAME.lower()) == []


# Housekeeping


def test_housekeeping_erases_the_addresses_of_a_purged_user_where_no_id_leads(
    pipeline: Pipeline, admin: Connection
) -> None:
    bystanders(pipeline)
    fill_with_canaries(pipeline, admin)
    delete_ada(pipeline)
    others = rows_without(admin, *CANARIES, "ada", "orgdmn_1", "\\u0040")
    allow_at_once(admin)
    Housekeeping(pipeline.store, Keep(hold_back_days=0)).run()
    # An invitation belongs to its organization, until the invited person asks for erasure.
    assert {table for table, _ in places_with(admin, *CANARIES)} <= {
        "clerk.organization_invitations",
        "clerk_sync.audit_log",
    }
    logged = """
        select distinct kind from clerk_sync.audit_log
        where concat(old_values, new_values) ilike %s and entity_id not like '%%other%%'
    """
    assert rows(admin, logged, f"%{ADDRESS}%") == [("invitation",)]
    after = rows_without(admin)
    assert {table: gone for table, kept in others.items() if (gone := kept - after[table])} == {}
