"""The connection to Supabase's Postgres: defaults, limits of time, and the errors of psycopg."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final, LiteralString

import psycopg
from psycopg import pq
from psycopg.conninfo import make_conninfo
from psycopg.rows import TupleRow

from clerk_supabase.errors import ClerkSupabaseError, DatabaseUnavailable, NotAllowed, RowUnavailable, SetUpWrong
from clerk_supabase.postgres.connection_string import parse
from clerk_supabase.postgres.failures import (
    INSUFFICIENT_PRIVILEGE,
    failure,
    is_about_the_connection,
    is_the_apps_own,
    translated,
    what_is_refused,
)
from clerk_supabase.telemetry import count
from clerk_supabase.version import MAJOR

if TYPE_CHECKING:
    from psycopg.abc import RV, PQGen

    from clerk_supabase.credentials import Credential

Rows = list[tuple[Any, ...]]

CONNECT_SECONDS: Final = 5
# A pooler in transaction mode keeps nothing between two statements, so nothing here relies on the session; limits on
# statements and locks belong to the role. A connection whose other end is gone must fail in seconds, not in hours.
_DEFAULTS: Final = {
    "application_name": "clerk-supabase-sync",
    "connect_timeout": str(CONNECT_SECONDS),
    "keepalives_idle": "5",
    "keepalives_interval": "5",
    "keepalives_count": "2",
    "tcp_user_timeout": "10000",
    "sslmode": "verify-full",
}
# Longer than the statement_timeout of the role, so that Postgres says what was wrong; and with the time to connect
# shorter than the function has.
WORKER_PATIENCE_SECONDS: Final = 20.0
SESSION_PATIENCE_SECONDS: Final = 7.0

# Limits in milliseconds, for one transaction only, and never above those of the role: 0 is none.
_LIMIT = """
    select set_config(name, coalesce(least(nullif(setting::bigint, 0), longest), 0)::text, true)
    from (values ('statement_timeout', %s::bigint), ('lock_timeout', %s)) as given (name, longest)
    inner join pg_catalog.pg_settings using (name)
"""
# The longest that a part of a batch waits for a lock.
_LOCK_OF_PART_SECONDS: Final = 0.5
# Both end with the transaction, so the next one on this connection, which may be another user's, begins as nobody.
# The search path names the schema of the mirror, so that no query needs its name. pg_temp last: a temporary table hides
# no table. The search path comes first: afterwards, the role may not use clerk_sync.
_ACT_AS_USER = f"""
    select
        set_config('search_path', clerk_sync.for_major(clerk_sync.mirror_schema(), {MAJOR}) || ', pg_temp', true),
        set_config('role', 'authenticated', true),
        set_config('request.jwt.claims', %s, true)
