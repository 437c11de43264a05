"""A failover to a replica without the last commits: the tables return to the state of the last save.

The app's table that follows the mirror lies in the same database: the table, its feed and its unfed rows return, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from psycopg import sql

from clerk_supabase_cli.operate.database import Connection

_TABLES: Final = """
select n.nspname, c.relname
from pg_class as c inner join pg_namespace as n on n.oid = c.relnamespace
where c.relkind = 'r' and (n.nspname in ('clerk', 'clerk_sync') or (n.nspname, c.relname) = ('public', 'fed_people'))
-- Rows of migrations, not of events.
and c.relname not in ('kinds', 'migrations', 'profile_visibility')
order by 1, 2
"""


class Replica:
    """A copy of every table at a moment. Sequences stay ahead, as on a real replica."""

    def __init__(self, connection: Connection) -> None:
        connection.execute("create schema replica")
        self._connection = connection
        self._tables = [
            (sql.Identifier(schema, table), sql.Identifier("replica", f"{schema}_{table}"))
            for schema, table in connection.execute(_TABLES).fetchall()
        ]
        for table, copy in self._tables:
            connection.execute(sql.SQL("create table {} as table {} with no data").format(copy, table))
        self.has_rows = False

    def save(self) -> None:
        """Copies the present rows of every table."""
        self.forget()
        self._both(sql.SQL("insert into {copy} select * from {table}"))
        self.has_rows = True

    def empty_tables(self) -> None:
        """Deletes every row except the copies; for few rows, this is faster than truncate."""
        delete = sql.SQL(";").join(sql.SQL("delete from {}").format(table) for table, _ in self._tables)
        with self._without_triggers():
            self._connection.execute(delete)

    def take_over(self) -> None:
        """Restores the copy, so that every commit since the save is lost."""
        truncate = sql.SQL("truncate {} cascade").format(sql.SQL(", ").join(table for table, _ in self._tables))
        # A replica gets rows, not statements.
        with self._without_triggers():
            self._connection.execute(truncate)
            self._both(sql.SQL("insert into {table} overriding system value select * from {copy}"))

    @contextmanager
    def _without_triggers(self) -> Iterator[None]:
        """A transaction without triggers and foreign keys."""
        with self._connection.transaction():
            self._connection.execute("set local session_replication_role = replica")
            yield

    def forget(self) -> None:
        """Empties the copy: no failover is possible until the next save."""
        if self.has_rows:
            copies = sql.SQL(", ").join(copy for _, copy in self._tables)
            self._connection.execute(sql.SQL("truncate {}").format(copies))
        self.has_rows = False

    def drop(self) -> None:
        """Removes the copies."""
        self._connection.execute("drop schema replica cascade")

    def _both(self, statement: sql.SQL) -> None:
        together = sql.SQL(";").join(statement.format(table=table, copy=copy) for table, copy in self._tables)
        self._connection.execute(together)
