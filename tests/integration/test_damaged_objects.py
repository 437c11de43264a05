"""Each damage to an object of the database is named, and `--repair` makes it right."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest

from clerk_supabase_cli.operate.install.migrations import (
    differing_objects,
)
from clerk_supabase_cli.operate.objects import repair as repairing
from clerk_supabase_cli.operate.objects.comparison import Difference, differences
from clerk_supabase_cli.operate.objects.manifest import Manifest, read_manifest
from clerk_supabase_cli.operate.objects.repair import NotRepaired, repair
from tests.kit.databases import Connection, Database, rows, value
from tests.kit.supabase import PROJECTS, Supabase

DAMAGES: list[tuple[LiteralString, str]] = [
    # Functions
    ("drop function clerk_sync.begin_run(jsonb)", "the function clerk_sync.begin_run(jsonb) is missing"),
    (
        (
            "create or replace function clerk_sync.takes_writes() returns boolean language sql "
            "set search_path = pg_catalog, pg_temp as 'select true'"
        ),
        "the function clerk_sync.takes_writes(): its body is another",
    ),
    (
        (
            "create or replace function clerk.requesting_user_id() returns text language sql stable "
            "parallel restricted set search_path = pg_catalog, pg_temp return 'user_eve'"
        ),
        "the function clerk.requesting_user_id(): its body is another",
    ),
    (
        (
            "create or replace function clerk_sync.write_user(batch jsonb, winners clerk_sync.change[]) "
            "returns jsonb language plpgsql set search_path = pg_catalog, pg_temp as 'begin end'"
        ),
        "the function clerk_sync.write_user(jsonb,clerk_sync.change[]): its body is another",
    ),
    (
        (
            "create or replace function clerk_sync.hide_rows(deleted clerk_sync.change[]) returns void language plpgsql"
            " set search_path = pg_catalog, pg_temp as 'begin perform clerk_sync.hide_user(deleted, null); end'"
        ),
        "the function clerk_sync.hide_rows(clerk_sync.change[]): its body is another",
    ),
    (
        (
            "drop function clerk_sync.takes_writes(); create function clerk_sync.takes_writes() returns text "
            "language sql set search_path = pg_catalog, pg_temp as $$select 'yes'$$"
        ),
        "the function clerk_sync.takes_writes(): its body is another, result is text, the migrations make it boolean",
    ),
    (
        "alter function clerk_sync.apply(jsonb) security invoker",
        "the function clerk_sync.apply(jsonb): runs as is the caller, the migrations make it its owner",
    ),
    (
        "alter function clerk_sync.hide_rows(clerk_sync.change[]) security definer",
        "the function clerk_sync.hide_rows(clerk_sync.change[]): runs as is its owner",
    ),
    (
        "alter function clerk_sync.apply(jsonb) set search_path = public",
        "the function clerk_sync.apply(jsonb): its settings is another",
    ),
    (
        "alter function clerk_sync.apply(jsonb) owner to service_role",
        "owner is service_role, the migrations make it the owner of clerk_sync",
    ),
    ("alter function clerk_sync.requesting_claims() volatile", "volatility is volatile, the migrations make it stable"),
    (
        "create function clerk_sync.apply(batch jsonb, mode text) returns void language sql as ''",
        "the function clerk_sync.apply(jsonb,text) is none of this version",
    ),
    # Objects to which other tables refer
    ("drop table clerk_sync.reconcile_runs cascade", "the table clerk_sync.reconcile_runs is missing"),
    # Triggers
    (
        "alter table clerk.users disable trigger users_project_on_update",
        "the trigger users_project_on_update on clerk.users: enabled is no, the migrations make it yes",
    ),
    (
        "alter table clerk.users enable replica trigger users_keep_key",
        "the trigger users_keep_key on clerk.users: enabled is no, the migrations make it yes",
    ),
    ("drop trigger audit_update on clerk.users", "the trigger audit_update on clerk.users is missing"),
    (
        (
            "create or replace trigger users_keep_key before update on clerk.users "
            "for each row when (false) execute function clerk_sync.refuse_new_key()"
        ),
        "the trigger users_keep_key on clerk.users: its definition is another",
    ),
    (
        "create trigger of_old after insert on clerk.users for each row execute function clerk_sync.refuse_new_key()",
        "the trigger of_old on clerk.users is none of this version",
    ),
    # Policies and row-level security
    ("drop policy users_read_own on clerk.users", "the policy users_read_own on clerk.users is missing"),
    (
        "alter policy users_read_own on clerk.users using (true)",
        "the policy users_read_own on clerk.users: its using is another",
    ),
    (
        "alter policy users_read_own on clerk.users to anon",
        "roles is anon, the migrations make it authenticated",
    ),
    (
        (
            "create policy of_old on clerk.users for select to authenticated "
            "using (clerk_id = (select c.clerk_id from clerk_sync.caller as c))"
        ),
        "the policy of_old on clerk.users is none of this version",
    ),
    (
        "alter table clerk.users disable row level security",
        "the table clerk.users: row-level security is off, the migrations make it on",
    ),
    (
        "alter table clerk.users force row level security",
        "the table clerk.users: row-level security for the owner is on, the migrations make it off",
    ),
    # Tables, columns, constraints, indexes, types, views, rows
    ("drop table clerk_sync.audit_log", "the table clerk_sync.audit_log is missing"),
    ("alter table clerk.users drop column locale", "the column clerk.users.locale is missing"),
    ("alter table clerk.users alter column banned drop default", "default is none, the migrations make it false"),
    ("alter table clerk.users alter column banned set default true", "default is true, the migrations make it false"),
    ("alter table clerk.users alter column banned drop not null", "not null is no, the migrations make it yes"),
    ("alter table clerk.users alter column locale set not null", "not null is yes, the migrations make it no"),
    ("alter table clerk_sync.deliveries add column extra text not null", "the column clerk_sync.deliveries.extra is"),
    ("alter table clerk_sync.deliveries set unlogged", "the table clerk_sync.deliveries: written to the log is no"),
    (
        "alter table clerk_sync.audit_log drop constraint audit_log_operation_check",
        "the constraint audit_log_operation_check of clerk_sync.audit_log is missing",
    ),
    (
        "alter table clerk_sync.audit_log add constraint old_check check (kind <> 'domain')",
        "the constraint old_check of clerk_sync.audit_log is none of this version",
    ),
    (
        "alter table clerk.users_public add constraint old_key foreign key (clerk_id) references clerk.users",
        "the constraint old_key of clerk.users_public is none of this version",
    ),
    (
        "alter table clerk.organization_domains disable trigger all",
        "organization_domains_clerk_org_id_fkey of clerk.organization_domains: enforced is no",
    ),
    ("drop index clerk.users_email_idx", "the index clerk.users_email_idx is missing"),
    (
        "drop index clerk.users_email_idx; create index users_email_idx on clerk.users (phone)",
        "the index clerk.users_email_idx: its definition is another",
    ),
    (
        "update pg_index set indisvalid = false where indexrelid = 'clerk.users_email_idx'::regclass",
        "the index clerk.users_email_idx: valid is no, the migrations make it yes",
    ),
    (
        "drop type clerk_sync.held cascade; create type clerk_sync.held as (place text)",
        "the type clerk_sync.held: its parts is another",
    ),
    (
        (
            "create or replace view clerk_sync.memberships_of_caller with (security_barrier) as "
            "select m.clerk_org_id, m.role, m.permissions from clerk.organization_memberships as m"
        ),
        "the view clerk_sync.memberships_of_caller: its definition is another",
    ),
    (
        "alter view clerk_sync.caller set (security_invoker = on)",
        "the view clerk_sync.caller: options is security_barrier=true, security_invoker=on",
    ),
    ("delete from clerk_sync.kinds where kind = 'domain'", "the row kind domain is missing"),
    (
        "update clerk_sync.kinds set is_read_by_id = not is_read_by_id where kind = 'domain'",
        "the row kind domain: is_read_by_id is False, the migrations make it True",
    ),
    # Rights
    (
        "revoke execute on function clerk_sync.apply(jsonb) from clerk_sync_worker",
        "clerk_sync_worker lacks the right to execute on the function clerk_sync.apply(jsonb)",
    ),
    (
        "grant select, update (email) on clerk.users to anon",
        "anon has the right to select, update (email) on the table clerk.users, which no migration grants",
    ),
    (
        "grant execute on function clerk_sync.undo_run(jsonb) to public",
        "public has the right to execute on the function clerk_sync.undo_run(jsonb), which no migration grants",
    ),
    ("grant usage on schema clerk_sync to authenticated", "authenticated has the right to usage on the schema"),
    ("revoke select on clerk.users from authenticated", "authenticated lacks the right to select on the table"),
    (
        "revoke select (clerk_id) on clerk_sync.caller from authenticated",
        "authenticated lacks the right to select (clerk_id) on the table clerk_sync.caller",
    ),
    (
        "grant usage on sequence clerk_sync.audit_log_audit_id_seq to service_role",
        "service_role has the right to usage on the sequence clerk_sync.audit_log_audit_id_seq",
    ),
    ("drop schema clerk cascade", "the schema clerk is missing"),
    (
        "revoke usage on schema clerk from authenticated",
        "authenticated lacks the right to usage on the schema clerk",
    ),
    (
        "grant create on schema clerk to authenticated",
        "authenticated has the right to create on the schema clerk, which no migration grants",
    ),
    (
        "alter schema clerk owner to authenticated",
        "the schema clerk: owner is authenticated, the migrations make it the owner of clerk_sync",
    ),
    (
        "grant usage on type clerk_sync.version to public",
        "public has the right to usage on the type clerk_sync.version",
    ),
    (
        "grant select on clerk.users to authenticated with grant option",
        "authenticated has the right to select on the table clerk.users",
    ),
]

OF_THE_APP: list[LiteralString] = [
    "alter table clerk.users add column nickname text not null default '', add column points int",
    "alter table clerk.users add column motto text; grant update (motto) on clerk.users to authenticated",
    "create index mine_idx on clerk.users (first_name)",
    "alter table clerk.users add constraint mine2 check (email <> '')",
    "alter table clerk.organizations add column owner text references clerk.users (clerk_id)",
    (
        "create policy mine on clerk.users for select to authenticated "
        "using (clerk_id = (select clerk.requesting_user_id()))"
    ),
    "create policy mine on clerk.organizations for select to service_role using (true)",
    """create function public.mine() returns trigger language plpgsql as 'begin return null; end';
    create trigger mine after insert on clerk.users for each row execute function public.mine()""",
    "create view clerk.mine with (security_invoker) as select * from clerk.users",
    "create function clerk.requesting_user_id(text) returns text language sql return 'user_1'",
    "create table public.apply (id int primary key)",
    "create table clerk.notes (id int primary key); create function clerk.apply() returns int language sql return 1",
    "create role mine; grant usage, create on schema clerk to mine; grant select on clerk.users to mine",
    "alter table clerk.users replica identity full, set (fillfactor = 70)",
    """create table public.letters (id text primary key, user_id text references clerk.users, deleted_at timestamptz);
    select clerk_sync.register(
        'letter', 9001, 'public.letters', 'id', array[]::name[] || 'id'::name, '{"user_id": "user"}', false
    )""",
    "create table public.tasks (id int primary key); select clerk_sync.secure('public.tasks', 'user')",
]


@pytest.fixture(scope="module")
def looked_at(shared_database: Database) -> Iterator[Connection]:
    """A superuser's connection to one database, in which the changes of each test are rolled back."""
    with shared_database.connect() as connection:
        yield connection


