"""Applies the SQL files of sql/migrations, once each and in order."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg
from psycopg import sql

from clerk_supabase.connection_failures import failure, is_about_the_connection
from clerk_supabase_cli.database import connect, open_database
from clerk_supabase_cli.failure import Failure
from clerk_supabase_cli.objects.comparison import Difference, differences
from clerk_supabase_cli.objects.manifest import Manifest, read_manifest
from clerk_supabase_cli.objects.repair import repair

# Any number will do, as long as every version of this command takes the same.
_LOCK: Final = 6_338_025_110_772_912
# Not to_regclass(): it remembers that there was no such schema, while this session waits for another that makes it.
_HAS_LIST: Final = """
    select exists (
        select from pg_catalog.pg_class as c inner join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
        where n.nspname = 'clerk_sync' and c.relname = 'migrations'
    )
"""
_ADOPT: Final = "update clerk_sync.migrations set checksum = %s where name = %s and checksum is null"
# Objects of ours beside the list itself, which the first migration makes before anything else.
_HAS_OBJECTS: Final = """
    select exists (select from pg_catalog.pg_proc as p where p.pronamespace = to_regnamespace('clerk_sync'))
    or exists (
        select from pg_catalog.pg_class as c
        where c.relnamespace = to_regnamespace('clerk_sync') and c.relkind in ('r', 'v') and c.relname <> 'migrations'
    )
"""
_REPAIR: Final = "clerk-supabase migrate --repair --dry-run says what would make it so, and --repair does it"
_IS_THERE: Final = (
    psycopg.errors.DuplicateTable,
    psycopg.errors.DuplicateFunction,
    psycopg.errors.DuplicateObject,
    psycopg.errors.DuplicateSchema,
    psycopg.errors.DuplicateColumn,
)


class MigrationFailed(Failure):
    """A migration could not be applied; the database is as it was before that file."""


class ObjectsDiffer(MigrationFailed):
    """The objects of the database are not those that the migrations make."""

    def __init__(self, reason: str, found: Sequence[Difference]) -> None:
        super().__init__(reason)
        self.found = found


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


def migrate(url: str, root: Path, *, is_trial: bool = False) -> Iterator[str]:
    """Applies what is missing, each file in a transaction of its own; yields the name of each one it applied.

    *is_trial*: all files in one transaction, of which nothing stays. Several at once are safe: they wait for each
    other. Raises MigrationFailed when a file fails, or when one that was applied has changed since; nothing after it is
    applied then. Raises ObjectsDiffer when the objects are not those that the migrations make, whatever tool applied
    them. Raises DatabaseFailed when nobody is let in.
    """
    with open_database(url) as connection:
        if not is_trial:
            yield from _migrate(connection, root)
            return
        with connection.transaction(force_rollback=True):
            yield from _migrate(connection, root)


def _migrate(connection: psycopg.Connection, root: Path) -> Iterator[str]:
    migrations = read_migrations(root)
    with connection.transaction():
        # Another migrate may be at work: between two of its files the list and the objects fit.
        connection.execute("select pg_advisory_xact_lock(%s)", [_LOCK])
        _refuse_other_versions(connection, root)
    yield from apply_missing(connection, migrations)
    if found := differing_objects(connection, root):
        raise ObjectsDiffer(
            f"{_objects(found)} not as the migrations of this checkout make them: {_REPAIR}",
            found,
        )
    # Only now: psql or `supabase db push` may have applied another version of the files.
    for migration in migrations:
        connection.execute(_ADOPT, [migration.checksum, migration.name])


def newer_than(files: Collection[str], recorded: Iterable[str]) -> list[str]:
    """Names in the list of a database that no file has, and whose numbers are higher than those of the files."""
    return sorted(name for name in recorded if name not in files and name > max(files))


def has_objects(connection: psycopg.Connection) -> bool:
    """Tells whether anything of this project is in the database, beside the list of migrations."""
    [(has_objects,)] = connection.execute(_HAS_OBJECTS).fetchall()
    return bool(has_objects)


def differing_objects(connection: psycopg.Connection, root: Path) -> list[Difference]:
    """The objects of a database that are not as the migrations of the checkout make them.

    Raises MigrationFailed when the checkout's own list of objects is out of date.
    """
    return differences(connection, _current_manifest(root))


def _current_manifest(root: Path) -> Manifest:
    manifest = read_manifest(root)
    checksums = {migration.name: migration.checksum for migration in read_migrations(root)}
    if manifest.migrations.items() - checksums.items():
        raise MigrationFailed("sql/objects.json was made from other files than sql/migrations has: run `make objects`")
    return manifest


def repair_database(url: str, root: Path, *, is_trial: bool) -> list[str]:
    """Makes the objects what the migrations of the checkout make, and writes the list anew; returns the statements.

    All of it or nothing; *is_trial*: nothing, in the end. Raises NotRepaired, MigrationFailed and DatabaseFailed.
    """
    manifest = _current_manifest(root)
    files = [migration.name for migration in read_migrations(root)]
    with open_database(url) as connection, connection.transaction(force_rollback=is_trial):
        connection.execute("select pg_advisory_xact_lock(%s)", [_LOCK])
        if newer := newer_than(files, applied(connection)):
            raise MigrationFailed(_of_newer_version(newer))
        if not has_objects(connection):
            raise MigrationFailed("there is nothing to repair, because nothing is there: clerk-supabase migrate")
        statements = list(repair(connection, manifest))
        return statements + _write_list(connection, root, manifest)


def _write_list(connection: psycopg.Connection, root: Path, manifest: Manifest) -> list[str]:
    """Lists the migrations that made the objects, and no other version's; what the app has added to the list stays."""
    recorded = applied(connection)
    files = {migration.name for migration in read_migrations(root)}
    statements = [
        sql.SQL("delete from clerk_sync.migrations where name = {}").format(name)
        for name in sorted(recorded.keys() - files)
    ]
    statements += [
        sql.SQL(
            "insert into clerk_sync.migrations (name, checksum) values ({}, {}) "
            "on conflict (name) do update set checksum = excluded.checksum"
        ).format(name, checksum)
        for name, checksum in manifest.migrations.items()
        if recorded.get(name) != checksum
    ]
    for statement in statements:
        connection.execute(statement)
    return [statement.as_string(connection) for statement in statements]


