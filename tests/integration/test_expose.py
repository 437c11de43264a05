"""`clerk-supabase expose`: views with the rights of their callers, where a name is free, removed without a trace."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner, Result

from clerk_supabase.model.found_kinds import FACTS
from clerk_supabase.postgres.store import Store
from clerk_supabase_cli.commands.connect.expose import StillNeeded
from clerk_supabase_cli.main import commands
from tests.kit import kinds, webhooks
from tests.kit.databases import Connection, Database, acting_as, rows, value
from tests.kit.doctoring import Doctor
from tests.kit.meanwhile import started, until_one_has_given_up
from tests.kit.supabase import PROJECTS, Supabase

OURS = {"sub": "user_ada"}
EVERYTHING = """
    select pg_describe_object('pg_class'::regclass, c.oid, 0) from pg_class as c
    where c.relnamespace = 'public'::regnamespace
    union all
    select pg_describe_object('pg_proc'::regclass, p.oid, 0) from pg_proc as p
    where p.pronamespace = 'public'::regnamespace
    order by 1
"""


def run(url: str, *options: str) -> Result:
    return CliRunner().invoke(commands, ["expose", "--database-url", url, *options])


def outcomes(url: str, *options: str) -> dict[str, tuple[str, str | None]]:
    """Outcome and reason of each view and function."""
    said = run(url, "--json", *options)
    found: list[dict[str, Any]] = json.loads(said.stdout)["objects"]
    return {each["name"]: (each["outcome"], each["reason"]) for each in found}


@pytest.fixture
def synced(store: Store) -> None:
    """Ada and Eve in one organization."""
    store.apply(
        [
            webhooks.user("user_ada", at=1, first_name="Ada"),
            webhooks.user("user_eve", at=1, first_name="Eve"),
            webhooks.membership("orgmem_ada", at=1, user_id="user_ada"),
            webhooks.membership("orgmem_eve", at=1, user_id="user_eve"),
        ]
    )


@pytest.fixture
def as_owner(supabase: Supabase) -> str:
    """A database of an owner who is no superuser, in which new objects are open to the API."""
    [project] = [each for each in PROJECTS if each.name == "granted by default"]
    return supabase.url(project)


def test_what_was_made_is_there_the_second_time_and_leaves_no_trace_when_removed(
    database: Database, admin: Connection
) -> None:
    before = rows(admin, EVERYTHING)
    assert {outcome for outcome, _ in outcomes(database.url, "--dry-run").values()} == {"made"}
    assert rows(admin, EVERYTHING) == before
    made = outcomes(database.url)
    assert {outcome for outcome, _ in made.values()} == {"made"}
    assert {f"public.{FACTS[kind].table}" for kind in kinds.OURS if kind != "waitlist_entry"} <= made.keys()
    assert {outcome for outcome, _ in outcomes(database.url).values()} == {"there"}
    assert value(admin, "select public.requesting_user_id() is null")
    assert "would remove view public.users\n" in run(database.url, "--remove", "--dry-run").output
    assert {outcome for outcome, _ in outcomes(database.url, "--remove").values()} == {"removed"}
    assert rows(admin, EVERYTHING) == before
    assert run(database.url, "--remove").output == "nothing was exposed\n"


def test_a_caller_sees_through_a_view_what_the_policies_show(
    synced: None, database: Database, admin: Connection
) -> None:
    run(database.url)
    with acting_as(admin, "authenticated", OURS):
        assert rows(admin, "select clerk_id from public.users") == [("user_ada",)]
        assert value(admin, "select count(*) from public.users_public") == 2
        names = "select p.first_name from public.organization_memberships as m cross join public.profile(m) as p"
        assert sorted(rows(admin, names)) == [("Ada",), ("Eve",)]
    with acting_as(admin, "authenticated", {"sub": "user_new"}):
        admin.execute("insert into public.users (clerk_id) values ('user_new')")
        with pytest.raises(psycopg.errors.InsufficientPrivilege), admin.transaction():
            admin.execute("insert into public.users (clerk_id) values ('user_other')")
        assert rows(admin, "select role from public.organization_memberships") == []


def test_a_profile_leads_to_the_memberships_of_its_own_user(synced: None, admin: Connection) -> None:
    query = (
        "select p.clerk_id, m.clerk_membership_id from clerk.users_public as p"
        " cross join lateral clerk.memberships(p) as m order by p.clerk_id"
    )
    with acting_as(admin, "authenticated", OURS):
        assert rows(admin, query) == [("user_ada", "orgmem_ada"), ("user_eve", "orgmem_eve")]


def test_relationships_are_inlined_so_that_the_planner_sees_the_tables(synced: None, admin: Connection) -> None:
    with acting_as(admin, "authenticated", OURS):
        plan = rows(
            admin,
            "explain select m.role, p.first_name from clerk.organization_memberships as m"
            " cross join lateral clerk.profile(m) as p",
        )
    text = "\n".join(line for (line,) in plan)
    assert "users_public" in text
    assert "Function Scan on profile" not in text


def test_grants_are_by_name_whatever_the_default_privileges_give(as_owner: str) -> None:
    assert {outcome for outcome, _ in outcomes(as_owner).values()} == {"made"}
    given = """
        select c.relname::text, format('%s %s', a.grantee::regrole, a.privilege_type)
        from pg_class as c cross join lateral aclexplode(c.relacl) as a
        where c.relnamespace = 'public'::regnamespace and c.relkind = 'v' and a.grantee <> c.relowner
    """
    with psycopg.connect(as_owner) as owner:
        found = rows(owner, given)
        assert {right for _, right in found} == {"authenticated SELECT", "service_role SELECT"}
        assert value(owner, "select has_column_privilege('authenticated', 'public.users', 'clerk_id', 'insert')")
        assert not value(
            owner, "select has_function_privilege('anon', 'public.creator(public.organizations)', 'execute')"
        )
    assert {outcome for outcome, _ in outcomes(as_owner, "--remove").values()} == {"removed"}


# Names of the app


def test_names_of_the_app_are_left_alone_with_the_reason(database: Database, admin: Connection) -> None:
    admin.execute(
        """
        create table public.users (id uuid);
        create type public.organizations as enum ('acme');
        create function public.requesting_user_id(text default '') returns uuid language sql return null::uuid;
        create function public.requesting_claims() returns jsonb language sql return '{}'::jsonb;
        """
    )
    found = outcomes(database.url)
    assert {name: each for name, each in found.items() if each[0] != "made"} == {
        "public.users": ("left", "the app has the table public.users"),
        "public.organizations": ("left", "the app has the type public.organizations"),
        "public.requesting_user_id()": ("left", "the app has the function public.requesting_user_id(text)"),
        "public.requesting_claims()": ("left", "the app has the function public.requesting_claims()"),
        **{
            f"public.organization(public.organization_{kind})": ("left", "it needs the view public.organizations")
            for kind in ("memberships", "invitations", "domains")
        },
        "public.creator(public.organizations)": ("left", "it needs the view public.organizations"),
    }
    assert "public.users" not in outcomes(database.url, "--remove")
    assert value(admin, "select to_regclass('public.users') is not null")


@pytest.mark.parametrize(
    "replacement",
    [
        "create or replace view public.users as select u.* from clerk.users as u where u.email is not null",
        "drop view public.users; create view public.users as select clerk_id from clerk.users",
        "drop view public.users; create table public.users (id int)",
    ],
)
def test_a_view_that_the_app_replaced_is_the_apps(replacement: str, database: Database, admin: Connection) -> None:
    run(database.url)
    admin.execute(replacement.encode())
    assert value(admin, "select count(*) from clerk_sync.faults_of_all_exposed() where found like '%public.users'") == 0
    assert outcomes(database.url)["public.users"][0] == "left"
    assert "public.users" not in outcomes(database.url, "--remove")
    assert value(admin, "select to_regclass('public.users') is not null")


def test_a_function_that_the_app_replaced_is_the_apps(database: Database, admin: Connection) -> None:
    run(database.url)
    admin.execute("create or replace function public.requesting_user_id() returns text language sql return 'user_me'")
    assert outcomes(database.url, "--remove")["public.requesting_user_id()"] == ("gone", None)
    assert value(admin, "select public.requesting_user_id()") == "user_me"


@pytest.mark.parametrize(
    ("use", "name", "named", "drop"),
    [
        (
            "create table public.notes (owner_id text default public.requesting_user_id())",
            "public.requesting_user_id()",
            "default value for column owner_id of table public.notes",
            "drop table public.notes",
        ),
        (
            "create table public.notes (id int); create policy mine on public.notes using (requesting_user_id() = '')",
            "public.requesting_user_id()",
            "policy mine on table public.notes",
            "drop table public.notes",
        ),
        (
            "create view public.team as select first_name from public.users_public",
            "public.users_public",
            "view public.team",
            "drop view public.team",
        ),
        (
            "create function public.me() returns text language sql as $$ select requesting_user_id() $$",
            "public.requesting_user_id()",
            "function public.me()",
            "drop function public.me()",
        ),
        (
            "create trigger t instead of delete on users for each row execute function clerk_sync.refuse_new_key()",
            "public.users",
            "trigger t on view public.users",
            "drop trigger t on public.users",
        ),
    ],
)
def test_an_object_that_needs_a_view_or_function_is_named_and_kept(
    use: str, name: str, named: str, drop: str, *, database: Database, admin: Connection
) -> None:
    admin.execute("set check_function_bodies = off")
    run(database.url)
    admin.execute(use.encode())
    said = run(database.url, "--remove")
    assert isinstance(said.exception, StillNeeded)
    assert f"{name}: {named}" in said.output
    left = {each for each, (outcome, _) in outcomes(database.url, "--remove").items() if outcome == "left"}
    assert left == {name}
    admin.execute(drop.encode())
    assert outcomes(database.url, "--remove") == {name: ("removed", None)}


def test_another_schema_of_the_app_may_have_the_views(synced: None, database: Database, admin: Connection) -> None:
    admin.execute('create schema "My Api"; grant usage on schema "My Api" to authenticated')
    assert {outcome for outcome, _ in outcomes(database.url, "--schema", "My Api").values()} == {"made"}
    with acting_as(admin, "authenticated", OURS):
        assert value(
            admin, 'select p.first_name from "My Api".users as u join "My Api".users_public as p using (clerk_id)'
        )
    assert {outcome for outcome, _ in outcomes(database.url, "--remove").values()} == {"removed"}
    for name in ("clerk", "clerk_sync", "auth", "nowhere"):
        assert f"{name} is no schema of the app" in str(run(database.url, "--schema", name).exception)


# Changes afterwards


def test_the_doctor_knows_the_views_and_expose_corrects_them(
    synced: None, database: Database, admin: Connection, doctor: Doctor
) -> None:
    run(database.url)
    checked = doctor.examine("objects", "row-level-security").verdicts
    assert checked == {"objects": "ok", "row-level-security": "ok"}
    admin.execute("alter table clerk.users add column plan text")
    admin.execute("drop view public.organization_domains cascade")
    verdict, words = doctor.verdict("objects")
    assert verdict == "warn"
    assert "public.users lacks the column plan of its table" in words
    assert "the view public.organization_domains is gone" in words
    admin.execute("alter view public.users set (security_invoker = false)")
    admin.execute("grant select on public.users to anon")
    verdict, words = doctor.verdict("objects")
    assert verdict == "fail"
    assert "public.users reads with the rights of its owner" in words
    assert "rights on public.users: anon SELECT, which expose() does not give" in words
    assert "clerk-supabase expose --schema public" in words

    found = outcomes(database.url)
    assert (found["public.users"][0], found["public.organization_domains"][0]) == ("corrected", "made")
    assert doctor.verdict("objects")[0] == "ok"
    with acting_as(admin, "authenticated", OURS):
        assert rows(admin, "select clerk_id, plan from public.users") == [("user_ada", None)]


def test_a_column_that_users_may_not_read_is_in_no_view(synced: None, database: Database, admin: Connection) -> None:
    columns = "clerk_id, email, first_name, public_metadata, deleted_at"
    admin.execute("revoke select on clerk.users from authenticated")
    admin.execute(f"grant select ({columns}) on clerk.users to authenticated".encode())
    run(database.url)
    with acting_as(admin, "authenticated", OURS):
        [row] = rows(admin, "select to_jsonb(u) from public.users as u")
    assert set(row[0]) == set(columns.split(", "))


def test_a_lock_of_another_session_is_named_and_nothing_is_changed(database: Database, admin: Connection) -> None:
    before = rows(admin, EVERYTHING)
    with database.connect() as other, other.transaction():
        other.execute("lock table clerk_sync.exposed in access exclusive mode")
        pid = other.info.backend_pid

        def release() -> None:
            until_one_has_given_up(admin)
            admin.execute("select pg_terminate_backend(%s)", [pid])

        releasing = started(release)
        said = run(database.url)
        releasing.join()
        assert f"blocked by pid {pid}" in said.stderr
        assert "made view public.users\n" in said.stdout
        other.close()
    assert rows(admin, EVERYTHING) != before
