"""The move of the app's columns from uuids to Clerk's ids: a unit of tables is moved whole, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, LiteralString

import psycopg
from psycopg import sql

from clerk_supabase.postgres.failures import is_about_the_connection
from clerk_supabase_cli.adopt.supabase_auth.auth_schema import see_all_rows
from clerk_supabase_cli.adopt.supabase_auth.dependents.generated_columns import generated_columns
from clerk_supabase_cli.adopt.supabase_auth.dependents.null_tests import null_tests
from clerk_supabase_cli.adopt.supabase_auth.pairs import HAS_PAIRS, contradicted
from clerk_supabase_cli.adopt.supabase_auth.plan import Plan, WithoutOwner, plan
from clerk_supabase_cli.adopt.supabase_auth.text_columns import TEXTS, looks_like_uuid
from clerk_supabase_cli.adopt.supabase_auth.units import Unit, units
from clerk_supabase_cli.adopt.supabase_auth.user_columns import UserColumn, by_key, named_column
from clerk_supabase_cli.failure import Failure
from clerk_supabase_cli.operate.blockers import LockedByOthers
from clerk_supabase_cli.operate.database import Connection, advice_on_name
from clerk_supabase_cli.operate.locking import in_turns
from clerk_supabase_cli.printing import counted

Mode = Literal["look", "rehearse", "write"]
"""look: read the catalogue only. rehearse: run every statement, and roll back. write: keep the result."""

_LONGEST_NAME: Final = 63
_LISTED: Final = 20
_BEGIN: Final = "select set_config('statement_timeout', '30min', true)"
# A pair that is deleted between the search for orphans and the new type would empty the column.
_LOCK_PAIRS: Final = "lock table clerk_migration.identities in share mode"
_A_PAIR: Final = "select from clerk_migration.identities limit 1"
_ORPHANS: Final[LiteralString] = """
    select t.{column}::text, count(*), sum(count(*)) over (), count(*) over ()
    from {table} as t
    where t.{column} is not null
    and not exists (select from clerk_migration.identities as i where i.old_id = t.{column})
    group by 1 order by 2 desc, 1 limit {most}
"""
# Other values of a column of texts stay as they are.
_ORPHANS_IN_TEXTS: Final[LiteralString] = """
    select lower(t.value), count(*), sum(count(*)) over (), count(*) over ()
    from (select t.{column}::text as value from {table} as t) as t
    where case when {is_uuid} then
        exists (select from auth.users as u where u.id = t.value::uuid)
        and not exists (select from clerk_migration.identities as i where i.old_id = t.value::uuid)
    end
    group by 1 order by 2 desc, 1 limit {most}
"""
_COLUMN_NOW: Final = """
    select
        coalesce((select coalesce(nullif(t.typbasetype, 0), t.oid) = any(%(types)s::regtype[]) from pg_attribute as a
            inner join pg_type as t on t.oid = a.atttypid
            inner join pg_class as c on c.oid = a.attrelid and c.relname = %(table)s
            inner join pg_namespace as n on n.oid = c.relnamespace and n.nspname = %(schema)s
            where (a.attrelid, a.attnum, a.attname) = (%(relation)s, %(number)s, %(column)s)), false),
        exists (select from pg_attribute as a
            where a.attrelid = %(relation)s and a.attname = %(backup)s and not a.attisdropped),
        exists (select from pg_attribute as a
            where (a.attrelid, a.attnum) = (%(relation)s, %(number)s) and a.attgenerated <> ''),
        -- A column of a partition key depends on its table, also a column in an expression of the key.
        (select t.relid::regclass::text
            from pg_partition_tree(%(relation)s::oid::regclass) as t
            inner join pg_attribute as a on a.attrelid = t.relid and a.attname = %(column)s
            inner join pg_depend as d on (d.objid, d.objsubid, d.refobjid) = (t.relid, a.attnum, t.relid)
            where d.classid = 'pg_class'::regclass and d.refclassid = d.classid and d.refobjsubid = 0
            and d.deptype = 'i'
            order by t.level limit 1)
"""
# Everything that decides who sees rows; the same before and after, but for the expressions of policies.
_PROTECTION: Final = """
    select c.oid::regclass::text, c.relrowsecurity, c.relforcerowsecurity, c.relacl::text, array(
        select format('%%s %%s %%s %%s', p.polname, p.polcmd, p.polpermissive, p.polroles::text)
        from pg_policy as p where p.polrelid = c.oid order by 1
    )
    from pg_class as c
    where c.oid = any(%(relations)s::oid[])
    or c.oid in (
        select p.polrelid from pg_policy as p
        inner join pg_depend as d on d.classid = 'pg_policy'::regclass and d.objid = p.oid
        where d.refclassid = 'pg_class'::regclass and d.refobjid = any(%(relations)s::oid[])
    )
    order by 1
