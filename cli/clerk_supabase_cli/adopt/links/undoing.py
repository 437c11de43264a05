"""Undo of recorded links."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Final

from psycopg import sql

from clerk_supabase_cli.adopt.links.statements import SETTINGS, row_key
from clerk_supabase_cli.adopt.links.writing import Writer
from clerk_supabase_cli.adopt.tables import TableMissing, find_table
from clerk_supabase_cli.operate.database import Connection

_HAS_LINKS: Final = "select to_regclass('clerk_sync.links') is not null"
_RECORDED: Final = """
select l.relation, l.key_column, count(*) from clerk_sync.links as l
where l.undone_at is null and (%(relation)s::text is null or l.relation = %(relation)s)
group by l.relation, l.key_column order by 1, 2
"""
_UNDO: Final = """
with recorded as (
    select l.link_id, l.row_key, l.clerk_id from clerk_sync.links as l
    where l.undone_at is null and l.relation = {relation} and l.key_column = {key_name} for update
),

undone as (
    update {table} as theirs set {key} = null from recorded as r
    where theirs.{key}::text = r.clerk_id and {row_key} = r.row_key returning r.link_id
)

update clerk_sync.links as l set undone_at = clock_timestamp(), undone_by = {operator}
from undone as u where u.link_id = l.link_id returning l.link_id
"""


@dataclass(frozen=True, slots=True)
class Unlinked:
    """The undone links of a table."""

    table: str
    undone: int
    changed: int
    """Links that stay, because the row has another id since, or is gone."""
    fault: str = ""
    """The reason why no link of the table was undone."""


def unlink(writer: Writer, relation: str | None = None) -> list[Unlinked]:
    """Takes back the recorded links of a table, or of all tables: exactly the rows that still hold the recorded id."""
    results: list[Unlinked] = []
    if writer.connection.execute(_HAS_LINKS).fetchall() == [(False,)]:
        return results
    for name, key, recorded in writer.connection.execute(_RECORDED, {"relation": relation}).fetchall():
        try:
            table = find_table(writer.connection, name)
            column = table.columns[key]
        except (TableMissing, KeyError):
            results.append(Unlinked(name, 0, recorded, f"{name} has no column {key} any more"))
            continue
        if column.not_null:
            results.append(Unlinked(name, 0, recorded, f"{key} is NOT NULL now"))
            continue
        statement = sql.SQL(_UNDO).format(
            relation=sql.Literal(name),
            key_name=sql.Literal(key),
            table=table.reference,
            key=sql.Identifier(key),
            row_key=row_key(table.primary),
            operator=sql.Literal(writer.operator),
        )
        undone = writer.in_turns(functools.partial(_undone, writer.connection, statement))
        results.append(Unlinked(name, undone, recorded - undone))
    return results


def _undone(connection: Connection, statement: sql.Composed) -> int:
    connection.execute(SETTINGS)
    return len(connection.execute(statement, binary=True).fetchall())
