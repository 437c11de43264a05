"""The operator's connection to Postgres, and its errors in words that say what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from clerk_supabase_cli.failure import Failure

Connection = psycopg.Connection[tuple[Any, ...]]

_CONNECT_SECONDS = 10


class DatabaseFailed(Failure):
    """Postgres cannot be reached, is not set up, or refused a statement."""


@contextmanager
def open_database(url: str) -> Iterator[Connection]:
    """A connection on which every statement is a transaction of its own, also through a pooler.

    Raises DatabaseFailed, for a statement inside the block too.
    """
    try:
        with _connect(url) as connection:
            yield connection
    except psycopg.Error as error:
        raise DatabaseFailed(_what_to_do(error)) from error


def _connect(url: str) -> Connection:
    try:
        return psycopg.connect(
            url,
            autocommit=True,
            prepare_threshold=None,
            connect_timeout=_CONNECT_SECONDS,
            application_name="clerk-supabase",
        )
    except psycopg.ProgrammingError:
        # Its message repeats the string, and with it the password.
        raise DatabaseFailed("--database-url is no connection string: postgresql://user:password@host/name") from None


def _what_to_do(error: psycopg.Error) -> str:
    reason = error.diag.message_primary or " ".join(str(error).split())
    match error:
        case psycopg.errors.InsufficientPrivilege():
            return f"{reason}; connect as the owner of the tables, not as the role that sync uses"
        case psycopg.errors.UndefinedTable() | psycopg.errors.UndefinedColumn() | psycopg.errors.InvalidSchemaName():
            return f"{reason}; run: clerk-supabase migrate"
        case psycopg.OperationalError() if error.sqlstate is None:
            return f"the database cannot be reached: {reason}"
        case _:
            return f"the database refused: {reason}"