"""
# A role outside the API may get other rights by default privileges.
_VIEWS_SHOWN: Final = """
    select c.oid::regclass::text, array(
        select format('%%s = %%s', o.option_name, o.option_value) from pg_options_to_table(c.reloptions) as o order by 1
    ), array(
        select concat_ws(' ', coalesce(r.rolname, 'public'), a.privilege_type)
        from aclexplode(c.relacl) as a left join pg_roles as r on r.oid = a.grantee
        where a.grantee = 0 or r.rolname in ('anon', 'authenticated', 'service_role') order by 1
    )
    from pg_class as c
    where c.oid = any(select name::regclass from unnest(%(views)s::text[]) as name)
    order by 1
"""


_ORPHANED: Final = (
    "some rows belong to users who are not in Clerk: import and link these users, or type --without-owner keep or "
    "--without-owner empty"
)
_OPENS: Final = (
    "--without-owner empty would empty {column} in {rows}, and these test the column for null, so that everybody may "
    "see or change such rows: {objects}; type --without-owner keep, or write them again without the test"
)


class NotReady(Failure):
    """Nothing can be moved yet."""


class NotMoved(Failure):
    """A unit of tables stays as it was, for the reason in the message."""


@dataclass(frozen=True, slots=True)
class Orphan:
    """Rows of a user without a pair."""

    column: str
    old_id: str
    rows: int


@dataclass(frozen=True, slots=True)
class Moved:
    """The outcome for a unit of tables."""

    tables: list[str]
    columns: list[str]
    outcome: Literal["moved", "can be moved", "not moved"]
    why: str | None = None
    statements: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    without_owner: list[Orphan] = field(default_factory=list)
    """The users with the most rows among the users who are not in Clerk."""


@dataclass(frozen=True, slots=True)
class Options:
    """Decisions of a person about a move."""

    mode: Mode = "look"
    drops_old: bool = False
    without_owner: WithoutOwner = "stop"
    lock_seconds: float = 2.0


class _HasOrphans(NotMoved):
    def __init__(self, why: str, orphans: list[Orphan]) -> None:
        super().__init__(why)
        self.orphans = orphans


def found_units(
    connection: Connection, tables: Sequence[str], columns: Sequence[str], *, drops_old: bool = False
) -> list[Unit]:
    """The units to move: all, or the units with one of the *tables*; *columns*: more columns, found by no key.

    Raises NotReady and NoSuchColumn.
    """
    _check_pairs(connection)
    wanted = {_named_table(connection, table) for table in tables}
    with connection.transaction():
        see_all_rows(connection)
        named = [each for each in (named_column(connection, column, drops_old=drops_old) for column in columns) if each]
        found = units(connection, by_key(connection, named))
    return [unit for unit in found if not wanted or wanted & {each.relation for each in unit.columns}]


def _check_pairs(connection: Connection) -> None:
    [(has_table,)] = connection.execute(HAS_PAIRS).fetchall()
    if not has_table or connection.execute(_A_PAIR).fetchone() is None:
        raise NotReady("nobody is linked yet; run: clerk-supabase adopt supabase-auth link --write")
    if found := contradicted(connection):
        raise NotReady(
            f"{len(found)} old ids, such as {found[0]}, are linked with users whose external_id in Clerk is the id of "
            "somebody else now; run: clerk-supabase adopt supabase-auth link --write --replace"
        )


def _named_table(connection: Connection, typed: str) -> int:
    name = typed if "." in typed else f"public.{typed}"
    try:
        [(table,)] = connection.execute("select to_regclass(%s)::oid", [name]).fetchall()
    except psycopg.Error as error:
        raise NotReady(
            f"{name} is no name of a table ({error.diag.message_primary}): {advice_on_name(typed)}"
        ) from None
    if table is None:
        raise NotReady(f"there is no table {name}: {advice_on_name(typed, 'public.projects')}")
    return int(table)


def move(connection: Connection, url: str, unit: Unit, options: Options, report: Callable[[str], None]) -> Moved:
    """Moves a unit, or says how it would be moved. Locks and changes nothing in mode `look`."""
    done: list[Plan] = []

    def act() -> None:
        done.append(_plan(connection, unit, options) if options.mode == "look" else _act(connection, unit, options))

    columns = [each.at for each in unit.columns]
    try:
        if options.mode == "look":
            with connection.transaction():
                act()
        else:
            trial = options.mode == "rehearse"
            in_turns(connection, url, act, lock_seconds=options.lock_seconds, is_trial=trial, report=report)
    except _HasOrphans as error:
        return Moved(unit.tables, columns, "not moved", str(error), without_owner=error.orphans)
    except (NotMoved, LockedByOthers) as error:
        return Moved(unit.tables, columns, "not moved", str(error))
    except psycopg.errors.UndefinedTable as error:
        why = f"{error.diag.message_primary}: another session has changed it; run the command again"
        return Moved(unit.tables, columns, "not moved", why)
    except psycopg.errors.InsufficientPrivilege as error:
        why = f"{error.diag.message_primary}: connect as the owner of the tables, who sees all their rows"
        return Moved(unit.tables, columns, "not moved", why)
    outcome: Literal["moved", "can be moved"] = "moved" if options.mode == "write" else "can be moved"
    return Moved(unit.tables, columns, outcome, None, done[-1].statements, done[-1].notes)


def _act(connection: Connection, unit: Unit, options: Options) -> Plan:
    connection.execute(_BEGIN)
    connection.execute(_LOCK_PAIRS)
    tables = {each.relation: each.of for each in unit.columns}
    lock = sql.SQL("lock table {} in access exclusive mode")
    connection.execute(lock.format(sql.SQL(", ").join(tables.values())))
    planned = _plan(connection, unit, options)
    before = _protection(connection, [*tables], planned.views)
    for statement in planned.statements:
        _run(connection, statement)
    if _protection(connection, [*tables], planned.views) != before:
        raise NotMoved("policies or rights would not be the same afterwards: nothing was changed")
    return planned


def _plan(connection: Connection, unit: Unit, options: Options) -> Plan:
    see_all_rows(connection)
    orphans: list[Orphan] = []
    reasons: list[str] = []
    generated = generated_columns(connection, unit.columns)
    for column in unit.columns:
        _check_column(connection, column, options)
        found, rows, users = _orphans(connection, column)
        if found and options.without_owner == "empty" and (its := null_tests(connection, column, generated)):
            raise NotMoved(_OPENS.format(column=column.at, rows=counted(rows, "row"), objects=", ".join(its)))
        is_in_the_way = options.without_owner == "stop" or (options.without_owner == "empty" and column.required)
        if found and is_in_the_way:
            orphans += found
            reasons.append(f"{column.at} ({counted(rows, 'row')} of {counted(users, 'user')})")
    if reasons:
        raise _HasOrphans(f"{_ORPHANED}: {', '.join(reasons)}", orphans)
    if faults := [each.fault for each in generated if each.fault]:
        raise NotMoved("; ".join(faults))
    return plan(connection, unit, generated, drops_old=options.drops_old, without_owner=options.without_owner)


def _check_column(connection: Connection, column: UserColumn, options: Options) -> None:
    where = {name: getattr(column, name) for name in ("relation", "number", "schema", "table", "column", "backup")}
    types = [*TEXTS] if column.is_text else ["uuid"]
    [(is_same, has_backup, is_generated, partitioned)] = connection.execute(
        _COLUMN_NOW, {**where, "types": types}
    ).fetchall()
    if not is_same:
        raise NotMoved(f"{column.at} has another type now: another session has changed it; run the command again")
    if is_generated:
        raise NotMoved(f"Postgres computes {column.at} from other columns: drop this column, and make it again later")
    if partitioned:
        raise NotMoved(
            f"{column.at} is in the partition key of {partitioned}, where Postgres changes no type: make a new table "
            f"with a text column {column.printed_column}, copy the rows with "
            f"clerk_migration.clerk_id_of({column.printed_column}), and drop {column.printed_table}"
        )
    if options.drops_old:
        return
    if has_backup:
        raise NotMoved(f"{column.schema}.{column.table} has a column {column.backup} already: rename it, or --drop-old")
    if len(column.backup.encode()) > _LONGEST_NAME:
        raise NotMoved(f"the name {column.backup} is too long for Postgres: rename {column.at}, or --drop-old")


def _orphans(connection: Connection, column: UserColumn) -> tuple[list[Orphan], int, int]:
    query = sql.SQL(_ORPHANS_IN_TEXTS if column.is_text else _ORPHANS).format(
        column=column.name, table=column.of, is_uuid=looks_like_uuid(sql.SQL("t.value")), most=sql.Literal(_LISTED)
    )
    found = connection.execute(query).fetchall()
    if not found:
        return [], 0, 0
    _, _, rows, users = found[0]
    return [Orphan(column.at, old_id, count) for old_id, count, _, _ in found], int(rows), users


def _run(connection: Connection, statement: str) -> None:
    try:
        connection.execute(statement.encode())
    except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
        raise
    except psycopg.Error as error:
        if connection.broken or error.sqlstate is None or is_about_the_connection(error.sqlstate, str(error)):
            raise
        detail = f" ({error.diag.message_detail})" if error.diag.message_detail else ""
        raise NotMoved(f"{error.diag.message_primary}{detail}, in: {statement}") from error


def _protection(connection: Connection, relations: Sequence[int], views: Sequence[str]) -> list[tuple[Any, ...]]:
    return [
        *connection.execute(_PROTECTION, {"relations": [*relations]}).fetchall(),
        *connection.execute(_VIEWS_SHOWN, {"views": [*views]}).fetchall(),
    ]