@pytest.fixture
def undone(looked_at: Connection) -> Iterator[Connection]:
    """The connection, in a transaction that is rolled back."""
    with looked_at.transaction(force_rollback=True):
        yield looked_at


def words(connection: Connection, root: Path) -> list[str]:
    return [difference.words for difference in differing_objects(connection, root)]


def test_nothing_differs_after_migrate(looked_at: Connection, root: Path) -> None:
    assert words(looked_at, root) == []


@pytest.mark.parametrize(("damage", "said"), DAMAGES, ids=[said for _, said in DAMAGES])
def test_each_damage_is_named_and_repaired(
    undone: Connection, root: Path, monkeypatch: pytest.MonkeyPatch, damage: LiteralString, said: str
) -> None:
    seen: list[list[Difference]] = []

    def looked(connection: Connection, manifest: Manifest) -> list[Difference]:
        seen.append(differences(connection, manifest))
        return seen[-1]

    # The repair looks first, again after its statements, and ends when nothing differs. A look of our own would be
    # half of the time of these tests.
    monkeypatch.setattr(repairing, "differences", looked)
    undone.execute(damage)
    assert list(repair(undone, read_manifest(root)))
    found = [difference.words for difference in seen[0]]
    assert [each for each in found if said in each], found
    assert seen[-1] == []


