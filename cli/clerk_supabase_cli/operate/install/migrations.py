"""Applies the SQL files of sql/migrations, each once and in order."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg
from psycopg import sql

from clerk_supabase.postgres.failures import failure, is_about_the_connection
from clerk_supabase_cli.failure import Failure
from clerk_supabase_cli.operate.database import open_database
from clerk_supabase_cli.operate.install.mirror import DEFAULT, mirror_schema, recorded_schema, rendered
from clerk_supabase_cli.operate.install.preflight import in_the_way, stopping
from clerk_supabase_cli.operate.install.preflight_names import holds_ours
from clerk_supabase_cli.operate.install.preflight_types import InTheWay, Plan
from clerk_supabase_cli.operate.objects.comparison import Difference, differences
from clerk_supabase_cli.operate.objects.manifest import Manifest, read_manifest
from clerk_supabase_cli.operate.objects.repair import repair
from clerk_supabase_cli.whole_files import write_whole

# An arbitrary number, the same in every version of this command.
_LOCK: Final = 6_338_025_110_772_912
ALONE: Final = f"select pg_advisory_xact_lock({_LOCK})"
"""The statement that waits until no other command changes the schema, for the length of a transaction."""
# The other command may take longer than a statement waits for a lock of the app.
_WAIT_ALONE: Final = f"""
    select
        set_config('lock_timeout', '0', true), pg_advisory_xact_lock({_LOCK}),
        set_config('lock_timeout', b.longest, true)
    from (select current_setting('lock_timeout') as longest offset 0) as b
"""  # noqa: S608
# Not to_regclass(): its cache still lacks the schema while another session, for which this one waits, creates it.
_HAS_LIST: Final = """
    select exists (
        select from pg_catalog.pg_class as c inner join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
        inner join pg_catalog.pg_attribute as a on a.attrelid = c.oid
        where n.nspname = 'clerk_sync' and c.relname = 'migrations' and a.attname = 'checksum'
    )
"""
# Below are the numbers of this project, so that no upgrade takes the number of an app's migration.
_FIRST_OF_THE_APP: Final = "9001"
_ADOPT: Final = "update clerk_sync.migrations set checksum = %s where name = %s and checksum is null"
# Objects of ours besides the list of migrations, which the first migration creates first.
_HAS_OBJECTS: Final = """
    select exists (select from pg_catalog.pg_proc as p where p.pronamespace = to_regnamespace('clerk_sync'))
    or exists (
        select from pg_catalog.pg_class as c
        where c.relnamespace = to_regnamespace('clerk_sync') and c.relkind in ('r', 'v') and c.relname <> 'migrations'
    )
"""
# The preflight only reads; the server makes sure of that.
_READ_ONLY: Final = "set transaction read only"
_REPAIR: Final = "clerk-supabase migrate --repair --dry-run prints the statements of a repair, and --repair runs them"
_WITHOUT_LIST: Final = (
    "the database has objects of clerk_sync, and no list of the migrations that made them (restored without rows?)"
)
_IS_THERE: Final = (
    psycopg.errors.DuplicateTable,
    psycopg.errors.DuplicateFunction,
    psycopg.errors.DuplicateObject,
    psycopg.errors.DuplicateSchema,
    psycopg.errors.DuplicateColumn,
)


Note = Callable[[InTheWay], None]


def _ignore(note: InTheWay) -> None:
    """Takes a note of the preflight, for callers without a terminal."""


class MigrationFailed(Failure):
    """A migration could not be applied; its file changed nothing."""


class NewerDatabase(MigrationFailed):
    """The database is of a newer version than this command."""


class ObjectsDiffer(MigrationFailed):
    """The objects of the database differ from the objects made by the migrations."""

    def __init__(self, reason: str, found: Sequence[Difference]) -> None:
        super().__init__(reason)
        self.found = found


class Blocked(MigrationFailed):
    """Something is in the way of the migrations; nothing was changed."""

    def __init__(self, found: Sequence[InTheWay]) -> None:
        things = "1 thing is" if len(found) == 1 else f"{len(found)} things are"
        super().__init__(
            f"nothing was changed, because {things} in the way: "
            + "; ".join(f"{each.found} -> {each.todo}" for each in found)
        )
        self.found = found


@dataclass(frozen=True, slots=True)
class Migration:
    """A file of sql/migrations. Psql can apply the file, too: its last statement records its name in the database."""

    name: str
    text: str
    schema: str = DEFAULT
    """Name of the mirror's schema in the text."""

    @property
    def checksum(self) -> str:
        """SHA-256 of the file, hexadecimal."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def read_migrations(root: Path, schema: str = DEFAULT) -> list[Migration]:
    """The migrations of the checkout at *root*, in order. *schema*: name of the mirror's schema."""
    files = sorted((root / "sql" / "migrations").glob("*.sql"))
    return [Migration(file.stem, rendered(file.read_text(), schema), schema) for file in files]


