"""The look at an app's database: tables of users and organizations, and everything that depends on these tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from psycopg import sql

from clerk_supabase.model.facts import Kind
from clerk_supabase.model.found_kinds import FACTS
from clerk_supabase_cli.adopt.samples import PREFIXES, IdColumn, Sized, id_columns, tables_of_the_app
from clerk_supabase_cli.adopt.surroundings import Code, ForeignKey, Surroundings, read_surroundings
from clerk_supabase_cli.adopt.tables import Table, mirror_tables, reading
from clerk_supabase_cli.operate.database import Connection

SECONDS: Final = 30.0
"""Longest time of one statement of an inspection."""

# Below so many pages (40 MB) every row is counted; of a larger table so many pages are.
_COUNTED_PAGES: Final = 5_000
_SAMPLED_PAGES: Final = 2_000

# Over a network, a question for each column would take longer than its answer.
_COLUMNS_AT_ONCE: Final = 40

_COUNTS: Final = """
select
    {number}, count(*), count(*) filter (where t.id is null),
    count(*) filter (where t.id is not null and not starts_with(t.id, {prefix})),
    count(*) filter (where starts_with(t.id, {prefix}) and {is_unknown}),
    count(*) filter (where {is_deleted}),
    {double}
from (select t.{column}::text as id from {source}) as t {join}
"""
_JOIN: Final = "left join {mirror} as m on m.{key} = t.id"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A column that can be the key of a mapping, and its table."""

    kind: Kind
    table: str
    column: str
    is_unique: bool
    unique_with: Sequence[str]
    """Columns of a unique index with the column; empty if the column is unique alone, or not unique at all."""
    table_kind: str
    estimated: bool
    """True: the numbers are estimates from a sample."""
    rows: int
    linked: int | None
    """Rows with the id of an object in the mirror; None: there is no mirror yet."""
    unlinked: int
    """Rows without an id, or with an id that is not Clerk's."""
    unknown: int | None
    """Rows with an id of Clerk's that the mirror does not have."""
    deleted: int | None
    """Rows with the id of an object that Clerk has deleted."""
    double: int
    """Rows with the id of another row."""
    needed: Sequence[str]
    """Columns that a new row needs a value for."""
    unique: Sequence[Sequence[str]]
    computed: Sequence[str]
    """Generated columns and identity columns."""
    keys: Sequence[ForeignKey]
    triggers: Sequence[str]
    views: Sequence[str]
    named_by: Sequence[str]
    """Functions, policies and defaults that name the table."""


@dataclass(frozen=True, slots=True)
class Holder:
    """A column with ids of Clerk's that cannot be a key, because several rows hold the same id."""

    kind: Kind
    table: str
    column: str


@dataclass(frozen=True, slots=True)
class Inspection:
    """The result of a look at a database."""

    has_mirror: bool
    tables: int
    hidden: Sequence[str]
    """Tables that are left out, because row-level security hides rows from the operator's role."""
    tools: Mapping[str, str]
    candidates: Sequence[Candidate]
    holders: Sequence[Holder]
    asks: Sequence[Code]
    """Functions, views, policies and defaults that ask for the user of a token."""
    found: Sequence[IdColumn] = field(default=())
    mirror: Mapping[str, sql.SQL] = field(default_factory=dict)
    sized: Mapping[str, Sized] = field(default_factory=dict)

    def as_json(self) -> dict[str, object]:
        """The part for machines."""
        return {
            "has_mirror": self.has_mirror,
            "tables": self.tables,
            "hidden": self.hidden,
            "tools": self.tools,
            "candidates": self.candidates,
            "holders": self.holders,
            "asks": [
                {"kind": each.kind, "name": each.name, "on_table": each.on_table, "asks": each.asks}
                for each in self.asks
            ],
        }


def inspect(connection: Connection) -> Inspection:
    """Looks at the tables of the app. Needs the transaction of `reading()`; large tables are sampled."""
    mirror = mirror_tables(connection)
    schemas = sorted({_schema_of(each) for each in mirror.values()})
    tables, hidden = tables_of_the_app(connection, schemas)
    found = id_columns(connection, tables)
    possible = [each for each in found if _uniques_with(each)]
    surroundings = read_surroundings(connection, _once([each.table.table for each in possible]), schemas)
    return Inspection(
        has_mirror=bool(mirror),
        tables=len(tables),
        hidden=hidden,
        tools=surroundings.tools,
        candidates=[
            _candidate(each, counts, surroundings, has_mirror=each.kind in mirror)
            for each, counts in zip(possible, _counts(connection, possible, mirror), strict=True)
        ],
        holders=[
            Holder(each.kind, each.table.table.name, each.column.name) for each in found if not _uniques_with(each)
        ],
        asks=[each for each in surroundings.code if each.asks],
        found=found,
        mirror=mirror,
        sized={each.table.name: each for each in tables},
    )


