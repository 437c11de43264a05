"""Servers of Postgres for tests, as copies of data folders that were made once."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import psycopg

from clerk_supabase_cli.local.postgres import SUPERUSER, EmbeddedPostgres
from clerk_supabase_cli.local.processes import Guard
from clerk_supabase_cli.operate.objects.manifest import write_manifest
from tests.kit import servers
from tests.kit.databases import SESSION, Connection, Database, Databases, _everything_but_rows
from tests.kit.kept_sessions import KeptSessions
from tests.kit.objects import made_by_migrations
from tests.kit.supabase import Supabase

_STATISTICS = "select funcname, calls from pg_stat_user_functions"


@dataclass(frozen=True)
class Prepared:
    """Folders with the data of a server: without our objects, and with a migrated database."""

    plain: Path
    migrated: Path
    password: str
    worker_password: str
    template: str


class _Copied(EmbeddedPostgres):
    def __init__(self, folder: Path, password: str, more: dict[str, str]) -> None:
        super().__init__(settings=servers._SETTINGS | more, data_in=servers._memory())
        self._from = folder
        self.password = password

    def _initialise(self, guard: Guard) -> None:  # noqa: ARG002 - as in the base
        subprocess.run(["cp", "-a", f"{self._from}/.", str(self._data)], check=True)


class PreparedDatabases(Databases):
    """Databases of a server whose template has been migrated before."""

    def __init__(self, server: EmbeddedPostgres, template: str, worker_password: str) -> None:
        self.server = server
        self.worker_password = worker_password
        self.pooler_port = 0
        self._names = (f"mutated_{number}" for number in range(1, 1_000_000))
        self._free: list[Database] = []
        self._caretakers: dict[str, Connection] = {}
        self._workers = KeptSessions()
        self._template = template
        self.called: set[str] = set()
        self._calls: dict[str, dict[str, int]] = {}
        with psycopg.connect(server.url(template)) as connection:
            self._as_migrated = _everything_but_rows(connection)

    def give_back(self, database: Database) -> None:
        if PreparedServer.is_recording:
            calls = self._read_calls(database)
            before = self._calls.get(database.name, {})
            self.called |= {name for name, count in calls.items() if count > before.get(name, 0)}
        super().give_back(database)
        if PreparedServer.is_recording and database in self._free:
            self._calls[database.name] = self._read_calls(database)

    def _read_calls(self, database: Database) -> dict[str, int]:
        try:
            with database.connect() as connection:
                connection.execute(
                    "select pg_terminate_backend(pid, 1000) from pg_stat_activity"
                    " where datname = current_database() and pid <> pg_backend_pid() and usename <> %s",
                    [SUPERUSER],
                )
                connection.execute("select pg_stat_force_next_flush()")
                return dict(connection.execute(_STATISTICS).fetchall())
        except psycopg.Error:
            return {}


class PreparedServer(servers.Server):
    """A server of the newest version starts from a copy."""

    prepared: ClassVar[Prepared]
    is_recording: ClassVar[bool] = False
    mutated: ClassVar[PreparedDatabases | None] = None
    """Databases with the migrations of a mutant."""
    made: ClassVar[list[PreparedDatabases]] = []

    @cached_property
    def postgres(self) -> EmbeddedPostgres:
        if self.mutated is not None:
            return self.mutated.server
        more = {"track_functions": "all"} if self.is_recording else {}
        return self._undo.enter_context(_Copied(self.prepared.migrated, self.prepared.password, more))

    @cached_property
    def databases(self) -> Databases:
        databases = self.mutated or PreparedDatabases(
            self.postgres, self.prepared.template, self.prepared.worker_password
        )
        self.made.append(databases)
        self._undo.callback(databases.close)
        return databases

    @cached_property
    def supabase(self) -> Supabase:
        return Supabase(self._undo.enter_context(_Copied(self.prepared.plain, self.prepared.password, {})), self._root)


def use(prepared: Prepared, *, is_recording: bool) -> None:
    """Let the fixtures of this process take copies."""
    PreparedServer.prepared = prepared
    PreparedServer.is_recording = is_recording
    servers.Server = PreparedServer  # type: ignore[misc]


def migrate_mutant(root: Path, undo: ExitStack) -> None:
    """Migrate a server for all tests of this process, and write the list of objects. Raises Failure, psycopg.Error."""
    prepared = PreparedServer.prepared
    server = undo.enter_context(_Copied(prepared.plain, prepared.password, {}))
    url = server.create_database(prepared.template)
    write_manifest(root, made_by_migrations(root, url))
    databases = PreparedDatabases(server, prepared.template, prepared.worker_password)
    _set_passwords(databases, prepared.worker_password)
    PreparedServer.mutated = databases


def _set_passwords(databases: Databases, password: str) -> None:
    databases.set_worker_password(password)
    databases._set_password(SESSION, password)


@contextmanager
def prepare(root: Path) -> Iterator[Prepared]:
    """Make both folders, which exist as long as the `with` block."""
    with Guard() as guard:
        folder = guard.folder("mutate-data-", servers._memory())
        # Servers run as another user.
        folder.chmod(0o755)
        plain, migrated = folder / "plain", folder / "migrated"
        with EmbeddedPostgres(settings=servers._SETTINGS, data_in=servers._memory()) as server:
            with psycopg.connect(server.url(), autocommit=True) as connection:
                # Anew, with the cheaper hash of the tests' settings.
                connection.execute(
                    psycopg.sql.SQL("alter role {} password {}").format(
                        psycopg.sql.Identifier(SUPERUSER), psycopg.sql.Literal(server.password)
                    )
                )
            _copy(server, plain)
            databases = Databases(server, root)
            databases.close()
            _copy(server, migrated)
            yield Prepared(plain, migrated, server.password, databases.worker_password, databases._template)


def _copy(server: EmbeddedPostgres, folder: Path) -> None:
    server.stop()
    subprocess.run(["cp", "-a", str(server._data), str(folder)], check=True)
    (folder / "postmaster.pid").unlink(missing_ok=True)
    server.start()
    assert shutil.disk_usage(folder).free > 0