def test_objects_added_by_the_app_are_no_difference_and_a_repair_leaves_them(undone: Connection, root: Path) -> None:
    for addition in OF_THE_APP:
        undone.execute(addition)
    assert words(undone, root) == []
    undone.execute("drop function clerk_sync.begin_run(jsonb); drop trigger audit_update on clerk.users")
    undone.execute("drop policy users_insert_own on clerk.users; grant all on clerk.users to anon")
    undone.execute("drop function clerk_sync.hide_rows(clerk_sync.change[])")
    before = everything_of_the_app(undone)
    list(repair(undone, read_manifest(root)))
    assert words(undone, root) == []
    assert everything_of_the_app(undone) == before


def everything_of_the_app(connection: Connection) -> list[tuple[object, ...]]:
    return rows(
        connection,
        """
        select 'column', attrelid::regclass::text, attname, attacl::text from pg_attribute
        where attrelid::regclass::text in ('clerk.users', 'clerk.organizations', 'sessions') and attnum > 0
        union all select 'policy', polrelid::regclass::text, polname, null from pg_policy where polname = 'mine'
        union all select 'trigger', tgrelid::regclass::text, tgname, null from pg_trigger where tgname = 'mine'
        union all select 'relation', oid::regclass::text, null, relacl::text from pg_class
        where relname in ('mine', 'apply', 'notes', 'sessions', 'tasks')
        union all select 'schema', nspname, null, nspacl::text from pg_namespace where nspname = 'clerk'
        union all select 'function', oid::regprocedure::text, null, null from pg_proc
        where proname like '%\\_session' or oid = to_regprocedure('clerk.apply()')
        union all select 'kind', kind, null, null from clerk_sync.kinds
        order by 1, 2, 3, 4
        """,
    )