def prepare_plain_postgres(url: str, root: Path) -> None:
    """Adds the parts of Supabase missing in a plain Postgres: the API's roles and auth.jwt(). Harmless to repeat.

    Raises DatabaseFailed.
    """
    with open_database(url) as connection, connection.transaction():
        connection.execute((root / "sql" / "plain_postgres.sql").read_bytes())


def migrate(
    url: str, root: Path, *, schema: str | None = None, is_trial: bool = False, note: Note = _ignore
) -> Iterator[str]:
    """Applies the missing migrations, each file in its own transaction; yields the name of each applied file.

    *schema*: name of the mirror's schema, for a database without a mirror; None: the name in the database, or `clerk`.
    *is_trial*: a single transaction for all files, rolled back in the end. *note*: is called with each finding of the
    preflight that does not stop. Several calls at once are safe: each waits for the others. Raises Blocked when the
    preflight finds an obstacle, before the first statement. Raises MigrationFailed when a file fails, after which no
    file is applied; and before any file when an applied file has changed since. Raises ObjectsDiffer when the objects
    differ from the objects made by the migrations, whatever tool applied the files. Raises DatabaseFailed without a
    connection.
    """
    with open_database(url) as connection:
        _look_first(connection, root, schema, note)
        if not is_trial:
            yield from _migrate(connection, root, schema)
            return
        with connection.transaction(force_rollback=True):
            yield from _migrate(connection, root, schema)


def _look_first(connection: psycopg.Connection, root: Path, schema: str | None, note: Note) -> None:
    with connection.transaction():
        connection.execute(_READ_ONLY)
        # Another migrate may be running: between two of its files, the list and the objects agree.
        connection.execute(_WAIT_ALONE)
        _check_name(connection, schema)
        _refuse_other_versions(connection, root)
        found = obstacles(connection, root, schema)
    if stops := stopping(found):
        raise Blocked(stops)
    for each in found:
        note(each)


def obstacles(connection: psycopg.Connection, root: Path, schema: str | None = None) -> list[InTheWay]:
    """The findings of the preflight for the missing migrations of the checkout.

    *schema*: name of the mirror's schema; None: the name in the database, or `clerk`.
    """
    recorded = applied(connection)
    mirror = schema or mirror_schema(connection)
    texts = {migration.name: migration.text for migration in read_migrations(root, mirror)}
    plan = Plan(
        {name: text for name, text in texts.items() if name in recorded},
        {name: text for name, text in texts.items() if name not in recorded},
        mirror,
    )
    return in_the_way(connection, plan, read_manifest(root).rendered(mirror))


def why_incomplete(connection: psycopg.Connection, root: Path) -> str:
    """A sentence for a database that lacks tables or functions: the missing migrations, and everything in their way."""
    recorded = applied(connection)
    missing = [migration.name for migration in read_migrations(root) if migration.name not in recorded]
    if is_restored_without_list(connection, root):
        return f"{_WITHOUT_LIST}; {_REPAIR}"
    if stops := stopping(obstacles(connection, root)):
        ways = "; ".join(f"{each.found} -> {each.todo}" for each in stops)
        return f"{len(missing)} migrations are not applied, and something is in their way: {ways}"
    if missing:
        return f"{len(missing)} migrations are not applied, from {missing[0]} on; run: clerk-supabase migrate"
    return f"all migrations are recorded, but objects are missing; {_REPAIR}"


