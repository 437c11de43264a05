"""Sentences of docs/security.md about powers and limits that no other test proves."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg import sql
from psycopg.errors import AmbiguousFunction, InsufficientPrivilege

from clerk_supabase.postgres.store import Store
from clerk_supabase.settings import Keep
from clerk_supabase_cli.standin import samples
from tests.kit.aws import Account
from tests.kit.databases import Connection, Database, acting_as, outcomes, rows, value
from tests.kit.histories import CREATED_AT, RECEIVED_AT
from tests.kit.parked import created, park
from tests.kit.pipeline import Pipeline
from tests.kit.polling import eventually
from tests.kit.purging import let_time_pass
from tests.kit.reconciling import rig_with
from tests.kit.webhooks import deleted, membership, organization, user

ADA = {"sub": "user_ada", "role": "authenticated"}
EARLIEST_PURGE = Keep(hold_back_days=0, purge_by="delete", deliveries_days=0, audit_days=0, runs_days=0)
IN_2999 = 32_472_144_000_000


@pytest.fixture
def worker(database: Database) -> Iterator[Connection]:
    with psycopg.connect(database.worker_url, autocommit=True) as connection:
        yield connection


def apply(worker: Connection, *batch: dict[str, Any]) -> None:
    worker.execute("select * from clerk_sync.apply(%s::jsonb)", [json.dumps(batch)])


# The secret of the webhooks


def test_a_signed_delete_of_years_ago_erases_nothing_before_the_hold_back_is_over(
    account: Account, store: Store, worker: Connection, admin: Connection
) -> None:
    pipeline = Pipeline(account, store, RECEIVED_AT)
    store.apply([user("user_ada", at=1, first_name="Ada")])
    forged = samples.event("user.deleted", {"id": "user_ada", "deleted": True}, timestamp=1_500_000_000_000)
    assert pipeline.post(json.dumps(forged), "msg_forged").status == 202
    assert pipeline.drain() == []
    assert outcomes(admin) == {"msg_forged": "deleted"}

    def kept_after(days: int) -> Any:
        let_time_pass(admin, days)
        worker.execute("select clerk_sync.keep_house(%s::jsonb)", [json.dumps(asdict(EARLIEST_PURGE))])
        return value(admin, "select first_name from clerk.users")

    assert kept_after(29) == "Ada"
    assert kept_after(2) is None


def test_a_signed_event_restores_no_deleted_user_whatever_its_date(
    account: Account, store: Store, admin: Connection
) -> None:
    pipeline = Pipeline(account, store, RECEIVED_AT)
    store.apply([user("user_ada", at=1), deleted("user", "user_ada", at=2)])
    for number, event_type in enumerate(("user.created", "user.updated")):
        data = samples.user("user_ada", created_at=RECEIVED_AT, updated_at=RECEIVED_AT + number)
        forged = json.dumps(samples.event(event_type, data, timestamp=RECEIVED_AT))
        assert pipeline.post(forged, f"msg_{number}").status == 202
        assert pipeline.drain() == []
    with acting_as(admin, "authenticated", ADA):
        assert rows(admin, "select 1 from clerk.users") == []
    assert value(admin, "select deleted_at is not null from clerk.users")


# The worker's password


def test_the_worker_can_forge_any_version_and_cause_and_leave_no_delivery(
    worker: Connection, store: Store, admin: Connection
) -> None:
    store.apply([user("user_ada", at=1, first_name="Ada")])
    version = {"source_updated_at": IN_2999, "observed_at": IN_2999}
    content = value(admin, "select to_jsonb(u) - 'clerk_id' from clerk.users as u") | {"first_name": "Mallory"}
    apply(worker, {"kind": "user", "id": "user_ada", "content": content, "cause": "operator"} | version)
    assert value(admin, "select first_name from clerk.users") == "Mallory"
    assert value(admin, "select cause from clerk_sync.audit_log order by audit_id desc limit 1") == "operator"
    assert outcomes(admin) == {}


def test_the_worker_can_change_the_reason_of_a_parked_event_whose_id_it_knows_and_not_its_body(
    worker: Connection, store: Store, admin: Connection
) -> None:
    park(store, "msg_1", created("user_ada"), reason="the true reason")
    forged: dict[str, Any] = {
        "svix_id": "msg_1",
        "event_type": "user.updated",
        "reason_class": "unusable",
        "reason": "a forged one",
    }
    forged |= {"attempts": 0, "received_at": RECEIVED_AT, "body": None}
    worker.execute("select clerk_sync.park(%s::jsonb)", [json.dumps([forged])])
    [(reason, first, body)] = rows(admin, "select reason, first_reason, body from clerk_sync.parked_events")
    assert (reason, first) == ("a forged one", "the true reason")
    assert json.loads(body) == created("user_ada")


def test_the_worker_can_ask_whether_a_guess_of_a_whole_row_is_right(
    worker: Connection, store: Store, admin: Connection
) -> None:
    store.apply([user("user_ada", at=1, first_name="Ada")])
    content = value(admin, "select to_jsonb(u) from clerk.users as u")
    begin = {"instance_id": "ins_1", "mode": "full", "dry_run": True, "versions_only": False, "allow_deletes": None}
    query: LiteralString = "select clerk_sync.begin_run(%s::jsonb)"
    run = value(worker, query, json.dumps(begin | {"as_of": CREATED_AT, "lease_seconds": 60}))["run"]
    asked = {"run": run["run_id"], "lease": run["lease"], "number": 0, "kind": "user", "tally": {}}

    def differs(first_name: str) -> bool:
        guess = {"kind": "user", "id": "user_ada", "source_updated_at": CREATED_AT + 1, "observed_at": IN_2999}
        page = [guess | {"content": content | {"first_name": first_name}}]
        query: LiteralString = "select clerk_sync.compare(%s::jsonb)"
        return bool(value(worker, query, json.dumps(asked | {"page": page})))

    assert (differs("Ada"), differs("Eve")) == (False, True)


@pytest.mark.parametrize(
    "change",
    [
        {"source_updated_at": IN_2999, "observed_at": IN_2999},
        {"source_updated_at": IN_2999, "observed_at": IN_2999, "deleted_at": None},
        {"deleted_at": IN_2999},
        {"source_updated_at": 0, "observed_at": 0},
    ],
    ids=["newest", "said not to be deleted", "deleted later", "as a stub"],
)
def test_the_worker_cannot_restore_a_deleted_user(
    change: dict[str, Any], worker: Connection, store: Store, admin: Connection
) -> None:
    store.apply([user("user_ada", at=1), deleted("user", "user_ada", at=2)])
    query: LiteralString = """
        select e.deleted_at, e.delete_recorded_at, u.deleted_at
        from clerk_sync.entities as e inner join clerk.users as u on u.clerk_id = e.id
    """
    [before] = rows(admin, query)
    content = value(admin, "select to_jsonb(u) from clerk.users as u") | {"deleted_at": None}
    element = {"kind": "user", "id": "user_ada", "cause": "delivery"} | change
    if "source_updated_at" in change:
        element["content"] = content
    apply(worker, element)
    assert rows(admin, query) == [before]
    with acting_as(admin, "authenticated", ADA):
        assert rows(admin, "select 1 from clerk.users") == []


# Roles of Supabase

EVERYTHING = (
    *("clerk.users", "pg_catalog.pg_authid", "clerk_sync.audit_log"),
    *("clerk_sync.private_metadata", "clerk_sync.parked_events"),
)


def test_roles_that_read_everything_read_clerk_sync_and_hashes_of_passwords_and_write_nothing(
    store: Store, admin: Connection
) -> None:
    store.apply([user("user_ada", at=1)])
    admin.execute("insert into clerk_sync.private_metadata values ('user_ada', '{\"note\": 1}')")
    park(store)
    # As Supabase makes it.
    admin.execute("create role supabase_read_only_user bypassrls; grant pg_read_all_data to supabase_read_only_user")
    try:
        for table in EVERYTHING:
            name = sql.Identifier(*table.split("."))
            with acting_as(admin, "supabase_read_only_user"):
                assert admin.execute(sql.SQL("select 1 from {}").format(name)).fetchall() != []
            with pytest.raises(InsufficientPrivilege), acting_as(admin, "supabase_read_only_user"):
                admin.execute(sql.SQL("delete from {}").format(name))
    finally:
        admin.execute("drop role supabase_read_only_user")


def test_a_user_deleted_by_clerk_and_shown_by_the_service_role_still_has_no_access(
    store: Store, admin: Connection
) -> None:
    store.apply([user("user_ada", at=1), deleted("user", "user_ada", at=2)])
    with acting_as(admin, "service_role"):
        admin.execute("update clerk.users set deleted_at = null")
    with acting_as(admin, "authenticated", ADA):
        assert rows(admin, "select 1 from clerk.users") == []


def test_an_edit_by_hand_can_lift_a_ban_until_the_next_comparison(database: Database) -> None:
    with rig_with(database, 3) as rig:
        ada = next(iter(rig.world.users))
        rig.world.users[ada] = rig.world.users[ada] | {"banned": True}
        rig.run()
        assert rig.column(ada, "banned")
        with acting_as(rig.admin, "service_role"):
            rig.admin.execute("update clerk.users set banned = false")
        assert not rig.column(ada, "banned")
        rig.run()
        assert rig.column(ada, "banned")


# The right to create in the schemas clerk and public


def test_an_object_created_in_clerk_changes_queries_that_name_it(admin: Connection) -> None:
    admin.execute("create function clerk.requesting_user_id(x int default 0) returns text language sql return 'eve'")
    with pytest.raises(AmbiguousFunction), acting_as(admin, "authenticated", ADA):
        admin.execute("select clerk.requesting_user_id()")


def test_a_function_created_in_public_is_called_by_sql_that_others_type(admin: Connection) -> None:
    admin.execute("create function public.upper(planted varchar) returns text language sql return current_user")
    assert value(admin, "select upper('a'::varchar)") == value(admin, "select current_user")


# Clerk's secret key


def test_clerks_secret_key_is_only_used_for_reading(database: Database) -> None:
    with rig_with(database, 5) as rig:
        ada = next(iter(rig.world.users))
        rig.run()
        rig.admin.execute("update clerk.users set first_name = 'edited'")
        rig.store.apply([deleted("user", ada, at=1)])
        for mode in ("full", "quick"):
            rig.run(mode)
        assert {each.method for each in rig.api.requests} == {"GET"}


# Users without access


@pytest.mark.parametrize("how", ["banned", "deprovisioned", "deleted"])
def test_from_the_event_on_a_banned_deprovisioned_or_deleted_user_neither_reads_nor_writes(
    how: str, store: Store, admin: Connection
) -> None:
    admin.execute("""
        create table tasks (id bigint generated always as identity primary key, name text not null);
        select clerk_sync.secure('public.tasks', 'user');
    """)
    store.apply([organization("org_1", at=1), user("user_ada", at=1), membership(at=1, user_id="user_ada")])

    def seen() -> list[Any]:
        asked: list[LiteralString] = [
            "select count(*) from clerk.users",
            "select count(*) from clerk.users_public",
            "select count(*) from clerk.organizations",
            "select count(*) from clerk.organization_memberships",
            "select count(*) from public.tasks",
        ]
        with acting_as(admin, "authenticated", ADA):
            return [value(admin, query) for query in asked]

    with acting_as(admin, "authenticated", ADA):
        admin.execute("insert into tasks (name) values ('of ada')")
    assert seen() == [1, 1, 1, 1, 1]
    end = (
        deleted("user", "user_ada", at=9)
        if how == "deleted"
        else user("user_ada", at=9, banned=how == "banned", deprovisioned=how == "deprovisioned")
    )
    store.apply([end])
    assert seen() == [0, 0, 0, 0, 0]
    with pytest.raises(InsufficientPrivilege), acting_as(admin, "authenticated", ADA):
        admin.execute("insert into tasks (name) values ('one more')")
    with acting_as(admin, "authenticated", ADA):
        assert rows(admin, "update tasks set name = 'changed' returning 1") == []


def test_a_banned_user_stays_visible_to_others_until_deleted(store: Store, admin: Connection) -> None:
    store.apply([user("user_ada", at=1), user("user_eve", at=1, banned=True)])
    with acting_as(admin, "authenticated", ADA):
        assert rows(admin, "select clerk_id from clerk.users_public order by 1") == [("user_ada",), ("user_eve",)]


def test_a_policy_that_asks_the_token_alone_does_not_notice_a_ban(store: Store, admin: Connection) -> None:
    store.apply([user("user_ada", at=1, banned=True)])
    admin.execute("""
        create table notes as select 'user_ada' as user_id;
        alter table notes enable row level security;
        grant select on notes to authenticated;
        create policy notes_read_own on notes for select to authenticated using (user_id = clerk.requesting_user_id());
    """)
    with acting_as(admin, "authenticated", ADA):
        assert rows(admin, "select 1 from notes") == [(1,)]


# The other users of a developer's machine


def test_the_arguments_of_dev_are_read_by_every_user_and_its_environment_is_not(root: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://postgres:in-arguments@127.0.0.1:{silent.getsockname()[1]}/postgres"
        dev = subprocess.Popen(
            [
                root / ".venv" / "bin" / "clerk-supabase",
                "dev",
                "--port=0",
                "--clerk-port=0",
                "--frontend-port=0",
                "--database-url",
                url,
            ],
            env={"PATH": os.defpath, "PGPASSWORD": "in-environment"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            arguments, environment = (Path(f"/proc/{dev.pid}/{name}") for name in ("cmdline", "environ"))
            # Both are empty for a moment after the program was started.
            eventually(arguments.read_bytes, lambda found: b"in-arguments" in found)
            assert arguments.stat().st_mode & stat.S_IROTH
            eventually(environment.read_bytes, lambda found: b"in-environment" in found)
            assert not environment.stat().st_mode & stat.S_IROTH
        finally:
            dev.kill()
            dev.wait()
