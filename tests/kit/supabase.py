"""Databases as near to Supabase's as a plain Postgres gets, whose owner is no superuser."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg
from psycopg import sql

from clerk_supabase_cli.local.postgres import EmbeddedPostgres
from clerk_supabase_cli.operate.install.migrations import migrate, prepare_plain_postgres

OWNER: Final = "project_owner"
_FILES: Final = Path("sql") / "tests" / "databases"


@dataclass(frozen=True)
class Project:
    """Files of sql/tests/databases about rights, which the owner of the project runs before or after the migrations."""

    name: str
    before_migrations: tuple[str, ...] = ()
    after_migrations: tuple[str, ...] = ()


PROJECTS: Final = (
    Project("granted by default", ("granted_by_default",)),
    Project("not granted by default", ("not_granted_by_default",)),
    Project("no execute by default", ("not_granted_by_default", "no_execute_by_default")),
    Project("execute revoked", ("granted_by_default",), ("execute_revoked",)),
)


class Supabase:
    """A server with Supabase's roles. All databases of a server share its roles, so other tests use another server."""

    def __init__(self, server: EmbeddedPostgres, root: Path) -> None:
        self._server = server
        self._root = root
        self._urls: dict[Project, str] = {}
        self._template = ""

    def url(self, project: Project) -> str:
        """The connection URL of the owner to the migrated database of a project, made at the first call."""
        if project not in self._urls:
            self._urls[project] = self._create(project)
        return self._urls[project]

    @contextmanager
    def new_project(self) -> Iterator[tuple[str, str]]:
        """A project without a table, open to the API by default: the URLs of the superuser and of the owner."""
        if not self._template:
            self._template = "template_of_projects"
            self._prepare(self._template, PROJECTS[0])
        name = "new_project"
        as_superuser = self._server.create_database(name, self._template)
        with psycopg.connect(as_superuser) as connection:
            connection.execute(
                sql.SQL("alter database {} owner to {}").format(sql.Identifier(name), sql.Identifier(OWNER))
            )
        try:
            yield as_superuser, self._server.url(name, OWNER, self._server.password)
        finally:
            self._server.drop_database(name)

    def schema(self, url: str) -> list[str]:
        """Every object of a database, as pg_dump writes it."""
        command = [str(self._server.binaries / "pg_dump"), "--schema-only", url]
        written = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        # Each dump has its own \\restrict.
        return [line for line in written.splitlines() if not line.startswith("\\")]

    def _create(self, project: Project) -> str:
        as_owner = self._prepare(project.name.replace(" ", "_"), project)
        assert list(migrate(as_owner, self._root))
        for file in project.after_migrations:
            self._run(as_owner, file)
        return as_owner

    def _prepare(self, name: str, project: Project) -> str:
        """Makes the database of a project as it is before the migrations; returns the owner's URL."""
        as_superuser = self._server.create_database(name)
        prepare_plain_postgres(as_superuser, self._root)
        self._run(as_superuser, "supabase")
        with psycopg.connect(as_superuser) as connection:
            statement = sql.SQL("alter role {} password {}")
            connection.execute(statement.format(sql.Identifier(OWNER), sql.Literal(self._server.password)))
        as_owner = self._server.url(name, OWNER, self._server.password)
        for file in project.before_migrations:
            self._run(as_owner, file)
        return as_owner

    def _run(self, url: str, file: str) -> None:
        with psycopg.connect(url) as connection:
            connection.execute((self._root / _FILES / f"{file}.sql").read_bytes())