def _migrate(connection: psycopg.Connection, root: Path, schema: str | None) -> Iterator[str]:
    migrations = read_migrations(root, schema or mirror_schema(connection))
    yield from apply_missing(connection, migrations)
    if found := differing_objects(connection, root):
        raise ObjectsDiffer(
            f"{_objects(found)} not as the migrations of this version make them: {_REPAIR}",
            found,
        )
    # Only after the comparison: psql or `supabase db push` may have applied another version of the files.
    for migration in migrations:
        connection.execute(_ADOPT, [migration.checksum, migration.name])


def _check_name(connection: psycopg.Connection, schema: str | None) -> None:
    """Raises MigrationFailed for another name than the name in the database."""
    recorded = recorded_schema(connection)
    if schema is not None and recorded not in (None, schema):
        raise MigrationFailed(
            f"the mirror of this database is in the schema {recorded}, and its schema cannot be changed: "
            f"leave --schema {schema} out"
        )


def is_of_the_app(name: str) -> bool:
    """Tells whether a migration is the app's own: its number is 9001 or higher."""
    return name >= _FIRST_OF_THE_APP


def newer_than(files: Collection[str], recorded: Iterable[str]) -> list[str]:
    """The recorded names without a file, and with a higher number than every file of this project."""
    newest = max(name for name in files if not is_of_the_app(name))
    return sorted(name for name in recorded if name not in files and name > newest)


def has_objects(connection: psycopg.Connection) -> bool:
    """Tells whether the database has objects of this project besides the list of migrations."""
    [(has_objects,)] = connection.execute(_HAS_OBJECTS).fetchall()
    return bool(has_objects)


def is_restored_without_list(connection: psycopg.Connection, root: Path) -> bool:
    """Tells whether the database has objects of ours, and no row in the list of migrations."""
    manifest = read_manifest(root).rendered(mirror_schema(connection))
    return not applied(connection) and has_objects(connection) and holds_ours(connection, manifest)


def differing_objects(connection: psycopg.Connection, root: Path) -> list[Difference]:
    """The differences between the objects of a database and the migrations of the checkout.

    Raises NewerDatabase, whose objects this version does not know, and MigrationFailed when sql/objects.json is out of
    date.
    """
    files = [migration.name for migration in read_migrations(root)]
    if newer := newer_than(files, applied(connection)):
        raise NewerDatabase(_of_newer_version(newer))
    return differences(connection, _current_manifest(root, mirror_schema(connection)))


def _current_manifest(root: Path, schema: str) -> Manifest:
    manifest = read_manifest(root)
    checksums = {migration.name: migration.checksum for migration in read_migrations(root)}
    if manifest.migrations.items() - checksums.items():
        raise MigrationFailed("sql/objects.json was made from other files than sql/migrations: run `make objects`")
    return manifest.rendered(schema)


def repair_database(url: str, root: Path, *, is_trial: bool) -> list[str]:
    """Repairs the objects by the migrations of the checkout, and corrects the list; returns the statements.

    All or nothing; *is_trial*: nothing stays. Raises NotRepaired, MigrationFailed and DatabaseFailed.
    """
    files = [migration.name for migration in read_migrations(root)]
    with open_database(url) as connection, connection.transaction(force_rollback=is_trial):
        connection.execute(_WAIT_ALONE)
        manifest = _current_manifest(root, mirror_schema(connection))
        if newer := newer_than(files, applied(connection)):
            raise MigrationFailed(_of_newer_version(newer))
        if not has_objects(connection):
            raise MigrationFailed(
                "there is nothing to repair, because nothing of this project exists: clerk-supabase migrate"
            )
        statements = list(repair(connection, manifest))
        return statements + _write_list(connection, root, manifest)


def _write_list(connection: psycopg.Connection, root: Path, manifest: Manifest) -> list[str]:
    """Corrects the list: records the migrations of this version, and removes names without a file."""
    recorded = applied(connection)
    checksums = {
        migration.name: migration.checksum
        for migration in read_migrations(root, manifest.schema)
        if migration.name in manifest.migrations
    }
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
        for name, checksum in checksums.items()
        if recorded.get(name) != checksum
    ]
    for statement in statements:
        connection.execute(statement)
    return [statement.as_string(connection) for statement in statements]


