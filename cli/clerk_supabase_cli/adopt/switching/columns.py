"""The app's columns that hold ids of Clerk, and the tables that have to change together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from psycopg.types.json import Jsonb

from clerk_supabase_cli.adopt.switching.pairing import in_words
from clerk_supabase_cli.failure import Failure
from clerk_supabase_cli.operate.database import Connection

_COLUMNS: Final = "select of_table::text, column_name::text, known_by from clerk_sync.columns_with_ids(%s)"
_CONNECTED: Final = """
select from_table::text, to_table::text from clerk_sync.connected_columns()
"""
_OLD_IDS: Final = "select * from clerk_sync.old_ids_in(%s::regclass, %s)"
_TAKEN: Final = "another row has the new id, or the table stayed as it was"
_ROWS: Final = "select clerk_sync.rows_with_ids(%s::regclass, %s)"


class NoSuchColumn(Failure):
    """An option names a column that holds no ids of Clerk."""


@dataclass(frozen=True, slots=True)
class IdColumn:
    """A column of the app that holds ids of Clerk."""

    table: str
    column: str
    known_by: str

    @property
    def name(self) -> str:
        """The table and the column, for people."""
        return f"{self.table}.{self.column}"


@dataclass(frozen=True, slots=True)
class LeftId:
    """Rows of the app that keep an id of the old instance, and the reason."""

    column: str
    old_id: str
    rows: int
    reason: str


Unit = Sequence[IdColumn]
"""The columns of tables that foreign keys connect: they change together or not at all."""


def find_columns(connection: Connection, named: Sequence[str]) -> list[IdColumn]:
    """The columns that the database knows, and those that the operator *named*. Raises NoSuchColumn."""
    given = [_split(each) for each in named]
    found = [IdColumn(*row) for row in connection.execute(_COLUMNS, [Jsonb(given)])]
    known = {(each.table, each.column) for each in found}
    for each in given:
        row = connection.execute("select to_regclass(%s)::text", [each["table"]]).fetchone()
        if row is None or (row[0], each["column"]) not in known:
            raise NoSuchColumn(f"{each['table']} has no column {each['column']} of the type text, varchar or citext")
    return found


def _split(named: str) -> dict[str, str]:
    table, dot, column = named.rpartition(".")
    if not dot:
        raise NoSuchColumn(f"{named}: spell it schema.table.column")
    return {"table": table, "column": column}


def as_units(connection: Connection, columns: Sequence[IdColumn]) -> list[Unit]:
    """The columns, in groups of tables that foreign keys connect."""
    group = {each.table: each.table for each in columns}

    def first(table: str) -> str:
        while group[table] != table:
            table = group[table]
        return table

    for one, other in connection.execute(_CONNECTED):
        if one in group and other in group:
            group[first(one)] = first(other)
    together: dict[str, list[IdColumn]] = {}
    for each in columns:
        together.setdefault(first(each.table), []).append(each)
    return list(together.values())


def as_json(columns: Sequence[IdColumn]) -> Jsonb:
    """The form that functions of the database take."""
    return Jsonb([{"table": each.table, "column": each.column} for each in columns])


def rows_with_ids(connection: Connection, column: IdColumn) -> int:
    """The number of rows with an id of the mirrored instance."""
    [(rows,)] = connection.execute(_ROWS, [column.table, column.column]).fetchall()
    return int(rows)


def rows_by_id(connection: Connection, column: IdColumn) -> tuple[list[LeftId], list[LeftId]]:
    """The rows with an id of the old instance: first those whose id has a successor, then all others."""
    with_successor: list[LeftId] = []
    others: list[LeftId] = []
    for old_id, new_id, reason, rows in connection.execute(_OLD_IDS, [column.table, column.column]):
        found = others if new_id is None else with_successor
        found.append(LeftId(column.name, old_id, rows, _TAKEN if new_id else in_words(reason or "nobody")))
    return with_successor, others