def _refuse_other_versions(connection: psycopg.Connection, root: Path) -> None:
    """Raises MigrationFailed for a database that no file can be applied to, and says where it comes from."""
    recorded = applied(connection)
    files = {migration.name: migration.checksum for migration in read_migrations(root)}
    if newer := newer_than(files, recorded):
        raise MigrationFailed(_of_newer_version(newer))
    if not recorded and has_objects(connection):
        found = differences(connection, read_manifest(root))
        what = f"{_objects(found)} not as this checkout makes them" if found else "all objects are as they must be"
        raise ObjectsDiffer(
            "the database has objects of clerk_sync, and no list of the migrations that made them "
            f"(restored without rows?); {what}: {_REPAIR}",
            found,
        )
    changed = [name for name, checksum in recorded.items() if checksum and files.get(name, checksum) != checksum]
    if others := sorted({*changed, *(recorded.keys() - files)}):
        found = differences(connection, read_manifest(root))
        what = f"{_objects(found)} not as it makes them now" if found else "all objects are as it makes them now"
        raise ObjectsDiffer(
            f"{', '.join(others)} was changed after it had been applied, or is of another version; {what}. Whoever "
            "changed a file puts it back as it was, and writes the change as a new migration. For a database of an "
            f"older version: {_REPAIR}",
            found,
        )


def _of_newer_version(newer: Sequence[str]) -> str:
    return f"the database is of a newer version than this checkout, with {', '.join(newer)}: check that version out"


def _objects(found: Sequence[Difference]) -> str:
    return "1 object is" if len(found) == 1 else f"{len(found)} objects are"


def apply_missing(connection: psycopg.Connection, migrations: Sequence[Migration]) -> Iterator[str]:
    """Applies the migrations that the list of the database lacks; yields the name of each one it applied.

    Raises MigrationFailed.
    """
    for migration in migrations:
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
    [(has_list,)] = connection.execute(_HAS_LIST).fetchall()
    if not has_list:
        return {}
    return dict(connection.execute("select name, checksum from clerk_sync.migrations").fetchall())


def _is_applied(connection: psycopg.Connection, migration: Migration) -> bool:
    return migration.name in applied(connection)


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
    if isinstance(error, _IS_THERE):
        message = f"{message}; if this project made it, the list of migrations is incomplete: {_REPAIR}"
    if error.diag.statement_position is None:
        return message
    line = migration.text.count("\n", 0, int(error.diag.statement_position) - 1) + 1
    return f"line {line}: {message}"
