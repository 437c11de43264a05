"""Columns of the app that hold Clerk's ids, found by a sample of the values in every table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from psycopg import sql

from clerk_supabase.model.facts import Kind
from clerk_supabase_cli.adopt.tables import OTHER_SCHEMAS, Column, Table, read_tables
from clerk_supabase_cli.operate.database import Connection

PREFIXES: Final[Mapping[Kind, str]] = {"user": "user_", "organization": "org_", "membership": "orgmem_"}
"""First letters of the ids of each kind."""

_PAGE_BYTES: Final = 8192
# Large values are no ids, and stay where they are: pg_column_size() does not read them.
_LONGEST_BYTES: Final = 260
_ROWS: Final = 1_500
_PAGES: Final = 20
# Less round trips, and no statement so long that planning it takes seconds.
_TABLES_AT_ONCE: Final = 40
_LEAST_SHARE: Final = 0.5

_ALL_TABLES: Final = """
select c.oid::bigint, coalesce(
    (select sum(pg_relation_size(p.relid)) from pg_partition_tree(c.oid) as p where p.isleaf), pg_relation_size(c.oid)
)::bigint / %(page)s, row_security_active(c.oid)
from pg_class as c inner join pg_namespace as n on n.oid = c.relnamespace
where c.relkind in ('r', 'p') and not c.relispartition and c.relpersistence <> 't'
and n.nspname not like 'pg\\_%%' and n.nspname <> all(%(others)s)
and has_schema_privilege(n.oid, 'usage') and has_table_privilege(c.oid, 'select')
and not exists (
    select from pg_depend as d
    where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e'
)
order by 1
"""
# ANALYZE has looked at more rows than a sample of ours, so that it finds ids that few rows have.
_STATISTICS: Final = """
select s.oid, s.name, array[count(*), {counts}]::bigint[]
from (
    select
        c.oid::bigint, s.attname as name,
        coalesce(s.most_common_vals::text, '{{}}')::text[] || coalesce(s.histogram_bounds::text, '{{}}')::text[] as many
    from pg_stats as s
    inner join pg_namespace as n on n.nspname = s.schemaname
    inner join pg_class as c on c.relnamespace = n.oid and c.relname = s.tablename
    where c.oid = any(%s) and s.avg_width < {longest}
    and (s.most_common_vals::text ~ '(user|org|orgmem)_' or s.histogram_bounds::text ~ '(user|org|orgmem)_')
) as s cross join unnest(s.many) as v (value)
group by s.oid, s.name
"""
_SAMPLE: Final = """
(select {oid}::bigint, count(*), array[{counts}]::bigint[] from (select {columns} from {source} limit {rows}) as t)
"""


@dataclass(frozen=True, slots=True)
class Sized:
    """A table with its size."""

    table: Table
    pages: int

    def sampled(self, pages: int, name: str) -> sql.Composable:
        """About so many pages of the table, under a name, for a FROM clause; the same pages each time."""
        if self.pages <= pages:
            return sql.SQL("{} as {}").format(self.table.reference, sql.Identifier(name))
        return sql.SQL("{} as {} tablesample system ({}) repeatable (1)").format(
            self.table.reference, sql.Identifier(name), sql.Literal(round(100 * pages / self.pages, 6))
        )


@dataclass(frozen=True, slots=True)
class IdColumn:
    """A column with ids of a kind."""

    kind: Kind
    table: Sized
    column: Column
    sampled_rows: int
    sampled_ids: int
    """Ids of the kind in the sample."""
    sampled_others: int
    """Other values in the sample."""


def tables_of_the_app(connection: Connection, mirror_schemas: Sequence[str]) -> tuple[list[Sized], list[str]]:
    """Every table of the app that the operator may read, and the names of others, whose rows policies hide."""
    others = [*OTHER_SCHEMAS, *mirror_schemas]
    found = connection.execute(_ALL_TABLES, {"page": _PAGE_BYTES, "others": others}).fetchall()
    pages: dict[int, int] = {oid: size for oid, size, _ in found}
    hidden = {oid for oid, _, is_hidden in found if is_hidden}
    tables = read_tables(connection, list(pages))
    return (
        [Sized(table, pages[oid]) for oid, table in tables.items() if oid not in hidden],
        sorted(tables[oid].name for oid in hidden),
    )


def id_columns(connection: Connection, tables: Sequence[Sized]) -> list[IdColumn]:
    """The columns that hold Clerk's ids: mostly, or by their name."""
    found: list[IdColumn] = []
    statistics = _statistics(connection, tables)
    with_texts = [(each, texts) for each in tables if (texts := _texts(each.table))]
    for start in range(0, len(with_texts), _TABLES_AT_ONCE):
        batch = with_texts[start : start + _TABLES_AT_ONCE]
        by_oid = {each.table.oid: (each, texts) for each, texts in batch}
        query = sql.SQL(" union all ").join(_sample(each, texts) for each, texts in batch)
        for oid, count, counts in connection.execute(query):
            found += _judged(*by_oid[oid], count, counts, statistics)
    return found