def inspect_once(connection: Connection) -> Inspection:
    """Looks at the tables of the app in a transaction of its own."""
    with reading(connection, seconds=SECONDS):
        return inspect(connection)


def _schema_of(table: sql.SQL) -> str:
    return table.as_string().partition(".")[0].strip('"')


def _once(tables: Sequence[Table]) -> list[Table]:
    return list({each.oid: each for each in tables}.values())


def _uniques_with(found: IdColumn) -> list[tuple[str, ...]]:
    """The unique indexes with the column, the shortest first."""
    return sorted((each for each in found.table.table.uniques if found.column.name in each), key=len)


def _candidate(found: IdColumn, counts: Sequence[int], surroundings: Surroundings, *, has_mirror: bool) -> Candidate:
    table = found.table.table
    shortest = _uniques_with(found)[0]
    is_unique = len(shortest) == 1
    rows, empty, others, unknown, deleted, double = counts
    return Candidate(
        kind=found.kind,
        table=table.name,
        column=found.column.name,
        is_unique=is_unique,
        unique_with=() if is_unique else [each for each in shortest if each != found.column.name],
        table_kind=table.kind,
        estimated=found.table.pages > _COUNTED_PAGES,
        rows=rows,
        linked=rows - empty - others - unknown - deleted if has_mirror else None,
        unlinked=empty + others,
        unknown=unknown if has_mirror else None,
        deleted=deleted if has_mirror else None,
        double=double,
        needed=[each.name for each in table.columns.values() if each.is_needed and each.name != found.column.name],
        unique=table.uniques,
        computed=[each.name for each in table.columns.values() if each.is_generated or each.is_identity],
        keys=[each for each in surroundings.keys if each.table_oid == table.oid],
        triggers=[
            f"{each.name} calls {each.calls}{'' if each.is_on else ' (disabled)'}"
            for each in surroundings.triggers
            if each.table_oid == table.oid
        ],
        views=surroundings.views.get(table.oid, ()),
        named_by=[_described(each) for each in surroundings.code if table.oid in each.names and each.kind != "view"],
    )


def _described(code: Code) -> str:
    return f"{code.kind} {code.name}{f' on {code.on_table}' if code.on_table else ''}"


def _counts(connection: Connection, possible: Sequence[IdColumn], mirror: Mapping[str, sql.SQL]) -> list[Sequence[int]]:
    """The numbers of rows of each column; of a large table estimates."""
    counts: dict[int, Sequence[int]] = {}
    for start in range(0, len(possible), _COLUMNS_AT_ONCE):
        batch = enumerate(possible[start : start + _COLUMNS_AT_ONCE], start)
        query = sql.SQL(" union all ").join(_count(number, each, mirror.get(each.kind)) for number, each in batch)
        for number, *found in connection.execute(query):
            pages = possible[number].table.pages
            share = pages / _SAMPLED_PAGES if pages > _COUNTED_PAGES else 1
            counts[number] = [round(each * share) for each in found]
    return [counts[number] for number in range(len(possible))]


def _count(number: int, found: IdColumn, mirror: sql.SQL | None) -> sql.Composable:
    sized = found.table
    id_column = sql.Identifier(FACTS[found.kind].key)
    return sql.SQL(_COUNTS).format(
        number=sql.Literal(number),
        prefix=sql.Literal(PREFIXES[found.kind]),
        is_unknown=sql.SQL("m.{} is null").format(id_column) if mirror else sql.SQL("false"),
        is_deleted=sql.SQL("m.deleted_at is not null" if mirror else "false"),
        double=sql.SQL("0" if len(_uniques_with(found)[0]) == 1 else "count(t.id) - count(distinct t.id)"),
        column=sql.Identifier(found.column.name),
        source=sized.sampled(_SAMPLED_PAGES if sized.pages > _COUNTED_PAGES else sized.pages, "t"),
        join=sql.SQL(_JOIN).format(mirror=mirror, key=id_column) if mirror else sql.SQL(""),
    )


def words_of(key: ForeignKey) -> str:
    """A foreign key in words, with its effect on a delete."""
    columns = ", ".join(key.from_columns)
    return f"{key.from_table} ({columns}) -> ({', '.join(key.columns)}), on delete {key.on_delete}"
