"""`uninstall` removes all that was made, shows it before, and leaves the app's tables as they were."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import psycopg
import pytest

from clerk_supabase_cli.local.postgres import EmbeddedPostgres
from clerk_supabase_cli.operate import locking
from clerk_supabase_cli.operate.blockers import LockedByOthers
from clerk_supabase_cli.operate.database import open_database
from clerk_supabase_cli.operate.install.migrations import migrate, prepare_plain_postgres
from clerk_supabase_cli.operate.setup.role_urls import as_role
from clerk_supabase_cli.operate.uninstall.run import NotUninstalled, look, remove
from tests.kit.databases import rows, value
from tests.kit.parked import Command
from tests.kit.supabase_management import REF, RIGHTS, TOKEN, SupabaseManagement

APP = """
    create type public.tier as enum ('free', 'paid');
    create table public.accounts (id uuid primary key default gen_random_uuid(), email text unique, tier public.tier);
    create table public.notes (id bigint generated always as identity, account uuid references public.accounts, t text);
    insert into public.accounts (email) values ('ada@example.com'), ('eve@example.com');
    insert into public.notes (account, t) select id, 'a note' from public.accounts;
    alter table public.notes enable row level security;
    create policy own on public.notes for select to authenticated using (t = auth.jwt() ->> 'sub');
    create view public.paying with (security_invoker) as select * from public.accounts where tier = 'paid';
    create function public.touch() returns trigger language plpgsql as 'begin new.t := new.t || ''!''; return new; end';
    create trigger touched before update on public.notes for each row execute function public.touch();
    comment on table public.notes is 'clerk and clerk_sync are only words here';
    grant select on public.notes to authenticated;
"""
NEEDS_OURS = """
    create table public.profiles (id text primary key references clerk.users (clerk_id) on delete cascade);
    alter table public.accounts add column owner text default clerk_sync.requesting_user_id();
    alter table public.accounts add column mine text;
    create view public.people as select clerk_id, email from clerk.users;
    create view public.some_people as select * from public.people;
    create function public.label(u clerk.users) returns text language sql as 'select u.clerk_id';
    create policy ours on public.notes for insert with check (t = (select clerk_id from clerk_sync.caller));
    create policy only_mine on public.notes as restrictive using (t = (select clerk_id from clerk_sync.caller));
    create table public.copies (u clerk.users);
    create domain public.not_me as text check (value <> clerk_sync.requesting_user_id());
    create table clerk.prices (id int primary key);
