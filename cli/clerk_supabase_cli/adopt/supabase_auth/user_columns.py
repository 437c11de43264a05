"""Columns of the app's tables that hold the uuids of users: found by foreign keys, or by their values.

Mostly the columns are uuids; a column of texts may hold uuids, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, LiteralString

import psycopg
from psycopg import sql

from clerk_supabase_cli.adopt.supabase_auth.auth_schema import NOT_THE_APPS
from clerk_supabase_cli.adopt.supabase_auth.text_columns import TEXTS, looks_like_uuid, text_columns
from clerk_supabase_cli.failure import Failure
from clerk_supabase_cli.operate.database import Connection

# Keys lead from a column to auth.users, or to another column of the app with uuids of users, in either direction.
_HELD: Final = """
    with recursive keys as (
        select c.conrelid as child, k.child_number, c.confrelid as parent, k.parent_number, c.confdeltype
        from pg_constraint as c
        cross join lateral unnest(c.conkey, c.confkey) as k (child_number, parent_number)
        where c.contype = 'f' and c.conparentid = 0
    ),

    held as (
        select k.child as relation, k.child_number as number from keys as k
        where (k.parent, k.parent_number) = (
            select a.attrelid, a.attnum from pg_attribute as a
            where a.attrelid = 'auth.users'::regclass and a.attname = 'id'
        )
        union
        select a.attrelid, a.attnum from pg_attribute as a where (a.attrelid, a.attname) in (
            select named.relation::regclass, named.attname
            from unnest(%(relations)s::text[], %(columns)s::name[]) as named (relation, attname)
        )
        union
        select
            case when (k.parent, k.parent_number) = (h.relation, h.number) then k.child else k.parent end,
            case when (k.parent, k.parent_number) = (h.relation, h.number) then k.child_number else k.parent_number end
        from held as h
        inner join keys as k
            on (k.parent, k.parent_number) = (h.relation, h.number)
            or (k.child, k.child_number) = (h.relation, h.number)
        where k.parent <> 'auth.users'::regclass
    )

    select
        c.oid, c.oid::regclass::text, a.attnum::int, n.nspname::text, c.relname::text, a.attname::text,
        quote_ident(a.attname), a.attnotnull, pg_get_expr(d.adbin, d.adrelid),
        (
            select case k.confdeltype
                when 'c' then 'cascade' when 'n' then 'set null' when 'd' then 'set default' else 'restrict'
            end
            from keys as k
            where k.parent = 'auth.users'::regclass and (k.child, k.child_number) = (c.oid, a.attnum) limit 1
        ),
        'uuid'::regtype not in (t.oid, t.typbasetype)
    from held as h
    inner join pg_class as c on c.oid = h.relation and not c.relispartition
    inner join pg_namespace as n on n.oid = c.relnamespace and n.nspname <> all(%(not_the_apps)s)
    inner join pg_attribute as a on a.attrelid = h.relation and a.attnum = h.number
    inner join pg_type as t
        on t.oid = a.atttypid and coalesce(nullif(t.typbasetype, 0), t.oid) = any(%(types)s::regtype[])
    left join pg_attrdef as d on d.adrelid = a.attrelid and d.adnum = a.attnum
    order by n.nspname, c.relname, a.attnum
"""
# Of the columns of texts, the columns that a sample has found.
_COLUMNS: Final = """
    select
        c.oid, c.oid::regclass::text, a.attnum::int, n.nspname::text, c.relname::text, a.attname::text,
        quote_ident(a.attname), a.attnotnull, pg_get_expr(d.adbin, d.adrelid), null,
        'uuid'::regtype not in (t.oid, t.typbasetype)
    from pg_attribute as a
    inner join pg_class as c on c.oid = a.attrelid and c.relkind in ('r', 'p') and not c.relispartition
    inner join pg_namespace as n on n.oid = c.relnamespace and n.nspname <> all(%(not_the_apps)s)
    inner join pg_type as t on t.oid = a.atttypid
    left join pg_attrdef as d on d.adrelid = a.attrelid and d.adnum = a.attnum
    where a.attnum > 0 and not a.attisdropped and n.nspname not like 'pg\\_%%'
    and (
        'uuid'::regtype in (t.oid, t.typbasetype)
        or (a.attrelid, a.attname) in (
            select found.relation, found.attname
            from unnest(%(relations)s::oid[], %(columns)s::name[]) as found (relation, attname)
        )
    )
    order by n.nspname, c.relname, a.attnum
"""
# The old ids of a moved column stay uuids.
_IS_BACKUP: Final = """
    select exists (
        select from pg_attribute as moved
        where moved.attrelid = %(relation)s and moved.attname || %(backup)s = %(column)s
        and moved.atttypid = 'text'::regtype and not moved.attisdropped
    )
