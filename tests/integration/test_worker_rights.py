"""The worker's role can apply changes, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import LiteralString

import psycopg
import pytest
from psycopg import sql
from psycopg.errors import InsufficientPrivilege

from clerk_supabase.model.found_kinds import FACTS
from tests.kit.databases import Connection, Database, acting_as, rows, value
from tests.kit.kinds import OURS

TABLES = [
    *(("clerk", FACTS[kind].table) for kind in OURS),
    ("clerk", "users_public"),
    ("clerk_sync", "entities"),
    ("clerk_sync", "unfinished_deletes"),
    ("clerk_sync", "deliveries"),
    ("clerk_sync", "audit_log"),
    ("clerk_sync", "private_metadata"),
    ("clerk_sync", "kinds"),
    ("clerk_sync", "migrations"),
    ("clerk_sync", "parked_events"),
    ("clerk_sync", "dropped_fields"),
    ("clerk_sync", "instance"),
    ("clerk_sync", "reconcile_runs"),
    ("clerk_sync", "reconcile_windows"),
    ("clerk_sync", "reconcile_findings"),
    ("clerk_sync", "reconcile_seen"),
    ("clerk_sync", "absences"),
    ("clerk_sync", "altered_rows"),
    ("clerk_sync", "sweeps"),
    ("clerk_sync", "retention"),
    ("clerk_sync", "hidden_by_hand"),
    ("clerk_sync", "not_purged"),
    ("clerk_sync", "erasures"),
    ("clerk_sync", "exposed"),
    ("clerk_sync", "links"),
    ("clerk_sync", "profile_visibility"),
    ("clerk_sync", "feeds"),
    ("clerk_sync", "unfed_rows"),
    ("clerk_sync", "wrong_instances"),
    ("clerk_sync", "instance_switches"),
    ("clerk_sync", "archived_rows"),
    ("clerk_sync", "successors"),
]


@pytest.fixture
def worker(shared_database: Database) -> Iterator[Connection]:
    with psycopg.connect(shared_database.worker_url, autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="module")
def superuser(shared_database: Database) -> Iterator[Connection]:
    with shared_database.connect() as connection:
        yield connection


def test_the_worker_can_apply_a_change(worker: Connection) -> None:
    assert rows(worker, "select * from clerk_sync.apply('[]')") == []


def test_every_table_there_is_is_tried_below(superuser: Connection) -> None:
    found = rows(
        superuser,
        """
        select schemaname::text, tablename::text from pg_tables
        where schemaname not in ('pg_catalog', 'information_schema')
        """,
    )
    assert sorted(found) == sorted(TABLES)


@pytest.mark.parametrize("table", TABLES, ids=".".join)
def test_the_worker_can_do_nothing_with_a_table(worker: Connection, table: tuple[str, str]) -> None:
    statements: list[LiteralString] = [
        "select 1 from {}",
        "select count(*) from {}",
        "insert into {} default values",
        "delete from {}",
        "truncate {}",
        "lock table {} in access share mode",
        "alter table {} add column more text",
        "drop table {}",
        "create trigger mine after insert on {} execute function pg_catalog.tsvector_update_trigger()",
        "copy {} to stdout",
    ]
    for statement in statements:
        with pytest.raises(InsufficientPrivilege), worker.transaction():
            worker.execute(sql.SQL(statement).format(sql.Identifier(*table)))


def test_the_worker_can_update_no_column(worker: Connection) -> None:
    with pytest.raises(InsufficientPrivilege):
        worker.execute("update clerk.users set email = 'mine'")


def test_the_worker_can_call_no_other_function_of_the_schema(worker: Connection, superuser: Connection) -> None:
    callable_by_worker = rows(
        superuser,
        """
        select p.oid::regprocedure::text from pg_proc as p inner join pg_namespace as n on n.oid = p.pronamespace
        where n.nspname = 'clerk_sync' and has_function_privilege('clerk_sync_worker', p.oid, 'execute')
        """,
    )
    assert sorted(callable_by_worker) == [
        ("clerk_sync.altered_columns(jsonb)",),
        ("clerk_sync.apply(jsonb)",),
        ("clerk_sync.apply_from(jsonb,jsonb,boolean)",),
        ("clerk_sync.begin_run(jsonb)",),
        ("clerk_sync.check_rows(jsonb)",),
        ("clerk_sync.compare(jsonb)",),
        ("clerk_sync.compare_feed(jsonb)",),
        ("clerk_sync.continue_deletes(jsonb)",),
        ("clerk_sync.count_rows(jsonb)",),
        ("clerk_sync.cut_users(jsonb)",),
        ("clerk_sync.delete_candidates(jsonb)",),
        ("clerk_sync.emptied_columns(jsonb)",),
        ("clerk_sync.end_run(jsonb)",),
        ("clerk_sync.expire_invitations(jsonb)",),
        ("clerk_sync.fill(jsonb)",),
        ("clerk_sync.find_unseen(jsonb)",),
        ("clerk_sync.finish_window(jsonb)",),
        ("clerk_sync.for_major(anyelement,integer)",),
        ("clerk_sync.held_repairs(jsonb)",),
        ("clerk_sync.items_without_subscription(jsonb)",),
        ("clerk_sync.keep_house(jsonb)",),
        ("clerk_sync.list_unfinished(jsonb)",),
        ("clerk_sync.next_slice(jsonb)",),
        ("clerk_sync.park(jsonb)",),
        ("clerk_sync.plan_run(jsonb)",),
        ("clerk_sync.prepare_deletes(jsonb)",),
        ("clerk_sync.rank_rows(jsonb)",),
        ("clerk_sync.record_canary(jsonb)",),
        ("clerk_sync.record_dropped(jsonb)",),
        ("clerk_sync.renew_lease(jsonb)",),
        ("clerk_sync.retry_held_up(jsonb)",),
        ("clerk_sync.retry_unfed(jsonb)",),
        ("clerk_sync.settle_findings(jsonb)",),
        ("clerk_sync.settle_sweeps(jsonb)",),
        ("clerk_sync.takes_writes()",),
        ("clerk_sync.version()",),
        ("clerk_sync.visit_slice(jsonb)",),
        ("clerk_sync.weigh_deletes(jsonb)",),
        ("clerk_sync.windows_of_run(jsonb)",),
        ("clerk_sync.without_deferral(jsonb)",),
    ]
    with pytest.raises(InsufficientPrivilege):
        worker.execute("select clerk_sync.register('user', 1, 'clerk.users', 'clerk_id', array['email']::name[])")
    for generated in ("write_user", "write_membership", "write_private_metadata"):
        with pytest.raises(InsufficientPrivilege):
            worker.execute(sql.SQL("select clerk_sync.{}('[]', '{{}}')").format(sql.Identifier(generated)))
    for generated in ("differing_user", "differing_membership", "undo_run"):
        with pytest.raises(InsufficientPrivilege):
            worker.execute(sql.SQL("select clerk_sync.{}('[]')").format(sql.Identifier(generated)))
    for generated in ("hide_user", "hide_membership"):
        with pytest.raises(InsufficientPrivilege):
            worker.execute(sql.SQL("select clerk_sync.{}('{{}}', '{{}}')").format(sql.Identifier(generated)))
    with pytest.raises(InsufficientPrivilege):
        worker.execute("select clerk_sync.hide_rows('{}')")
    with pytest.raises(InsufficientPrivilege):
        worker.execute("select clerk_sync.write_rows('user', '[]', '{}')")


@pytest.mark.parametrize("role", ["anon", "authenticated", "service_role"])
def test_no_role_of_the_api_can_call_a_function_of_the_schema(role: str, superuser: Connection) -> None:
    executable = rows(
        superuser,
        """
        select p.oid::regprocedure::text from pg_proc as p inner join pg_namespace as n on n.oid = p.pronamespace
        where n.nspname = 'clerk_sync' and has_function_privilege(%s, p.oid, 'execute')
        """,
        role,
    )
    # Policies call these on behalf of the role. Without USAGE on the schema, no statement of the role can name them.
    of_mirror = "clerk_sync.requesting_user_subscribes_to"
    assert sorted(executable) == [
        ("clerk_sync.requesting_claims()",),
        ("clerk_sync.requesting_entitlements(text,jsonb,text,text)",),
        ("clerk_sync.requesting_organization_id(jsonb,text)",),
        ("clerk_sync.requesting_organization_role(jsonb,text)",),
        ("clerk_sync.requesting_permissions(jsonb,text)",),
        ("clerk_sync.requesting_user_has_feature(text)",),
        ("clerk_sync.requesting_user_has_permission(text,text[])",),
        ("clerk_sync.requesting_user_has_plan(text)",),
        ("clerk_sync.requesting_user_holds(text,text[])",),
        ("clerk_sync.requesting_user_id(jsonb)",),
        *([(f"{of_mirror}_feature(text)",), (f"{of_mirror}_plan(text)",)] if role == "authenticated" else []),
    ]
    with pytest.raises(InsufficientPrivilege), acting_as(superuser, role, {"sub": "user_1"}):
        superuser.execute("select clerk_sync.requesting_user_id()")
    with pytest.raises(InsufficientPrivilege), acting_as(superuser, role, {"sub": "user_1"}):
        superuser.execute("select clerk_sync.secure('clerk.users', 'user')")
    assert not value(superuser, "select has_schema_privilege(%s, 'clerk_sync', 'usage')", role)


@pytest.mark.parametrize("role", ["anon", "authenticated", "service_role", "postgres"])
def test_the_worker_can_become_nobody_else(role: str, worker: Connection) -> None:
    with pytest.raises(InsufficientPrivilege):
        worker.execute(sql.SQL("set role {}").format(sql.Identifier(role)))


@pytest.mark.parametrize(
    "statement",
    [
        "create table public.mine (id int)",
        "create schema mine",
        "create role mine",
        "create function public.mine() returns int language sql return 1",
        "alter role postgres password 'mine'",
        "create database mine",
        "copy (select 1) to program 'true'",
        "select pg_read_file('/etc/passwd')",
        "select rolpassword from pg_authid",
    ],
)
def test_the_worker_can_make_and_read_nothing_else(worker: Connection, statement: LiteralString) -> None:
    with pytest.raises(InsufficientPrivilege):
        worker.execute(statement)


def test_the_worker_has_no_right_that_passes_row_level_security(superuser: Connection) -> None:
    assert rows(
        superuser,
        """
        select rolsuper, rolbypassrls, rolcreaterole, rolcreatedb, rolreplication, rolinherit, rolcanlogin
        from pg_roles where rolname = 'clerk_sync_worker'
        """,
    ) == [(False, False, False, False, False, False, True)]
    assert rows(superuser, "select 1 from pg_auth_members where member = 'clerk_sync_worker'::regrole") == []


@pytest.mark.parametrize(
    "batch",
    [
        '[{"kind": "users; drop table clerk.users", "id": "u"}]',
        '[{"kind": "migrations", "id": "u"}]',
        '[{"kind": "user", "id": null}]',
        '[{"kind": null, "id": "u"}]',
        '[{"id": "u"}]',
        '[{"kind": "user", "id": "u", "source_updated_at": "text"}]',
        '[{"kind": "user", "id": "u", "source_updated_at": 1, "observed_at": 1, "content": {"clerk_id": null}}]',
        '{"kind": "user"}',
        "null",
        '"text"',
        "[1]",
        "[null]",
    ],
)
def test_a_batch_with_a_mistake_of_the_worker_is_refused_whole(
    batch: str, worker: Connection, superuser: Connection
) -> None:
    with pytest.raises(psycopg.Error) as refused:
        worker.execute("select * from clerk_sync.apply(%s::jsonb)", [batch])
    # It was read: neither is the right to call it missing, nor the function.
    assert refused.value.sqlstate not in {"42501", "42883"}
    assert value(superuser, "select count(*) from clerk.users") == 0
    assert value(superuser, "select count(*) from clerk_sync.entities") == 0