def _statistics(connection: Connection, tables: Sequence[Sized]) -> dict[tuple[int, str], Sequence[int]]:
    """The counts of each column with ids, as `_sample()` counts, among the values that ANALYZE has kept."""
    query = sql.SQL(_STATISTICS).format(
        counts=sql.SQL(", ").join(_count_of(sql.SQL("v.value"), prefix) for prefix in PREFIXES.values()),
        longest=sql.Literal(_LONGEST_BYTES),
    )
    rows = connection.execute(query, [[each.table.oid for each in tables]])
    return {(oid, name): counts for oid, name, counts in rows}


def _count_of(value: sql.Composable, prefix: str) -> sql.Composable:
    return sql.SQL("count(*) filter (where starts_with({}, {}))").format(value, sql.Literal(prefix))


def _texts(table: Table) -> list[Column]:
    return [each for each in table.columns.values() if each.category == "S" and not each.is_generated]


def _sample(sized: Sized, texts: Sequence[Column]) -> sql.Composable:
    places = [sql.Identifier(f"c{number}") for number in range(len(texts))]
    columns = [
        sql.SQL("case when pg_column_size(s.{0}) < {1} then s.{0}::text end as {2}").format(
            sql.Identifier(column.name), sql.Literal(_LONGEST_BYTES), place
        )
        for column, place in zip(texts, places, strict=True)
    ]
    counts = [
        part
        for place in places
        for part in (
            sql.SQL("count({})").format(place),
            *(_count_of(place, prefix) for prefix in PREFIXES.values()),
        )
    ]
    return sql.SQL(_SAMPLE).format(
        oid=sql.Literal(sized.table.oid),
        counts=sql.SQL(", ").join(counts),
        columns=sql.SQL(", ").join(columns),
        source=sized.sampled(_PAGES, "s"),
        rows=sql.Literal(_ROWS),
    )


def _judged(
    sized: Sized,
    texts: Sequence[Column],
    rows: int,
    counts: Sequence[int],
    statistics: Mapping[tuple[int, str], Sequence[int]],
) -> Iterator[IdColumn]:
    width = 1 + len(PREFIXES)
    for number, column in enumerate(texts):
        sampled = counts[number * width : (number + 1) * width]
        known = statistics.get((sized.table.oid, column.name), [0] * width)
        filled, *ids = (one + other for one, other in zip(sampled, known, strict=True))
        by_kind = dict(zip(PREFIXES, ids, strict=True))
        kind = max(by_kind, key=lambda each: by_kind[each])
        if by_kind[kind] and by_kind[kind] >= _LEAST_SHARE * filled:
            yield IdColumn(kind, sized, column, rows, by_kind[kind], filled - by_kind[kind])
        elif not filled and (named := _kind_by_name(column.name)):
            yield IdColumn(named, sized, column, rows, 0, 0)


def _kind_by_name(name: str) -> Kind | None:
    """The kind that an empty column is for, by its name: `clerk_id`, `clerkUserId`, `clerk_org_id`."""
    bare = name.lower().replace("_", "")
    if not bare.startswith("clerk"):
        return None
    if bare in {"clerkid", "clerkuserid", "clerkuser"}:
        return "user"
    return "organization" if bare in {"clerkorgid", "clerkorganizationid", "clerkorg"} else None
