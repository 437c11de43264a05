"""The operator's connection to Postgres, with advice in its errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, Self

import psycopg
from psycopg.abc import Params
from psycopg.conninfo import make_conninfo
from psycopg.pq import TransactionStatus
from psycopg.rows import Row

from clerk_supabase.postgres.connection_string import parse
from clerk_supabase.postgres.failures import failure, is_about_the_connection
from clerk_supabase_cli.failure import Failure
from clerk_supabase_cli.operate.blockers import locked
from clerk_supabase_cli.operate.reachability import advice

Connection = psycopg.Connection[tuple[Any, ...]]

DATABASE_URL: Final = "--database-url or DATABASE_URL"
"""The sources of the owner's connection string, as errors name them."""

NOT_REACHED: Final = "the database cannot be reached: "
"""The begin of DatabaseUnreachable's message."""

_CONNECT_SECONDS = 10
# A role that may create in a schema of the search path could plant a function there that fits our arguments better than
# Postgres's own, and the owner would run that function.
# No statement waits without end for a lock; a limit of the role, the database or the connection string holds, too.
_BEGIN: Final = """
    select
        pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true),
        case when pg_catalog.current_setting('lock_timeout') operator(pg_catalog.=) '0'
            then pg_catalog.set_config('lock_timeout', '10s', true) end
"""


class DatabaseFailed(Failure):
    """Postgres cannot be reached, is not set up, or refused a statement."""


class DatabaseUnreachable(DatabaseFailed):
    """No connection to Postgres could be opened or kept."""


class _Cursor(psycopg.Cursor[Row]):
    """Runs each statement in a transaction with the search path of OwnersConnection."""

    def execute(self, query: Any, params: Params | None = None, **options: Any) -> Self:
        """Runs a statement; without an open transaction, in its own transaction."""
        connection = self.connection
        if connection.info.transaction_status is not TransactionStatus.IDLE:
            return super().execute(query, params, **options)
        if connection.autocommit:
            with connection.transaction():
                return super().execute(query, params, **options)
        super().execute(_BEGIN)
        return super().execute(query, params, **options)


class OwnersConnection(psycopg.Connection[Row]):
    """A connection whose statements find only Postgres's own objects by a bare name.

    The search path is set for each transaction, and not for the session: a transaction pooler gives the session to
    other clients, with all its settings.
    """

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self.cursor_factory = _Cursor

    @contextmanager
    def transaction(
        self, savepoint_name: str | None = None, force_rollback: bool = False
    ) -> Iterator[psycopg.Transaction]:
        """A transaction, or a savepoint in the open transaction."""
        begins = self.info.transaction_status is TransactionStatus.IDLE
        with super().transaction(savepoint_name, force_rollback) as transaction:
            if begins:
                self.execute(_BEGIN)
            yield transaction


@contextmanager
def open_database(url: str) -> Iterator[Connection]:
    """A connection with a transaction for every statement, also through a pooler.

    Raises SetUpWrong for the URL, and DatabaseFailed, for a statement inside the block too; LockedByOthers for a
    statement that waited too long for a lock.
    """
    try:
        with connect(url, autocommit=True, prepare_threshold=None) as connection:
            try:
                yield connection
            except psycopg.errors.LockNotAvailable as error:
                raise locked(connection, error) from None
    except psycopg.Error as error:
        is_broken = isinstance(error, psycopg.OperationalError) and error.sqlstate is None
        if not is_broken and not is_about_the_connection(error.sqlstate, str(error)):
            raise DatabaseFailed(_what_to_do(error)) from error
        raise _not_reached(failure(str(error))) from None


def connect(url: str, *, seconds: int = _CONNECT_SECONDS, **options: Any) -> Connection:
    """A connection with options of psycopg's. Raises DatabaseFailed and SetUpWrong, which quote nothing of the URL."""
    defaults = {"connect_timeout": str(seconds), "application_name": "clerk-supabase"}
    given = parse(url, DATABASE_URL).keywords()
    try:
        return OwnersConnection.connect(make_conninfo("", **(defaults | given)), **options)
    except psycopg.Error as error:
        reason = failure(str(error))
    # Out here the error has no context: libpq's own words quote the connection string.
    raise _not_reached(reason)


def _not_reached(reason: Exception) -> DatabaseUnreachable:
    words = "; ".join(filter(None, [str(reason), advice(str(reason))]))
    return DatabaseUnreachable(f"{NOT_REACHED}{words}")


def _what_to_do(error: psycopg.Error) -> str:
    reason = error.diag.message_primary or " ".join(str(error).split())
    match error:
        case psycopg.errors.InsufficientPrivilege() if "row-level security" in reason:
            return f"{reason}; connect as a role that sees all rows: with BYPASSRLS, as postgres of Supabase has it"
        case psycopg.errors.InsufficientPrivilege():
            return f"{reason}; connect as the owner of the tables, not as the role that sync uses"
        case psycopg.errors.AdminShutdown() | psycopg.errors.CrashShutdown():
            return f"{reason}; what this command had not finished is as before: run the command again"
        case psycopg.errors.UndefinedTable() | psycopg.errors.UndefinedColumn() | psycopg.errors.InvalidSchemaName():
            return f"{reason}; run: clerk-supabase migrate"
        case _:
            return f"the database refused: {reason}"