"""


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedPostgres]:
    """A server of its own, because roles belong to the whole server."""
    with EmbeddedPostgres() as server:
        yield server


@pytest.fixture
def app(server: EmbeddedPostgres, root: Path) -> Iterator[str]:
    """A database of an app with data, whose owner is no superuser."""
    as_superuser = server.create_database("app")
    prepare_plain_postgres(as_superuser, root)
    run(as_superuser, "create role project_owner login createrole password 'x'")
    run(as_superuser, "grant anon, authenticated, service_role to project_owner with admin option")
    run(as_superuser, "alter database app owner to project_owner; grant usage on schema auth to project_owner")
    url = as_role(as_superuser, "project_owner", "x")
    run(url, APP)
    yield url
    server.drop_database("app")
    run(server.url(), "drop role if exists clerk_sync_worker, clerk_sync_session; drop role project_owner")


def run(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement.encode())


def dump(server: EmbeddedPostgres) -> list[str]:
    """The database with its rows, as pg_dump writes it."""
    command = [str(server.binaries / "pg_dump"), "--inserts", server.url("app")]
    written = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    # Each dump has its own \\restrict.
    return [line for line in written.splitlines() if not line.startswith("\\")]


def filled(url: str, root: Path) -> None:
    list(migrate(url, root))
    run(url, "insert into clerk.users (clerk_id) values ('user_1'), ('user_2')")


def test_the_database_of_an_app_is_afterwards_as_it_was_before(app: str, server: EmbeddedPostgres, root: Path) -> None:
    before = dump(server)
    filled(app, root)
    command = Command({"DATABASE_URL": app})

    tried = command.json("uninstall", "--dry-run")
    assert (tried["removed"], tried["found"]["schemas"], tried["found"]["stops"]) == (
        False,
        ["clerk", "clerk_sync"],
        [],
    )
    assert tried["found"]["rows"]["clerk.users"] == 2
    assert tried["found"]["rows"]["clerk_sync.audit_log"] == 2
    asked = command.run("uninstall", answer="n\n", status=1)
    assert "2 rows of clerk.users\n" in asked.stdout
    assert "Remove all this for good?" in asked.stderr
    run(app, "select 1 from clerk.users")

    assert command.run("uninstall", "--yes").stdout.endswith("removed\n")
    assert dump(server) == before
    with psycopg.connect(app) as connection:
        assert rows(connection, "select rolname from pg_roles where rolname like 'clerk%'") == []
    assert command.run("uninstall", "--yes").stdout == "nothing of this project is in the database\n"
    assert list(migrate(app, root))


@pytest.fixture
def pooled(app: str, server: EmbeddedPostgres) -> Iterator[str]:
    """The app's database with the name of its project behind the name of the owner, as at Supabase's pooler."""
    run(server.url(), f'alter role project_owner rename to "project_owner.{REF}"')
    yield as_role(app, f"project_owner.{REF}", "x")
    run(server.url(), f'alter role "project_owner.{REF}" rename to project_owner')


def test_a_schema_leaves_the_exposed_schemas_before_it_is_removed(pooled: str, root: Path) -> None:
    """PostgREST answers nothing while an exposed schema is missing."""
    filled(pooled, root)
    command = Command({"DATABASE_URL": pooled, "SUPABASE_ACCESS_TOKEN": TOKEN})
    with SupabaseManagement("public, clerk,graphql_public", rights=frozenset({"data_api_config_read"})) as supabase:
        uninstall = ("uninstall", "--yes", "--management-api-url", supabase.url)
        stopped = str(command.run(*uninstall, status=1).exception)
        assert stopped.startswith("nothing was removed: the token in SUPABASE_ACCESS_TOKEN may not do this")
        run(pooled, "select from clerk.users")
        supabase.rights = RIGHTS
        done = command.run(*uninstall)
        assert "take clerk out of the exposed schemas of Supabase's API\n" in done.stdout
        assert "took clerk out of the exposed schemas; `clerk-supabase setup` adds it again\n" in done.stderr
        assert supabase.db_schema == "public,graphql_public"
    assert done.stdout.endswith("removed\n")


def test_whatever_of_the_app_needs_ours_is_named_first_with_statements_that_work_in_their_order(
    app: str, server: EmbeddedPostgres, root: Path
) -> None:
    filled(app, root)
    run(app, NEEDS_OURS)
    before = dump(server)
    command = Command({"DATABASE_URL": app})
    stopped = command.run("uninstall", "--yes", status=1)
    assert dump(server) == before
    assert str(stopped.exception) == "nothing was removed: first remove or move 10 objects, in this order"
    assert "a restrictive policy of public.notes needs an object of this project; without it" in stopped.stdout
    assert "cascade" not in stopped.output.lower()
    statements = [line.removeprefix("  -> ") for line in stopped.stdout.splitlines() if line.startswith("  -> ")]
    assert "alter table public.profiles drop constraint profiles_id_fkey;" in statements
    assert "alter table clerk.prices set schema public;" in statements
    run(app, "insert into public.copies select u from clerk.users as u")
    for statement in statements:
        run(app, statement)
    with psycopg.connect(app) as connection:
        assert rows(connection, "select count(*) from public.copies where u like '%user_1%'") == [(1,)]
    assert command.run("uninstall", "--yes").stdout.endswith("removed\n")


def test_a_table_that_was_secured_keeps_its_rows_and_is_never_opened(app: str, root: Path) -> None:
    filled(app, root)
    run(app, "create table public.tasks (name text)")
    run(app, "select clerk_sync.secure('public.tasks', 'user', plan => 'user:pro', feature => 'user:docs')")
    run(app, "insert into public.tasks values ('one', 'user_1')")
    said = Command({"DATABASE_URL": app}).run("uninstall", "--yes").stdout
    assert "remove the protection of public.tasks: row-level security stays on: without a policy only" in said
    assert "  drop policy clerk_sync_select on public.tasks;\n" in said
    with psycopg.connect(app) as connection:
        assert rows(connection, "select name, user_id from public.tasks") == [("one", "user_1")]
        assert value(connection, "select relrowsecurity from pg_class where oid = 'public.tasks'::regclass") is True
        connection.execute("""set local request.jwt.claims = '{"sub": "user_1"}'""")
        connection.execute("set local role authenticated")
        assert rows(connection, "select * from public.tasks") == []


def test_an_app_that_used_every_command_keeps_its_ids_and_closed_tables_and_nothing_else(
    app: str, server: EmbeddedPostgres, root: Path, tmp_path: Path
) -> None:
    run(app, "alter table public.accounts add column clerk_id text unique")
    run(app, "create table public.files (name text, owner uuid references public.accounts)")
    before = dump(server)
    filled(app, root)
    run(app, "update clerk.users set email = 'ada@example.com', email_verified = true where clerk_id = 'user_1'")
    mapping = tmp_path / "adopt.toml"
    mapping.write_text(
        '[users]\ntable = "public.accounts"\nkey = "clerk_id"\nupdate = ["email"]\ninsert = false\nguard = true\n'
    )
    command = Command({"DATABASE_URL": app})
    command.run("expose")
    command.run("secure", "--profiles", "nobody")
    secured = ("secure", "public.files", "user", "--column", "owner", "--through", "public.accounts(id, clerk_id)")
    command.run(*secured)
    for step in ("link", "switch"):
        command.run("adopt", step, "--mapping", str(mapping), "--write")
    assert command.run("uninstall", "--yes").stdout.endswith("removed\n")
    changed = sorted(set(before) ^ set(dump(server)))
    assert [line for line in changed if not line.startswith(("--", "INSERT"))] == [
        "ALTER TABLE public.files ENABLE ROW LEVEL SECURITY;",
        "CREATE INDEX files_owner_idx ON public.files USING btree (owner);",
        "GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.files TO authenticated;",
        "GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.files TO service_role;",
    ]
    # Ada's row before, and with the id.
    linked = [line for line in changed if line.startswith("INSERT")]
    assert [line.endswith(", 'user_1');") for line in linked] == [True, False]


def test_a_role_that_another_database_needs_stays(app: str, server: EmbeddedPostgres, root: Path) -> None:
    filled(app, root)
    other = server.create_database("other")
    try:
        run(other, "create schema of_other; grant usage on schema of_other to clerk_sync_worker")
        said = Command({"DATABASE_URL": app}).run("uninstall", "--yes").stdout
        assert "keep the role clerk_sync_worker: used in the database other\n" in said
        with psycopg.connect(app) as connection:
            assert rows(connection, "select rolname::text from pg_roles where rolname like 'clerk%'") == [
                ("clerk_sync_worker",)
            ]
    finally:
        server.drop_database("other")


def test_a_removal_that_is_stopped_in_the_middle_changes_nothing_and_can_be_repeated(
    app: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locking, "_ATTEMPTS", 2)
    filled(app, root)
    # A table that is made between the question and the removal.
    with open_database(app) as connection:
        assert look(connection, root).stops == []
        run(app, "create table public.late (id text references clerk.users (clerk_id))")
        with pytest.raises(NotUninstalled, match="run the command again"):
            remove(connection, app, root, lambda _: None)
    run(app, "select 1 from clerk.users; drop table public.late")
    with psycopg.connect(app) as reader, open_database(app) as connection:
        reader.execute("select from clerk.users")
        with pytest.raises(LockedByOthers, match="blocked by pid"):
            remove(connection, app, root, lambda _: None, lock_seconds=1)
    assert Command({"DATABASE_URL": app}).run("uninstall", "--yes").stdout.endswith("removed\n")


def test_half_an_installation_and_a_schema_of_another_are_told_apart(app: str, root: Path) -> None:
    assert len(list(islice(migrate(app, root), 1))) == 1
    assert Command({"DATABASE_URL": app}).run("uninstall", "--yes").stdout.endswith("removed\n")
    # A run that was interrupted before the roles.
    run(app, "create role clerk_sync_worker login")
    assert (
        Command({"DATABASE_URL": app}).run("uninstall", "--yes").stdout
        == "remove the role clerk_sync_worker\nremoved\n"
    )
    run(app, "create schema clerk_sync; create table clerk_sync.books (title text); create schema clerk")
    assert (
        Command({"DATABASE_URL": app}).run("uninstall", "--yes").stdout
        == "nothing of this project is in the database\n"
    )
    run(app, "select 1 from clerk_sync.books")