def test_a_kind_that_the_app_registered_is_still_written_after_a_repair(undone: Connection, root: Path) -> None:
    undone.execute(OF_THE_APP[-2])
    undone.execute("drop function clerk_sync.write_rows(text, jsonb, clerk_sync.change[])")
    list(repair(undone, read_manifest(root)))
    body = value(undone, "select prosrc from pg_proc where proname = 'write_rows'")
    assert "when 'letter' then" in body


def test_a_difference_that_only_a_person_can_decide_about_is_named_and_nothing_is_changed(
    undone: Connection, root: Path
) -> None:
    undone.execute("""
        insert into clerk.users (clerk_id) values ('user_1');
        insert into clerk.organizations (clerk_org_id) values ('org_1');
        insert into clerk.organization_memberships (clerk_membership_id, clerk_org_id, clerk_user_id, role)
        values ('orgmem_1', 'org_1', 'user_1', 'org:member');
        alter table clerk.organization_memberships drop column role cascade;
        alter table clerk_sync.reconcile_runs alter column calls type bigint;
        drop function clerk_sync.begin_run(jsonb);
        alter type clerk_sync.outcome rename value 'altered' to 'changed';
    """)
    with pytest.raises(NotRepaired) as refused:
        list(repair(undone, read_manifest(root)))
    assert "clerk.organization_memberships.role is missing: the existing rows need a value" in str(refused.value)
    assert "alter table clerk_sync.reconcile_runs alter column calls type integer" in str(refused.value)
    assert "rename the type, make it again (create type clerk_sync.outcome as enum ('created', " in str(refused.value)
    assert value(undone, "select to_regprocedure('clerk_sync.begin_run(jsonb)')") is None


def test_a_value_that_a_type_lacks_is_added_and_no_delivery_is_lost(undone: Connection, root: Path) -> None:
    undone.execute("""
        insert into clerk_sync.deliveries (occurred_at, received_at, svix_id, event_type, entity_id, outcome)
        values (now(), now(), 'msg_1', 'user.created', 'user_1', 'updated');
        alter table clerk_sync.deliveries alter column outcome type text;
        drop type clerk_sync.outcome;
        create type clerk_sync.outcome as enum ('updated', 'unchanged', 'deleted');
        alter table clerk_sync.deliveries
            alter column outcome type clerk_sync.outcome using outcome::clerk_sync.outcome;
    """)
    assert list(repair(undone, read_manifest(root)))
    assert words(undone, root) == []
    assert value(undone, "select outcome::text from clerk_sync.deliveries") == "updated"


def test_a_repair_that_postgres_refuses_is_named_with_its_reason(undone: Connection, root: Path) -> None:
    undone.execute("""
        alter table clerk_sync.audit_log drop constraint audit_log_operation_check;
        insert into clerk_sync.audit_log (kind, entity_id, operation, changed_columns, cause)
        values ('user', 'user_1', 'merge', '{}', 'operator');
    """)
    with pytest.raises(
        NotRepaired, match=r"audit_log_operation_check of clerk_sync.audit_log is missing; check constr"
    ):
        list(repair(undone, read_manifest(root)))


def test_an_owner_who_is_no_superuser_sees_and_repairs_the_same(supabase: Supabase, root: Path) -> None:
    url = supabase.url(PROJECTS[0])
    with psycopg.connect(url, autocommit=True) as owner, owner.transaction(force_rollback=True):
        assert words(owner, root) == []
        owner.execute("drop table clerk_sync.audit_log; drop function clerk_sync.apply(jsonb)")
        owner.execute("drop policy users_read_own on clerk.users; drop table clerk.organization_domains cascade")
        # With the table goes the relationship for PostgREST.
        assert len(words(owner, root)) == 5
        list(repair(owner, read_manifest(root)))
        assert words(owner, root) == []


def test_the_comparison_takes_no_longer_with_a_thousand_tables_of_the_app(undone: Connection, root: Path) -> None:
    def seconds() -> float:
        began = time.perf_counter()
        assert words(undone, root) == []
        return time.perf_counter() - began

    alone = min(seconds() for _ in range(3))
    undone.execute("""
        do $$ begin for n in 1..1000 loop
            execute format('create table public.app_%s (id int)', n);
        end loop; end $$
    """)
    assert min(seconds() for _ in range(3)) < 3 * alone
