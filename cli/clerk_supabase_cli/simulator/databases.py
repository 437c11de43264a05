"""The databases a search needs, and what Postgres says about the sessions in them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Protocol

import psycopg
from psycopg import sql

from clerk_supabase_cli.operate.role_urls import WORKER_ROLE

_SESSIONS: Final = "select from pg_stat_activity where datname = current_database() and usename = %s"
_DEADLOCKS: Final = "select deadlocks from pg_stat_database where datname = current_database()"


class Database(Protocol):
    """A migrated database: the superuser's way in, and that of the role which may only apply changes."""

    @property
    def url(self) -> str: ...
    @property
    def worker_url(self) -> str: ...


@contextmanager
def deadlocks_found_early(database: Database) -> Iterator[None]:
    """Sessions that lock each other out wait for a second by default, which would only slow a search down."""
    with psycopg.connect(database.url, autocommit=True) as connection:
        alter = sql.SQL("alter database {}").format(sql.Identifier(connection.info.dbname))
        connection.execute(alter + sql.SQL(" set deadlock_timeout = '20ms'"))
        yield
        connection.execute(alter + sql.SQL(" reset deadlock_timeout"))


def count_deadlocks(database: Database) -> int:
    """How many there have ever been, once every worker has closed its connection."""
    wait_for_workers(database)
    with psycopg.connect(database.url) as connection:
        [(deadlocks,)] = connection.execute(_DEADLOCKS).fetchall()
    return int(deadlocks)


def wait_for_workers(database: Database) -> None:
    """Until all their sessions are over: a session reports its statistics at its end."""
    deadline = time.monotonic() + 10
    with psycopg.connect(database.url, autocommit=True) as connection:
        while connection.execute(_SESSIONS, [WORKER_ROLE]).fetchall():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{WORKER_ROLE} is still connected")
            time.sleep(0.01)