"""
# A few rows are enough: two different uuids are never equal by chance.
_SAMPLE: Final[LiteralString] = """
    select count(*), count(u.id)
    from (select t.{column} as value from {table} as t {part} where t.{column} is not null limit 200) as s
    left join auth.users as u on u.id = s.value
"""
_READABLE: Final = """
    select c.oid from pg_class as c
    where c.oid = any(%s::oid[]) and has_table_privilege(c.oid, 'select') and not row_security_active(c.oid)
"""
_COUNT: Final[LiteralString] = """
    select count(*), count({column}) from {table}
"""
_ESTIMATE: Final = "select greatest(c.reltuples, 0)::bigint from pg_class as c where c.oid = %s"
_EXACT_UP_TO: Final = 1_000_000
_SEARCHED_WHOLE: Final = 50_000
"""Rows of a table that is searched whole for a value; of a larger table, about as many rows are looked at."""
_EXISTS: Final = """
    select n.nspname::text, c.relname::text, a.attname::text, a.attrelid::regclass::text,
    'uuid'::regtype in (t.oid, t.typbasetype),
    coalesce(nullif(t.typbasetype, 0), t.oid) = any(%(types)s::regtype[]), exists (
        select from pg_attribute as other
        where other.attrelid = a.attrelid and other.attname = a.attname || %(backup)s and not other.attisdropped
    )
    from pg_attribute as a
    inner join pg_type as t on t.oid = a.atttypid
    inner join pg_class as c on c.oid = a.attrelid and c.relkind in ('r', 'p')
    inner join pg_namespace as n on n.oid = c.relnamespace
    where array[n.nspname, c.relname, a.attname]::text[] = %(names)s and a.attnum > 0 and not a.attisdropped
"""
_HOLDS_USERS: Final[LiteralString] = """
    select exists (
        select from {table} as t
        where case when {is_uuid} then exists (select from auth.users as u where u.id = {value}::uuid) end
    )
"""
_TYPES: Final = ("uuid", *TEXTS)

BACKUP: Final = "_supabase"
"""The end of the name of a column that keeps the old uuids."""


class NoSuchColumn(Failure):
    """A named column does not exist, or cannot hold the uuids of users."""


@dataclass(frozen=True, slots=True)
class UserColumn:
    """A column with uuids of users."""

    relation: int
    printed_table: str
    """Schema and table, as Postgres quotes the names."""
    number: int
    schema: str
    table: str
    column: str
    printed_column: str
    required: bool
    default: str | None
    on_delete: str | None = None
    """The action of the foreign key to auth.users; None without such a key of the column's own."""
    is_text: bool = False
    """True: a column of texts, which may hold other values, too."""

    @property
    def at(self) -> str:
        """Schema, table and column, as a person types the names."""
        return f"{self.printed_table}.{self.printed_column}"

    @property
    def of(self) -> sql.Identifier:
        """The table, for statements."""
        return sql.Identifier(self.schema, self.table)

    @property
    def name(self) -> sql.Identifier:
        """The column, for statements."""
        return sql.Identifier(self.column)

    @property
    def backup(self) -> str:
        """The name of the column that keeps the old uuids."""
        return f"{self.column}{BACKUP}"


@dataclass(frozen=True, slots=True)
class Held:
    """A column with uuids of users, and its rows."""

    column: str
    found_by: str
    """`key`, `key to another table of the app`, `values`, or `move`, which has kept the old uuids in the column."""
    on_delete: str | None
    rows: int
    filled: int | None
    """Rows with a value; None where the rows are only estimated, because the table is large."""
    sampled: int | None = None
    matching: int | None = None
    """For `values`: how many of the sampled values are ids of users."""


def by_key(connection: Connection, named: Sequence[tuple[str, str]] = ()) -> list[UserColumn]:
    """The columns that keys connect with auth.users, or with a *named* column: pairs of table and column."""
    where = {
        "relations": [table for table, _ in named],
        "columns": [column for _, column in named],
        "not_the_apps": [*NOT_THE_APPS],
        "types": [*_TYPES],
    }
    return [UserColumn(*row) for row in connection.execute(_HELD, where)]


def named_column(connection: Connection, typed: str, *, drops_old: bool = False) -> tuple[str, str] | None:
    """Table and column of a typed `schema.table.column`; None for a column that was moved before.

    *drops_old*: a move keeps no old ids, so a column without a uuid of a user counts as moved. Raises NoSuchColumn.
    """
    for names in (_parsed(connection, typed), typed.split(".")):
        where = {"names": names, "backup": BACKUP, "types": [*TEXTS]}
        found = connection.execute(_EXISTS, where).fetchone()
        if found is not None:
            break
    else:
        raise NoSuchColumn(
            f"there is no column {typed}: type schema.table.column, as in public.audit.actor_id, and "
            """with quotes where SQL needs them, as in 'public."Audit"."actorId"'"""
        )
    schema, bare_name, column, table, is_uuid, is_text, has_backup = found
    if is_uuid:
        return table, column
    if has_backup:
        return None
    if is_text and _holds_users(connection, sql.Identifier(schema, bare_name), column):
        return table, column
    if drops_old:
        return None
    raise NoSuchColumn(f"{typed} holds no uuid of a user of Supabase Auth: there is nothing to move")


