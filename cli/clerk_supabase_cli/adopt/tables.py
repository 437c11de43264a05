"""Facts about tables of the app, read from the catalogue of Postgres."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg import sql
from psycopg.rows import class_row

from clerk_supabase_cli.failure import Failure
from clerk_supabase_cli.operate.database import Connection, advice_on_name

# Every schema but Postgres's, Supabase's and the mirror's.
OTHER_SCHEMAS: Final = (
    *("clerk_sync", "information_schema", "auth", "cron", "extensions", "graphql", "graphql_public", "net"),
    *("pgbouncer", "pgmq", "pgsodium", "realtime", "storage", "supabase_functions", "supabase_migrations", "vault"),
)

_TABLES: Final = """
select
    c.oid::bigint as oid, n.nspname as schema, c.relname as bare_name, format('%%I.%%I', n.nspname, c.relname) as name,
    c.relkind::text as relkind, greatest(c.reltuples, 0)::bigint as estimated_rows,
    (c.relpages = 0 and c.reltuples < 0) as is_unknown_size, c.relrowsecurity as has_policies,
    pg_catalog.pg_get_userbyid(c.relowner)::text as owner
from pg_class as c inner join pg_namespace as n on n.oid = c.relnamespace
where c.oid = any(%s)
"""
_COLUMNS: Final = """
select
    a.attrelid::bigint as table_oid, a.attname as name, format_type(a.atttypid, a.atttypmod) as type,
    case
        -- The check of a domain belongs to the write of a row, not to a comparison.
        when t.typtype = 'd' then format_type(t.typbasetype, t.typtypmod)
        -- Without its length: to cast to varchar(3) cuts silently.
        else format_type(a.atttypid, case when t.typcategory = 'S' then null else a.atttypmod end)
    end as compared_type,
    t.typcategory::text as category, t.typname as type_name, a.attnotnull as not_null, a.atthasdef as has_default,
    a.attidentity <> '' as is_identity, a.attgenerated <> '' as is_generated,
    coalesce(nullif(a.atttypmod, -1) - 4, 0) * (t.typname = 'varchar')::integer as most_characters
from pg_attribute as a inner join pg_type as t on t.oid = a.atttypid
where a.attrelid = any(%s) and a.attnum > 0 and not a.attisdropped
order by a.attrelid, a.attnum
"""
# An index on a part of the rows, on expressions, or checked at the end of the transaction identifies no row.
_UNIQUES: Final = """
select
    i.indrelid::bigint, i.indisprimary,
    array(
        select a.attname from unnest(i.indkey::smallint[]) with ordinality as k (number, place)
        inner join pg_attribute as a on a.attrelid = i.indrelid and a.attnum = k.number
        where k.place <= i.indnkeyatts order by k.place
    )::text[]
from pg_index as i
where i.indrelid = any(%s) and i.indisunique and i.indisvalid and i.indimmediate and i.indpred is null
and i.indexprs is null
order by i.indrelid, i.indisprimary desc, i.indexrelid
"""
_READING: Final = """
select set_config('statement_timeout', %s, true), set_config('standard_conforming_strings', 'on', true),
    set_config('row_security', 'off', true)
"""
_FIND: Final = "select to_regclass(%s)::oid::bigint"
_MEANT: Final = """
select format('%%I.%%I', n.nspname, c.relname)
from pg_class as c inner join pg_namespace as n on n.oid = c.relnamespace
where c.relkind in ('r', 'p', 'v') and n.nspname not like 'pg\\_%%' and n.nspname <> all(%s)
and lower(replace(%s, '"', '')) in (lower(c.relname), lower(n.nspname || '.' || c.relname))
order by 1 limit 1
"""
_MIRROR: Final = "select k.kind, k.relation from clerk_sync.kinds as k"
_HAS_MIRROR: Final = "select to_regclass('clerk_sync.kinds') is not null"

_LONGEST_NAME: Final = 200


class TableMissing(Failure):
    """There is no such table."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table."""

    table_oid: int
    name: str
    type: str
    compared_type: str
    """The type to which a value is cast before a comparison."""
    category: str
    """Postgres's letter for the family of the type: S for texts, B for booleans, D for times, E for enums."""
    type_name: str
    not_null: bool
    has_default: bool
    is_identity: bool
    is_generated: bool
    most_characters: int
    """The limit of a varchar; 0: no limit."""

    @property
    def is_needed(self) -> bool:
        """True: a new row needs a value for the column."""
        return self.not_null and not (self.has_default or self.is_identity or self.is_generated)


