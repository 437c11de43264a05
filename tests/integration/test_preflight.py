"""`migrate` looks before it touches: everything in its way is named with a remedy, and nothing is changed."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import psycopg
import pytest

from clerk_supabase_cli.local.postgres import EmbeddedPostgres
from clerk_supabase_cli.operate.install.migrations import migrate, prepare_plain_postgres
from clerk_supabase_cli.operate.setup.role_urls import as_role
from tests.kit.databases import Connection, Database, rows
from tests.kit.doctoring import Doctor
from tests.kit.parked import Command

CATALOGUE = """
    select xmin::text from pg_namespace union all select xmin::text from pg_class union all select rolname from pg_roles
"""
BOOKS = "create table clerk_sync.books (title text)"


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedPostgres]:
    """A server of its own, because roles belong to the whole server."""
    with EmbeddedPostgres() as server:
        yield server


@pytest.fixture
def bare(server: EmbeddedPostgres) -> Iterator[str]:
    """The URL of an empty database, as superuser."""
    yield server.create_database("app")
    server.drop_database("app")


@pytest.fixture
def plain(bare: str, root: Path) -> str:
    """A database with Supabase's own objects."""
    prepare_plain_postgres(bare, root)
    return bare


def connect(url: str) -> Connection:
    return psycopg.connect(url, autocommit=True)


def run(url: str, statement: str) -> None:
    with connect(url) as connection:
        connection.execute(statement.encode())


def stopped(url: str) -> str:
    """Runs `migrate` and `migrate --dry-run`, which both must leave the database alone; returns their output."""
    command = Command({"DATABASE_URL": url})
    with connect(url) as connection:
        before = rows(connection, CATALOGUE)
        said = command.run("migrate", status=1)
        tried = command.run("migrate", "--dry-run", status=1)
        assert rows(connection, CATALOGUE) == before
    assert tried.stdout == said.stdout
    assert re.fullmatch(r"nothing was changed, because \d+ things? (is|are) in the way", str(said.exception))
    assert "cascade" not in said.output.lower()
    return said.stdout


def test_a_server_that_is_not_supabase_is_told_by_its_missing_roles(bare: str, root: Path) -> None:
    said = stopped(bare)
    [blocked] = Command({"DATABASE_URL": bare}).json("migrate", status=1)["in_the_way"]
    assert f"in the way: {blocked['found']}\n" in said
    assert "in the way: the server has no role anon, authenticated, service_role: it is not Supabase\n" in said
    assert "sql/plain_postgres.sql" in said
    Command({"DATABASE_URL": bare}).run("migrate", "--plain-postgres")


def test_the_schema_of_supabases_wrapper_is_recognised_and_another_name_is_advised(plain: str) -> None:
    run(
        plain,
        "create foreign data wrapper clerk_wrapper; create server clerk_server foreign data wrapper clerk_wrapper",
    )
    run(plain, "create schema clerk; create foreign table clerk.users (id text) server clerk_server")
    assert stopped(plain) == (
        "in the way: the schema clerk is there, and is not this project's: it holds the foreign tables of the server "
        "clerk_server, as Supabase's guide to its Clerk wrapper makes them (the foreign table clerk.users)\n"
        "  -> take another name for the mirror, and leave the schema as it is: clerk-supabase migrate --schema NAME\n"
    )


@pytest.mark.parametrize(
    ("made", "found", "remedy"),
    [
        ("create schema clerk", "the schema clerk is there already, without any object", "drop schema clerk"),
        ("create schema clerk; create table clerk.users (id text)", "the table clerk.users", ""),
        (f"create schema clerk_sync; {BOOKS}", "the table clerk_sync.books", "alter schema clerk_sync rename to spare"),
        (
            "create schema clerk_sync; create table clerk_sync.migrations (version text)",
            "the table clerk_sync.migrations",
            "alter schema clerk_sync rename to spare",
        ),
    ],
)
def test_a_schema_of_another_is_named_and_the_remedy_works(
    made: str, found: str, remedy: str, plain: str, root: Path
) -> None:
    run(plain, made)
    said = stopped(plain)
    assert found in said
    assert remedy.replace("spare", "another_name") in said
    verdict, words = Doctor({"DATABASE_URL": plain}).verdict("migrations")
    assert verdict == "fail"
    assert found in words
    if remedy:
        run(plain, remedy)
        Command({"DATABASE_URL": plain}).run("migrate", "--dry-run")


def test_each_right_that_is_missing_is_named_at_once_and_the_remedies_work(plain: str, root: Path) -> None:
    with connect(plain) as connection:
        connection.execute("drop role if exists clerk_sync_worker, clerk_sync_session")
        connection.execute("create role clerk_sync_worker login")
        connection.execute("create role poor login password 'poor'")
    url = as_role(plain, "poor", "poor")
    said = stopped(url)
    assert [line.partition(": ")[2] for line in said.splitlines() if line.startswith("in the way")] == [
        "poor may not create a schema in the database app",
        "poor may not create the role clerk_sync_session",
        "the role clerk_sync_worker exists already (of another database of this server?), and poor may not alter it",
        "poor may not grant authenticated to clerk_sync_session: it lacks the admin option on authenticated",
    ]
    try:
        for remedy in re.findall(r"as (?:a superuser|postgres): ([^\n]*?)(?:; or connect as [^\n]*)?\n", said):
            run(plain, remedy)
        assert list(migrate(url, root))
        assert Command({"DATABASE_URL": url}).run("migrate").stdout == "up to date\n"
        # Then another role comes, which does not own the schema.
        run(plain, "delete from clerk_sync.migrations where name like '0024%'")
        run(plain, "create role other login password 'x' createrole")
        run(plain, "grant usage on schema clerk_sync to other; grant select on clerk_sync.migrations to other")
        run(plain, "create policy all_names on clerk_sync.migrations using (true)")
        assert "the schema clerk_sync belongs to poor, and other is no member of poor" in stopped(
            as_role(plain, "other", "x")
        )
    finally:
        run(plain, "drop owned by poor, other; drop role poor, other")


