"""The check of a mapping against the database: Postgres itself judges tables, columns and expressions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import psycopg
from psycopg import sql

from clerk_supabase_cli.adopt.mapping import Clear, Mapping, MappingWrong
from clerk_supabase_cli.adopt.tables import Table, TableMissing, find_table, mirror_tables
from clerk_supabase_cli.operate.database import Connection

_TABLE_KINDS: Final = ("r", "p", "v")


@dataclass(frozen=True, slots=True)
class Checked:
    """A mapping that the database takes, with its tables."""

    mapping: Mapping
    table: Table
    mirror: sql.SQL
    """The mirror's table of the kind, for a statement."""


def check_mappings(connection: Connection, mappings: Sequence[Mapping]) -> tuple[Checked, ...]:
    """The mappings with their tables. Needs a transaction, writes nothing. Raises MappingWrong with every fault."""
    mirrors = mirror_tables(connection)
    if not mirrors:
        raise MappingWrong("the mirror does not exist yet; run: clerk-supabase migrate")
    checked: list[Checked] = []
    faults: list[str] = []
    for mapping in mappings:
        try:
            found = Checked(mapping, find_table(connection, mapping.table), mirrors[mapping.kind])
        except TableMissing as error:
            faults.append(f"[{mapping.name}] table: {error}")
            continue
        of_this = [*_faults_of_table(found), *_faults_of_columns(found)]
        # Postgres would name the same missing column once more.
        of_this = of_this or list(_faults_of_expressions(connection, found))
        faults += (f"[{mapping.name}] {each}" for each in of_this)
        checked.append(found)
    if faults:
        raise MappingWrong("\n".join(["the mapping does not fit the database:", *faults]))
    return tuple(checked)


def _faults_of_table(checked: Checked) -> Iterator[str]:
    table = checked.table
    if table.relkind not in _TABLE_KINDS:
        yield f"table: {table.name} is a {table.kind}, which nobody can write"
    own_schema = checked.mirror.as_string().partition(".")[0].strip('"')
    if table.schema in {own_schema, "clerk_sync", "auth", "storage", "realtime"}:
        yield f"table: {table.name} is not a table of the app"


def _faults_of_columns(checked: Checked) -> Iterator[str]:
    mapping, table = checked.mapping, checked.table
    cleared = mapping.on_delete.columns if isinstance(mapping.on_delete, Clear) else ()
    places = [(place, column) for place, column, _ in mapping.expressions]
    for place, name in [*places, *(("on_delete.clear", column) for column in cleared)]:
        column = table.columns.get(name)
        if column is None:
            alike = next((each for each in table.columns if each.lower() == name.lower()), None)
            yield f"{place}.{name}: {table.name} has no such column{f' (did you mean {alike}?)' if alike else ''}"
        elif column.is_generated:
            yield f"{place}.{name}: Postgres computes this generated column; leave it out"
        elif column.is_identity:
            yield f"{place}.{name}: Postgres numbers this identity column; leave it out"
        elif place == "update" and (column.type_name == "uuid" or name in table.primary):
            yield f"{place}.{name}: a key of the app is never changed; leave it out"
        elif place == "on_delete.clear" and column.not_null:
            yield f"{place}: {name} is NOT NULL and cannot be cleared"


def _faults_of_expressions(connection: Connection, checked: Checked) -> Iterator[str]:
    """Asks Postgres about all expressions at once, and only about each if that fails."""
    expressions = list(checked.mapping.expressions)
    if _verdict(connection, checked, expressions) is None:
        return
    for each in expressions:
        place, column, text = each
        if fault := _verdict(connection, checked, [each]):
            yield f"{place}.{column} = {text!r}: {fault}"


def _verdict(connection: Connection, checked: Checked, expressions: Sequence[tuple[str, str, str]]) -> str | None:
    """The fault found by Postgres, or None. EXPLAIN plans the statement and runs nothing."""
    statement = sql.SQL("explain {} select {} from {} as mirror").format(
        _insert_into(checked.table, [column for _, column, _ in expressions]),
        sql.SQL(", ").join(value_of(text) for _, _, text in expressions),
        checked.mirror,
    )
    try:
        with connection.transaction():
            # Binary: the extended protocol, which takes a single statement.
            connection.execute(statement, binary=True)
    except (psycopg.errors.LockNotAvailable, psycopg.errors.InsufficientPrivilege):
        # The expression is not at fault.
        raise
    except psycopg.Error as error:
        hint = f"; {error.diag.message_hint}" if error.diag.message_hint else ""
        return f"{error.diag.message_primary or 'Postgres rejected the expression'}{hint}"
    return None


def _insert_into(table: Table, columns: Sequence[str]) -> sql.Composable:
    # Not every view can be written, and a comparison only reads.
    if table.relkind == "v":
        return sql.SQL("")
    return sql.SQL("insert into {} ({})").format(table.reference, sql.SQL(", ").join(map(sql.Identifier, columns)))


def value_of(expression: str) -> sql.Composable:
    """An expression of a mapping, for a statement that reads the mirror's row as `mirror`."""
    # `read_mappings` has made sure that the text does not leave these parentheses.
    return sql.SQL("({})").format(sql.SQL(expression))