def _holds_users(connection: Connection, table: sql.Identifier, column: str) -> bool:
    value = sql.SQL("t.{}::text").format(sql.Identifier(column))
    query = sql.SQL(_HOLDS_USERS).format(table=table, value=value, is_uuid=looks_like_uuid(value))
    return connection.execute(query).fetchall() == [(True,)]


def _parsed(connection: Connection, typed: str) -> list[str]:
    """The names in a name spelled as in a statement; empty if the spelling is wrong."""
    try:
        [(names,)] = connection.execute("select parse_ident(%s)", [typed]).fetchall()
    except psycopg.errors.InvalidParameterValue:
        return []
    return [*names]


def held(connection: Connection) -> list[Held]:
    """Every column with uuids of users, with the numbers of rows."""
    keyed = {(each.relation, each.number): each for each in by_key(connection)}
    found: list[Held] = []
    texts = {(each.relation, each.column): each for each in text_columns(connection)}
    for column in _columns(connection, [*texts]):
        by = keyed.get((column.relation, column.number))
        if by:
            how = "key" if by.on_delete else "key to another table of the app"
            found.append(Held(column.at, how, by.on_delete, *_rows(connection, column)))
            continue
        if _is_backup(connection, column):
            found.append(Held(column.at, "move", None, *_rows(connection, column)))
            continue
        text = texts.get((column.relation, column.column))
        sampled, matching = (text.sampled, text.matching) if text else _sampled(connection, column)
        if matching:
            found.append(Held(column.at, "values", None, *_rows(connection, column), sampled, matching))
    return found


def left_by_values(connection: Connection) -> list[str]:
    """The columns with uuids of users that no key leads to: a move leaves out each of them that nobody names.

    Tables with rows that this role does not see are not looked at.
    """
    keyed = {(each.relation, each.number) for each in by_key(connection)}
    texts = [(each.relation, each.column) for each in text_columns(connection)]
    others = [each for each in _columns(connection, texts) if (each.relation, each.number) not in keyed]
    readable = {oid for (oid,) in connection.execute(_READABLE, [[each.relation for each in others]])}
    return [
        each.at
        for each in others
        if each.relation in readable
        and not _is_backup(connection, each)
        and (each.is_text or _sampled(connection, each)[1])
    ]


def _is_backup(connection: Connection, column: UserColumn) -> bool:
    """Tells whether `move` has made the column: it has the name of another column, which is a text."""
    where = {"relation": column.relation, "column": column.column, "backup": BACKUP}
    return connection.execute(_IS_BACKUP, where).fetchall() == [(True,)]


def _columns(connection: Connection, texts: Sequence[tuple[int, str]]) -> list[UserColumn]:
    """Every column of uuids, and these columns of *texts*: pairs of table and column."""
    where = {
        "not_the_apps": [*NOT_THE_APPS],
        "relations": [relation for relation, _ in texts],
        "columns": [column for _, column in texts],
    }
    return [UserColumn(*row) for row in connection.execute(_COLUMNS, where).fetchall()]


def _sampled(connection: Connection, column: UserColumn) -> tuple[int, int]:
    """The number of sampled values, and how many of these are ids of users."""
    sample = sql.SQL(_SAMPLE).format(column=column.name, table=column.of, part=_part(connection, column))
    [(sampled, matching)] = connection.execute(sample).fetchall()
    return sampled, matching


def _estimate(connection: Connection, column: UserColumn) -> int:
    [(estimate,)] = connection.execute(_ESTIMATE, [column.relation]).fetchall()
    return int(estimate)


def _part(connection: Connection, column: UserColumn) -> sql.Composable:
    estimate = _estimate(connection, column)
    if estimate <= _SEARCHED_WHOLE:
        return sql.SQL("")
    return sql.SQL("tablesample system ({})").format(sql.Literal(100 * _SEARCHED_WHOLE / estimate))


def _rows(connection: Connection, column: UserColumn) -> tuple[int, int | None]:
    estimate = _estimate(connection, column)
    if estimate > _EXACT_UP_TO:
        return estimate, None
    counting = sql.SQL(_COUNT).format(column=column.name, table=column.of)
    [(rows, filled)] = connection.execute(counting).fetchall()
    return rows, filled
