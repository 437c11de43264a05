"""The content of a database, in all tables of all owners."""

from __future__ import annotations

from psycopg import sql

from tests.kit.databases import Connection, rows


def tables_with(connection: Connection, text: str) -> list[str]:
    """The tables in which a row has this text anywhere, in any column of any type."""
    names = rows(
        connection,
        """
        select schemaname::text, tablename::text from pg_tables
        where schemaname not in ('pg_catalog', 'information_schema')
        order by schemaname, tablename
        """,
    )
    assert names
    query = sql.SQL("select 1 from {} as t where position(%s in t::text) > 0 limit 1")
    return [
        ".".join(name)
        for name in names
        if connection.execute(query.format(sql.Identifier(*name)), [text]).fetchone() is not None
    ]
