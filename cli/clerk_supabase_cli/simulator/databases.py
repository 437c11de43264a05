"""The databases of a search, and Postgres's statistics about their sessions."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Protocol

import psycopg
from psycopg import sql

from clerk_supabase_cli.operate.setup.role_urls import WORKER_ROLE

_SESSIONS: Final = "select from pg_stat_activity where datname = current_database() and usename = %s"
_PART: Final = "select pg_get_functiondef('clerk_sync.rows_in_part()'::regprocedure)"
_SMALL_PART: Final = """
    create or replace function clerk_sync.rows_in_part() returns integer language sql immutable
    set search_path = pg_catalog, pg_temp as 'select 1'
"""
_DEADLOCKS: Final = "select deadlocks from pg_stat_database where datname = current_database()"


class Database(Protocol):
    """A migrated database, with the URLs of the superuser and of the worker's role, which may only apply changes."""

    @property
    def url(self) -> str: ...
    @property
    def worker_url(self) -> str: ...


@contextmanager
def deadlocks_found_early(database: Database) -> Iterator[None]:
    """Detects deadlocks after 20 ms during the `with` block; the default, a second, would slow a search down."""
    with psycopg.connect(database.url, autocommit=True) as connection:
        alter = sql.SQL("alter database {}").format(sql.Identifier(connection.info.dbname))
        connection.execute(alter + sql.SQL(" set deadlock_timeout = '20ms'"))
        yield
        connection.execute(alter + sql.SQL(" reset deadlock_timeout"))


@contextmanager
def deletes_in_small_parts(database: Database) -> Iterator[None]:
    """Hides one child row of a kind at a time during the `with` block: then a delete of two rows is one of many."""
    with psycopg.connect(database.url, autocommit=True) as connection:
        [(as_it_was,)] = connection.execute(_PART).fetchall()
        connection.execute(_SMALL_PART)
        yield
        connection.execute(as_it_was)


def count_deadlocks(database: Database) -> int:
    """The number of all deadlocks so far, read after every worker has closed its connection."""
    wait_for_workers(database)
    with psycopg.connect(database.url) as connection:
        [(deadlocks,)] = connection.execute(_DEADLOCKS).fetchall()
    return int(deadlocks)


def wait_for_workers(database: Database) -> None:
    """Waits for the end of all sessions of workers, at which a session reports its statistics. Raises TimeoutError."""
    deadline = time.monotonic() + 10
    with psycopg.connect(database.url, autocommit=True) as connection:
        while connection.execute(_SESSIONS, [WORKER_ROLE]).fetchall():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{WORKER_ROLE} is still connected")
            time.sleep(0.01)