"""


class Connection(psycopg.Connection[TupleRow]):
    """A connection with a limit to each wait: a pooler holds a query while the server is unavailable."""

    patience_seconds: float | None = None

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """Wait for the answer to a query. Raises DatabaseUnavailable; then the connection is closed."""
        patience = self.patience_seconds if timeout is None else timeout
        began = time.monotonic()
        try:
            return super().wait(gen, interval, patience)
        except psycopg.OperationalError as error:
            if patience is None or time.monotonic() - began < patience:
                raise
            # An answer that comes later would be taken for that to the next question.
            self.pgconn.finish()
            raise DatabaseUnavailable(f"the database did not answer within {patience:g} s") from error

    def require_transaction(self) -> None:
        """Raises RuntimeError when the transaction is over."""
        # After an error Postgres takes a commit and rolls back; after the transaction, nobody is held by any policy.
        if self.info.transaction_status != pq.TransactionStatus.INTRANS:
            raise RuntimeError("the transaction of this user is over: ended by an error, or by a statement of its own")

    def end_transaction(self) -> None:
        """Rolls back, unless the transaction is over. Closes the connection when the rollback fails."""
        if self.info.transaction_status == pq.TransactionStatus.IDLE:
            return
        try:
            self.execute("rollback")
        except psycopg.Error:
            self.close()


class KeptConnection:
    """A connection that stays open between statements, and is opened again after a failure."""

    def __init__(
        self, url: Credential, ca_file: str, patience_seconds: float | None, lock_seconds: float | None
    ) -> None:
        self._url = url
        self._ca_file = ca_file
        self._patience_seconds = patience_seconds
        self._lock_seconds = lock_seconds
        self.connection: Connection | None = None

    def close(self) -> None:
        """Closes the connection; the next statement opens a new one."""
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def execute(
        self,
        query: LiteralString,
        arguments: Sequence[str],
        seconds: float | None = None,
        *,
        again_after: str | None = None,
    ) -> Rows:
        """Executes a query as one statement; with a limit in seconds, in a transaction of a few statements.

        `again_after`: name of the unique constraint after whose violation the statement is executed once more.
        """
        try:
            return self._execute(query, arguments, seconds)
        except psycopg.errors.UniqueViolation as error:
            if again_after is None or error.diag.constraint_name != again_after:
                raise
            return self._execute(query, arguments, seconds)

    def begin_as(self, claims: str) -> Connection:
        """Begins a transaction in which nobody acts but the user with these claims, as JSON."""
        kept = self.connection
        if kept is not None and not kept.closed:
            try:
                return _act_as(kept, claims)
            except psycopg.Error:
                # As in _execute(). After a refusal, the transaction would keep the next call from its own.
                if not kept.closed:
                    kept.end_transaction()
                    raise
        self.connection = self._connect()
        try:
            return _act_as(self.connection, claims)
        except psycopg.Error:
            self.connection.end_transaction()
            raise

    def _execute(self, query: LiteralString, arguments: Sequence[str], seconds: float | None) -> Rows:
        is_limited = seconds is not None or self._lock_seconds is not None
        ask = partial(self._ask_within, seconds) if is_limited else _ask
        kept = self.connection
        if kept is not None and not kept.closed:
            try:
                return ask(kept, query, arguments)
            except psycopg.OperationalError as error:
                # The other end may have gone while the function was frozen; applying twice is harmless. A pooler that
                # ended the statement for the time it took would do so again.
                if isinstance(failure(str(error)), RowUnavailable) or not kept.closed:
                    raise
        self.connection = self._connect()
        return ask(self.connection, query, arguments)

    def _ask_within(
        self, seconds: float | None, connection: Connection, query: LiteralString, arguments: Sequence[str]
    ) -> Rows:
        patience = connection.patience_seconds
        lock_seconds = self._lock_seconds
        if seconds is not None:
            connection.patience_seconds = seconds + 1 if patience is None else min(seconds + 1, patience)
            lock_seconds = min(seconds, _LOCK_OF_PART_SECONDS)
        try:
            connection.execute("begin")
            connection.execute(_LIMIT, [_milliseconds(seconds), _milliseconds(lock_seconds)])
            rows = _ask(connection, query, arguments)
            connection.execute("commit")
        finally:
            connection.end_transaction()
            connection.patience_seconds = patience
        return rows

    def _connect(self) -> Connection:
        """Open a connection with the newest connection string. Raises DatabaseUnavailable and SetUpWrong."""
        try:
            return self._connect_with_newest()
        except SetUpWrong:
            count("SetUpWrong")
            raise

    def _connect_with_newest(self) -> Connection:
        try:
            return self._connect_to(self._url.value())
        except (DatabaseUnavailable, SetUpWrong):
            if not self._url.changed():
                raise
        return self._connect_to(self._url.value())

    def _connect_to(self, url: str) -> Connection:
        options = _DEFAULTS | parse(url, self._url.source).keywords()
        if self._ca_file:
            options["sslrootcert"] = self._ca_file
        try:
            # One statement is one transaction: BEGIN and COMMIT would cost two more round trips.
            connection = Connection.connect(make_conninfo("", **options), autocommit=True, prepare_threshold=None)
        except psycopg.Error as error:
            failed = failure(str(error))
        else:
            connection.patience_seconds = self._patience_seconds
            return connection
        # Out here the error has no context: libpq's own words quote the connection string.
        raise failed


def _ask(connection: Connection, query: LiteralString, arguments: Sequence[str]) -> Rows:
    return connection.execute(query, arguments).fetchall()


def _act_as(connection: Connection, claims: str) -> Connection:
    connection.execute("begin")
    connection.execute(_ACT_AS_USER, [claims])
    return connection


def _milliseconds(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1000)


@contextmanager
def errors_translated(own: Callable[[psycopg.Error], ClerkSupabaseError | None] = lambda _: None) -> Iterator[None]:
    """Raise the errors of this package instead of psycopg's. `own`: the error to prefer, if any.

    Raises Retryable and ChangeRefused.
    """
    try:
        yield
    except psycopg.Error as error:
        if not is_about_the_connection(error.sqlstate, str(error)) or is_the_apps_own(error):
            raise _counted(own(error) or translated(error)) from error
        raise _counted(failure(str(error))) from None


def _counted(error: ClerkSupabaseError) -> ClerkSupabaseError:
    """Count an error for a person to correct, for the alarm."""
    if isinstance(error, SetUpWrong):
        count("SetUpWrong")
    return error


def not_allowed(error: psycopg.Error) -> NotAllowed | None:
    """NotAllowed for a statement that a user has no right to execute: the database is in order."""
    return NotAllowed(what_is_refused(error)) if error.sqlstate == INSUFFICIENT_PRIVILEGE else None