def test_a_read_only_database_is_named(plain: str) -> None:
    run(plain, "alter database app set default_transaction_read_only = on")
    assert "the database is read-only" in stopped(plain)


def test_an_event_trigger_is_a_note_and_stops_nothing(plain: str, root: Path) -> None:
    run(plain, "create function audit() returns event_trigger language plpgsql as 'begin end'")
    run(plain, "create event trigger watch on ddl_command_end execute function audit()")
    said = Command({"DATABASE_URL": plain}).run("migrate", "--dry-run")
    assert "note: the event trigger watch runs public.audit at every statement of a migration" in said.stderr
    assert f"{len(list(_names(root)))} would be applied" in said.stdout


# Restored without rows


def test_a_schema_that_was_restored_without_rows_and_roles_is_recognised_and_repaired(
    server: EmbeddedPostgres, plain: str, shared_database: Database
) -> None:
    run(plain, "drop role if exists clerk_sync_worker, clerk_sync_session")
    dump = [str(server.binaries / "pg_dump"), "--schema-only", shared_database.url]
    written = subprocess.run(dump, capture_output=True, check=True).stdout
    # Goes on after the grants to roles that are missing.
    subprocess.run([str(server.binaries / "psql"), "-q", plain], input=written, capture_output=True, check=True)

    command = Command({"DATABASE_URL": plain})
    for arguments in (["migrate"], ["migrate", "--dry-run"]):
        said = command.run(*arguments, status=1)
        assert "restored without rows?" in str(said.exception)
        assert "the row kind user is missing\n" in said.stdout
        assert "the role clerk_sync_worker is missing\n" in said.stdout
    assert "restored without rows?" in command.run("status", status=1).output
    verdict, words = Doctor({"DATABASE_URL": plain}).verdict("migrations")
    assert (verdict, "clerk-supabase migrate --repair" in words) == ("fail", True)

    assert "the row kind user is missing" in command.json("migrate", status=1)["differences"]
    planned = command.json("migrate", "--repair", "--dry-run")["statements"]
    tried = command.run("migrate", "--repair", "--dry-run").stdout
    assert tried == "".join(f"{statement};\n" for statement in planned)
    assert command.run("migrate", "--repair").stdout == tried
    assert command.run("migrate").stdout == "up to date\n"
    with connect(plain) as restored, shared_database.connect() as original:
        for of_rows in (
            "select * from clerk_sync.kinds order by 1",
            "select name, checksum from clerk_sync.migrations",
        ):
            assert rows(restored, of_rows) == rows(original, of_rows)


# Interrupted, and run again


@pytest.mark.parametrize("files", [1, 12])
def test_a_run_that_was_killed_between_two_files_goes_on(files: int, plain: str, root: Path) -> None:
    names = list(islice(migrate(plain, root), files))
    rest = Command({"DATABASE_URL": plain}).run("migrate").stdout.splitlines()[:-1]
    assert [*names, *(line.removeprefix("applied ") for line in rest)] == list(_names(root))


def test_a_run_whose_session_is_killed_inside_a_file_leaves_nothing_of_the_file(
    plain: str, root: Path, tmp_path: Path
) -> None:
    shutil.copytree(root / "sql", tmp_path / "sql")
    file = tmp_path / "sql/migrations/0009_create_identifiers.sql"
    text = file.read_text(encoding="utf-8")
    middle = text.index("\ncreate ", len(text) // 2)
    file.write_text(f"{text[:middle]}\nselect pg_terminate_backend(pg_backend_pid());{text[middle:]}", encoding="utf-8")
    with pytest.raises(Exception, match=r"0009_create_identifiers|cannot be reached"):
        list(migrate(plain, tmp_path))
    assert next(migrate(plain, root)) == "0009_create_identifiers"


def _names(root: Path) -> Iterator[str]:
    return (file.stem for file in sorted((root / "sql" / "migrations").glob("*.sql")))


def half_applied(url: str, root: Path, statement: str) -> None:
    assert len(list(islice(migrate(url, root), 1))) == 1
    run(url, statement)


def test_status_and_doctor_of_a_half_applied_database_name_what_is_in_the_way_and_not_migrate_alone(
    plain: str, root: Path
) -> None:
    half_applied(plain, root, "create table clerk.users (id text)")
    found = "0002_create_users: the table clerk.users already exists"
    said = stopped(plain)
    assert found in said
    assert "if the app made it: alter table clerk.users set schema public" in said
    status = Command({"DATABASE_URL": plain}).run("status", status=1)
    assert found in status.output.replace("\n", " ")
    assert "run: clerk-supabase migrate" not in status.output
    verdict, words = Doctor({"DATABASE_URL": plain}).verdict("migrations")
    assert (verdict, found in words, "-> clerk-supabase migrate\n" in words) == ("fail", True, False)

    run(plain, "alter table clerk.users set schema public")
    assert "from 0002_create_users on; run: clerk-supabase migrate" in Command({"DATABASE_URL": plain}).run(
        "status", status=1
    ).output.replace("\n", " ")
    assert len(list(migrate(plain, root))) == len(list(_names(root))) - 1
