"""The migrations also go through Supabase's own command, and both tools recognise each other's migrations."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from clerk_supabase_cli.local.postgres import EmbeddedPostgres
from clerk_supabase_cli.operate.install.migrations import applied, migrate, prepare_plain_postgres, read_migrations
from tests.kit.databases import Databases, rows
from tests.outside.programs import installed

_PATIENCE_SECONDS = 60


class Supabase:
    """The command, in a project whose migrations it manages."""

    def __init__(self, program: Path, folder: Path) -> None:
        self._program = program
        self._folder = folder
        self.migrations = folder / "supabase" / "migrations"
        self.migrations.mkdir(parents=True)

    def copy_migrations(self, root: Path, number: int | None = None) -> None:
        """Copies the files unchanged, as the README says. *number*: only the first files."""
        for file in sorted((root / "sql" / "migrations").glob("*.sql"))[:number]:
            shutil.copy(file, self.migrations)

    def run(self, command: str, url: str, *, status: int = 0) -> str:
        """The output of the command; the command must end with this status."""
        where = ["--db-url", f"{url}?sslmode=disable", "--workdir", str(self._folder), "--yes"]
        done = subprocess.run(
            [str(self._program), *command.split(), *where],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_PATIENCE_SECONDS,
            env={"HOME": str(self._folder), "PATH": os.defpath, "DO_NOT_TRACK": "1"},
            check=False,
        )
        assert done.returncode == status, done.stdout
        return done.stdout


@pytest.fixture
def supabase(root: Path, tmp_path: Path) -> Supabase:
    """A project without a migration."""
    return Supabase(installed(root, "npm/node_modules/@supabase/cli-linux-x64/bin/supabase"), tmp_path)


@pytest.fixture
def plain(new_database: str, root: Path) -> str:
    """A database with Supabase's own objects, and none of our migrations."""
    prepare_plain_postgres(new_database, root)
    return new_database


def names(root: Path) -> list[str]:
    return [migration.name for migration in read_migrations(root)]


def schema(server: EmbeddedPostgres, url: str) -> str:
    """Everything in a database but rows, and the records of Supabase's command."""
    command = [str(server.binaries / "pg_dump"), "--schema-only", "--exclude-schema=supabase_migrations", url]
    dump = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "create policy" in dump.lower()
    # Each dump has a secret of its own there.
    return re.sub(r"(?m)^\\(un)?restrict .*$", "", dump)


def kinds(url: str) -> list[tuple[object, ...]]:
    """The rows that the migrations write into a table."""
    with psycopg.connect(url) as connection:
        return rows(connection, "select k::text from clerk_sync.kinds as k order by kind")


def test_supabase_db_push_makes_what_migrate_makes(
    plain: str, supabase: Supabase, root: Path, databases: Databases
) -> None:
    supabase.copy_migrations(root)
    supabase.run("db push", plain)

    by_migrate = databases.server.url(databases.create())
    prepare_plain_postgres(by_migrate, root)
    assert list(migrate(by_migrate, root)) == names(root)
    assert schema(databases.server, plain) == schema(databases.server, by_migrate)
    assert kinds(plain) == kinds(by_migrate)

    # Each knows what the other has done.
    assert list(migrate(plain, root)) == []
    assert "up to date" in supabase.run("db push", plain)


def test_a_push_that_is_cut_off_is_finished_by_the_next_and_brings_an_older_database_up_to_date(
    plain: str, supabase: Supabase, root: Path
) -> None:
    older = len(names(root)) - 3
    supabase.copy_migrations(root, older)
    supabase.run("db push", plain)
    supabase.copy_migrations(root)
    with psycopg.connect(plain, autocommit=True) as admin:
        # In the middle of the second one of them.
        statements = sql.SQL(
            """
            create function public.cut() returns event_trigger language plpgsql as $$
            begin
                if (select count(*) from clerk_sync.migrations) = {} then
                    perform pg_terminate_backend(pg_backend_pid());
                end if;
            end $$;
            create event trigger cut on ddl_command_end execute function public.cut();
            """
        )
        admin.execute(statements.format(sql.Literal(older + 1)))
        supabase.run("db push", plain, status=1)
        assert sorted(applied(admin)) == names(root)[: older + 1]
        admin.execute("drop event trigger cut")
    supabase.run("db push", plain)
    # Which compares the objects, too.
    assert list(migrate(plain, root)) == []


def test_supabases_repair_command_marks_the_migrations_of_migrate_as_applied(
    plain: str, supabase: Supabase, root: Path
) -> None:
    list(migrate(plain, root))
    supabase.copy_migrations(root)
    refused = supabase.run("db push", plain, status=1)
    versions = " ".join(name.partition("_")[0] for name in names(root))
    advice = f"migration repair --status applied {versions}"
    assert f"supabase {advice}" in refused

    supabase.run(advice, plain)
    assert "up to date" in supabase.run("db push", plain)


def test_beside_migrations_of_the_app_the_numbers_come_first(plain: str, supabase: Supabase, root: Path) -> None:
    (supabase.migrations / "20240101000000_app.sql").write_text("create table public.app (id int);")
    supabase.run("db push", plain)
    supabase.copy_migrations(root)
    assert "--include-all" in supabase.run("db push", plain, status=1)
    supabase.run("db push --include-all", plain)
    assert list(migrate(plain, root)) == []


def test_an_app_that_pushes_its_own_migrations_does_not_see_those_of_migrate(
    plain: str, supabase: Supabase, root: Path
) -> None:
    list(migrate(plain, root))
    policy = "create table public.notes (id int); select clerk_sync.secure('public.notes', 'user');"
    (supabase.migrations / "20240101000000_notes.sql").write_text(policy)
    supabase.run("db push", plain)
    assert list(migrate(plain, root)) == []
