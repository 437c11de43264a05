"""Applies the SQL files of sql/migrations, once each and in order."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg

from clerk_supabase.connection_failures import failure, is_about_the_connection
from clerk_supabase_cli.database import connect
from clerk_supabase_cli.failure import Failure

# Any number will do, as long as every version of this command takes the same.
_LOCK: Final = 6_338_025_110_772_912


class MigrationFailed(Failure):
    """A migration could not be applied; the database is as it was before that file."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file of sql/migrations. It writes its own name into clerk_sync.migrations, so psql can apply it too."""

    name: str
    text: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the file, hexadecimal."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def read_migrations(root: Path) -> list[Migration]:
    """The migrations of the checkout at *root*, in the order they apply."""
    return [Migration(file.stem, file.read_text()) for file in sorted((root / "sql" / "migrations").glob("*.sql"))]


def prepare_plain_postgres(url: str, root: Path) -> None:
    """Brings what Supabase has and a plain Postgres lacks: the API's roles and auth.jwt(). Harmless to repeat.

    Raises DatabaseFailed.
    """
    with connect(url) as connection:
        connection.execute((root / "sql" / "plain_postgres.sql").read_bytes())


def migrate(url: str, root: Path) -> Iterator[str]:
    """Applies what is missing, each file in a transaction of its own; yields the name of each one it applied.

    Several at once are safe: they wait for each other. Raises MigrationFailed when a file fails, or when one that was
    applied has changed since; nothing after it is applied then. Raises DatabaseFailed when nobody is let in.
    """
    with connect(url, autocommit=True) as connection:
        for migration in read_migrations(root):
            if _apply(connection, migration):
                yield migration.name


def _apply(connection: psycopg.Connection, migration: Migration) -> bool:
    try:
        with connection.transaction():
            # Bound to the transaction, so that it also works, and is given back, through a transaction pooler.
            connection.execute("select pg_advisory_xact_lock(%s)", [_LOCK])
            if _is_applied(connection, migration):
                return False
            connection.execute(migration.text.encode())
            _record_checksum(connection, migration)
    except psycopg.Error as error:
        raise MigrationFailed(f"{migration.name}: {_where(error, migration)}") from error
    return True


def applied(connection: psycopg.Connection) -> dict[str, str | None]:
    """The checksum of every migration this database has, by name; None where another tool applied it."""
    known = connection.execute("select to_regclass('clerk_sync.migrations')").fetchone()
    if known == (None,):
        return {}
    return dict(connection.execute("select name, checksum from clerk_sync.migrations").fetchall())


def _is_applied(connection: psycopg.Connection, migration: Migration) -> bool:
    recorded = applied(connection)
    if migration.name not in recorded:
        return False
    checksum = recorded[migration.name]
    if checksum is None:
        # psql or `supabase db push` applied it; from now on its content is watched.
        _record_checksum(connection, migration)
    elif checksum != migration.checksum:
        raise MigrationFailed(
            f"{migration.name} was changed after it had been applied; "
            "put the file back as it was, and write the change as a new migration"
        )
    return True


def _record_checksum(connection: psycopg.Connection, migration: Migration) -> None:
    updated = connection.execute(
        "update clerk_sync.migrations set checksum = %s where name = %s", [migration.checksum, migration.name]
    )
    if updated.rowcount != 1:
        raise MigrationFailed(
            f"{migration.name} does not record itself; like in the other files, "
            "its last statement must put its name into clerk_sync.migrations"
        )


def _where(error: psycopg.Error, migration: Migration) -> str:
    if is_about_the_connection(error.sqlstate, str(error)):
        return str(failure(str(error)))
    message = error.diag.message_primary or str(error).strip()
    if error.diag.statement_position is None:
        return message
    line = migration.text.count("\n", 0, int(error.diag.statement_position) - 1) + 1
    return f"line {line}: {message}"