def _refuse_other_versions(connection: psycopg.Connection, root: Path) -> None:
    """Raises MigrationFailed, with the reason, for a database of another version or without a list of migrations."""
    recorded = applied(connection)
    schema = mirror_schema(connection)
    files = {migration.name: migration.checksum for migration in read_migrations(root, schema)}
    if newer := newer_than(files, recorded):
        raise MigrationFailed(_of_newer_version(newer))
    if is_restored_without_list(connection, root):
        found = differences(connection, read_manifest(root).rendered(schema))
        what = f"{_objects(found)} not as this checkout makes them" if found else "all objects are as expected"
        raise ObjectsDiffer(
            f"{_WITHOUT_LIST}; {what}: {_REPAIR}",
            found,
        )
    changed = [name for name, checksum in recorded.items() if checksum and files.get(name, checksum) != checksum]
    if others := sorted({*changed, *(recorded.keys() - files)}):
        found = differences(connection, read_manifest(root).rendered(schema))
        what = f"{_objects(found)} not as expected" if found else "all objects are as expected"
        raise ObjectsDiffer(
            f"{', '.join(others)} was changed after it had been applied, or is of another version; {what}. If you "
            "changed a file, put it back, and write the change as a new migration. If the database is of an older "
            f"version: {_REPAIR}",
            found,
        )


def _of_newer_version(newer: Sequence[str]) -> str:
    names = ", ".join(newer)
    return f"the database is of a newer version than this command, with {names}: use the command of that version"


def _objects(found: Sequence[Difference]) -> str:
    return "1 object is" if len(found) == 1 else f"{len(found)} objects are"


def apply_missing(connection: psycopg.Connection, migrations: Sequence[Migration]) -> Iterator[str]:
    """Applies the migrations missing in the list of the database; yields the name of each applied migration.

    Raises MigrationFailed.
    """
    for migration in migrations:
        if _apply(connection, migration):
            yield migration.name


def _apply(connection: psycopg.Connection, migration: Migration) -> bool:
    try:
        with connection.transaction():
            # Bound to the transaction, so that the lock works, and is released, through a transaction pooler, too.
            connection.execute(_WAIT_ALONE)
            # Another migrate may have applied the first file a moment ago.
            _check_name(connection, migration.schema)
            if _is_applied(connection, migration):
                return False
            connection.execute(migration.text.encode())
            _record_checksum(connection, migration)
    except psycopg.errors.LockNotAvailable:
        # The caller names the session that holds the lock.
        raise
    except psycopg.Error as error:
        raise MigrationFailed(f"{migration.name}: {_where(error, migration)}") from error
    return True


def applied(connection: psycopg.Connection) -> dict[str, str | None]:
    """The checksum of every recorded migration, by name; None for a migration applied by another tool."""
    [(has_list,)] = connection.execute(_HAS_LIST).fetchall()
    if not has_list:
        return {}
    return dict(connection.execute("select name, checksum from clerk_sync.migrations").fetchall())


def render(root: Path, folder: Path, schema: str) -> list[Path]:
    """Writes the migrations for this name of the mirror's schema into a folder. Raises MigrationFailed.

    All tools that apply SQL files take these files. Harmless to repeat.
    """
    migrations = {f"{migration.name}.sql": migration.text for migration in read_migrations(root, schema)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if others := sorted(file.name for file in folder.glob("*.sql") if file.name not in migrations):
            raise MigrationFailed(f"{folder} has other SQL files ({', '.join(others)}): name a new folder")
        for name, text in migrations.items():
            write_whole(folder / name, text)
    except OSError as error:
        raise MigrationFailed(f"{folder}: {error.strerror}") from error
    return [folder / name for name in migrations]


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


def _remedy(migration: Migration) -> str:
    """The remedy for an object that is there before its migration."""
    if is_of_the_app(migration.name):
        record = f"insert into clerk_sync.migrations (name) values ('{migration.name}')"  # noqa: S608 - printed only
        return f"if this database has had the file, record it: {record}"
    return f"if this project made it, the list of migrations is incomplete: {_REPAIR}"


def _where(error: psycopg.Error, migration: Migration) -> str:
    if is_about_the_connection(error.sqlstate, str(error)):
        return str(failure(str(error)))
    message = error.diag.message_primary or str(error).strip()
    if isinstance(error, _IS_THERE):
        message = f"{message}; {_remedy(migration)}"
    if error.diag.statement_position is None:
        return message
    line = migration.text.count("\n", 0, int(error.diag.statement_position) - 1) + 1
    return f"line {line}: {message}"