@dataclass(frozen=True, slots=True)
class Table:
    """A table, a partitioned table or a view of the app."""

    oid: int
    schema: str
    bare_name: str
    name: str
    """With its schema, spelled as in a statement."""
    relkind: str
    estimated_rows: int
    is_unknown_size: bool
    """True: Postgres has not counted the rows yet."""
    has_policies: bool
    owner: str
    columns: Mapping[str, Column]
    uniques: Sequence[tuple[str, ...]]
    """Columns of each unique index that counts every row, of the primary key first."""
    primary: tuple[str, ...]

    @property
    def kind(self) -> str:
        """The kind of the relation, in words."""
        return {"r": "table", "p": "partitioned table", "v": "view", "m": "materialized view", "f": "foreign table"}[
            self.relkind
        ]

    @property
    def reference(self) -> sql.SQL:
        """The name, for a statement."""
        return sql.SQL(self.name)


@dataclass(frozen=True, slots=True)
class _Relation:
    oid: int
    schema: str
    bare_name: str
    name: str
    relkind: str
    estimated_rows: int
    is_unknown_size: bool
    has_policies: bool
    owner: str


@contextmanager
def reading(connection: Connection, *, seconds: float) -> Iterator[None]:
    """A read-only transaction on one state of the database, which ends a statement after *seconds*.

    Row-level security hides no row: Postgres raises an error where a policy holds for this role.
    """
    before = connection.isolation_level
    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    try:
        with connection.transaction():
            connection.execute("set transaction read only")
            connection.execute(_READING, [f"{seconds * 1000:.0f}ms"])
            yield
    finally:
        if not connection.closed:
            connection.isolation_level = before


def read_tables(connection: Connection, oids: Sequence[int]) -> dict[int, Table]:
    """The tables with these oids."""
    with connection.cursor(row_factory=class_row(_Relation)) as cursor:
        relations = cursor.execute(_TABLES, [list(oids)]).fetchall()
    columns: dict[int, dict[str, Column]] = {}
    with connection.cursor(row_factory=class_row(Column)) as cursor:
        for column in cursor.execute(_COLUMNS, [list(oids)]):
            columns.setdefault(column.table_oid, {})[column.name] = column
    uniques: dict[int, list[tuple[str, ...]]] = {}
    primary: dict[int, tuple[str, ...]] = {}
    for oid, is_primary, names in connection.execute(_UNIQUES, [list(oids)]):
        uniques.setdefault(oid, []).append(tuple(names))
        if is_primary:
            primary[oid] = tuple(names)
    return {
        each.oid: Table(
            **{name: getattr(each, name) for name in _Relation.__slots__},
            columns=columns.get(each.oid, {}),
            uniques=tuple(uniques.get(each.oid, ())),
            primary=primary.get(each.oid, ()),
        )
        for each in relations
    }


def find_table(connection: Connection, spelled: str) -> Table:
    """The table of a name spelled as in a statement. Raises TableMissing."""
    try:
        with connection.transaction():
            [(oid,)] = connection.execute(_FIND, [spelled]).fetchall()
    except psycopg.Error as error:
        raise TableMissing(f"{spelled}: {error.diag.message_primary}; {advice_on_name(spelled)}") from None
    found = read_tables(connection, [oid]) if oid else {}
    # The search path finds the catalogue of Postgres by a bare name.
    if oid and found[oid].schema != "pg_catalog":
        return found[oid]
    meant = connection.execute(_MEANT, [list(OTHER_SCHEMAS), spelled[:_LONGEST_NAME]]).fetchone()
    advice = f"did you mean {meant[0]}?" if meant else advice_on_name(spelled)
    raise TableMissing(f"{spelled} does not exist; {advice}")


def mirror_tables(connection: Connection) -> dict[str, sql.SQL]:
    """The mirror's table of each kind, for a statement; empty before `clerk-supabase migrate`."""
    [(exists,)] = connection.execute(_HAS_MIRROR).fetchall()
    return {kind: _named(relation) for kind, relation in connection.execute(_MIRROR)} if exists else {}


def _named(relation: Any) -> sql.SQL:
    # Written by the migrations, spelled as in a statement.
    return sql.SQL(relation)
