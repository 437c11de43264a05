"""Access to Supabase's Postgres. No other module knows psycopg."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, LiteralString, Protocol, cast, get_args

import psycopg
from psycopg import pq
from psycopg.conninfo import make_conninfo
from psycopg.rows import TupleRow

from clerk_supabase.errors import (
    ChangeRefused,
    ClerkSupabaseError,
    DatabaseNotReady,
    DatabaseUnavailable,
    NotAllowed,
    Retryable,
    RowUnavailable,
    SetUpWrong,
    ValueRefused,
)
from clerk_supabase.model.changes import Changes, Source
from clerk_supabase.model.envelope import ParkedEvent
from clerk_supabase.postgres.batch import as_json, element_of, provenance, rows_of, with_page
from clerk_supabase.postgres.connection_string import parse
from clerk_supabase.postgres.failures import failure, is_about_the_connection
from clerk_supabase.postgres.parts import in_parts
from clerk_supabase.telemetry import count, logger

if TYPE_CHECKING:
    from psycopg.abc import RV, PQGen

    from clerk_supabase.tokens.claims import Claims

Outcome = Literal["created", "updated", "unchanged", "stale", "deleted", "refused", "duplicate"]

_APPLY = "select outcome from clerk_sync.apply(%s::jsonb) order by position"
# In one transaction; first what was left out, so that two workers with the same change wait for each other only there.
_APPLY_AND_RECORD = "select outcome from clerk_sync.apply(clerk_sync.record_dropped(%s::jsonb)) order by position"
_PARK = "select clerk_sync.park(%s::jsonb)"
# What reconcile, housekeeping and canaries call; each takes one JSON value and returns one.
Function = Literal[
    "begin_run",
    "renew_lease",
    "plan_run",
    "windows_of_run",
    "cut_users",
    "count_rows",
    "rank_rows",
    "compare",
    "fill",
    "finish_window",
    "find_unseen",
    "prepare_deletes",
    "next_slice",
    "visit_slice",
    "settle_sweeps",
    "expire_invitations",
    "delete_candidates",
    "weigh_deletes",
    "settle_findings",
    "check_rows",
    "retry_held_up",
    "held_repairs",
    "emptied_columns",
    "end_run",
    "list_runs",
    "show_run",
    "known_as",
    "look_at_objects",
    "check_objects",
    "memberships_of",
    "undo_run",
    "reset_runs",
    "keep_house",
    "record_canary",
]
_FUNCTIONS: Final[Mapping[Function, LiteralString]] = MappingProxyType(
    {name: f"select clerk_sync.{name}(%s::jsonb)" for name in get_args(Function)}
)
# An empty batch: nothing is written, but the function, the right to call it and its tables must be there.
_CHECK = "select clerk_sync.takes_writes(), (select count(*) from clerk_sync.apply(%s::jsonb))"

# Both end with the transaction, so the next one on this connection, which may be somebody else's, begins as nobody.
_ACT_AS_USER = "select set_config('role', 'authenticated', true), set_config('request.jwt.claims', %s, true)"

# Limits in milliseconds, for one transaction only, and never above those of the role: 0 is none.
_LIMIT = """
    select set_config(name, coalesce(least(nullif(setting::bigint, 0), longest), 0)::text, true)
    from (values ('statement_timeout', %s::bigint), ('lock_timeout', %s)) as given (name, longest)
    inner join pg_catalog.pg_settings using (name)
"""
# The longest that a part of a batch waits for a lock.
_LOCK_OF_PART_SECONDS: Final = 0.5
CONNECT_SECONDS: Final = 5
# A pooler in transaction mode keeps nothing between two statements, so nothing here relies on the session; limits on
# statements and locks belong to the role. A connection whose other end is gone must fail in seconds, not in hours.
_CONNECTION_DEFAULTS = {
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

# Classes of SQLSTATE. https://www.postgresql.org/docs/current/errcodes-appendix.html
_PASSES = {
    "08",  # connection
    "25",  # transaction state: the server is read-only, as after a failover
    "40",  # deadlock, serialization failure
    "53",  # out of connections, memory or disk
    "55",  # lock not available
    "57",  # cancelled, shutting down
    "58",  # the server's own files
    "XX",  # the server's own bugs
}
_PASSES_FOR_OTHER_ROWS = {"40", "55", "XX"}
_CANCELLED = "57014"
# What a trigger of the app asks for elsewhere, such as by dblink or from a file.
_OUTSIDE_OF_THE_SERVER = {"08", "58"}
_OF_A_VALUE = {
    "22",  # of no such type, or out of its range
    "54",  # longer than an index takes, nested deeper than a function can follow
}
_INSUFFICIENT_PRIVILEGE = "42501"
_NOT_SET_UP = {
    "3F",  # schema does not exist
    "42",  # function or column missing, or no right to use it
}


class DatabaseUrl(Protocol):
    """A source of the connection string, which can be asked for a newer string after the present string failed."""

    @property
    def source(self) -> str:
        """The name of the secret or variable, for errors."""
        ...

    def value(self) -> str: ...
    def changed(self) -> bool: ...


class Queries(Protocol):
    """Queries that act as a user."""

    def rows(self, query: LiteralString, *parameters: object) -> list[tuple[Any, ...]]:
        """The rows of one statement; an empty list if the statement returns no rows.

        Raises NotAllowed for a statement that the policies or a missing right forbid, Retryable, and ChangeRefused for
        all other errors of Postgres. After any error, the transaction is over and rolled back.
        """
        ...


class Store:
    """Applies changes to Postgres over a single connection, kept while the function's environment lives."""

    def __init__(
        self,
        url: DatabaseUrl,
        ca_file: str = "",
        patience_seconds: float | None = None,
        *,
        lock_seconds: float | None = None,
    ) -> None:
        """`url`: see connection_string; TLS with `verify-full` unless the string names another `sslmode`.

        `ca_file`: path of the certificate authority's PEM file. `patience_seconds`: the longest wait for an answer;
        None: as long as the server takes. A limit of the server ends no wait for an unavailable server. `lock_seconds`:
        the longest wait for a lock, for a role without a limit of its own; each call then is a transaction of a few
        statements, because a pooler may give the session to another client.
        """
        self._url = url
        self._ca_file = ca_file
        self._patience_seconds = patience_seconds
        self._lock_seconds = lock_seconds
        self._connection: _Connection | None = None
        self._acts_as_user = False

    def twin(self) -> Store:
        """Another store of the same database, with a connection of its own: for another thread."""
        return Store(self._url, self._ca_file, self._patience_seconds, lock_seconds=self._lock_seconds)

    def call(self, function: Function, argument: Mapping[str, object], page: Sequence[str] = ()) -> Any:
        """The JSON answer of a function of clerk_sync. `page`: elements of the argument, already written as JSON.

        Raises Retryable and ChangeRefused.
        """
        text = with_page(as_json(argument), page) if page else as_json(argument)
        with _errors_translated():
            [(answer,)] = self._execute(text, _FUNCTIONS[function])
        return answer

    def apply(self, batch: Sequence[tuple[Changes, Source]]) -> list[Outcome | ChangeRefused | Retryable]:
        """Applies the changes in one transaction and one round trip; returns an answer for each, in their order.

        The answer is the error for a change that Postgres refuses, or cannot apply now because of its row; all other
        changes are applied: see in_parts(). If Postgres refuses a value, the store empties fields that clients write
        where this helps, so no such field can stop the rest of an object. Raises Retryable when the database is
        unavailable and nothing could be applied. A second call with the same changes is harmless.
        """
        return in_parts(batch, self._apply_together) if batch else []

    def park(self, events: Sequence[ParkedEvent]) -> list[ChangeRefused | Retryable | None]:
        """Writes events to clerk_sync.parked_events; returns an answer for each: None, or the error for its row.

        A second call with the same events is harmless. Raises Retryable when the database is unavailable.
        """
        return in_parts(events, self._park_together) if events else []

    def check(self) -> None:
        """Raises Retryable unless the database is available, takes writes and has the function that applies changes."""
        with _errors_translated():
            [(takes_writes, _)] = self._execute("[]", _CHECK)
        if not takes_writes:
            raise DatabaseUnavailable("the database is read-only")

    @contextmanager
    def as_user(self, claims: Claims) -> Iterator[Queries]:
        """Runs queries in one transaction as the user with these claims, under the same policies as the user's browser.

        The claims must have been verified. The login role must be a member of `authenticated`; the role of sync is not.
        The transaction is committed at the end of the block, and rolled back when the block raises. Inside the block,
        the store refuses all other calls: as another user, apply() and the rest. Raises the errors of Queries.rows().
        """
        with _errors_translated():
            connection = self._begin_as(claims)
        self._acts_as_user = True
        try:
            yield _QueriesOfUser(connection)
            _require_transaction(connection)
            with _errors_translated(_of_user):
                connection.execute("commit")
        finally:
            self._acts_as_user = False
            self._end_transaction(connection)

    def close(self) -> None:
        """Closes the connection; the next call opens a new connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _apply_together(self, batch: Sequence[tuple[Changes, Source]], seconds: float | None = None) -> list[Outcome]:
        """Apply all changes or no change within a number of seconds. A single change may be applied in part.

        See _apply_with_less().
        """
        try:
            return self._apply_as_it_is(batch, seconds)
        except ValueRefused:
            less = self._apply_with_less(*batch[0], seconds) if len(batch) == 1 else None
            if less is None:
                raise
            return [less]

    def _apply_as_it_is(self, batch: Sequence[tuple[Changes, Source]], seconds: float | None) -> list[Outcome]:
        elements: list[dict[str, object]] = []
        positions: list[int] = []
        for changes, source in batch:
            positions.append(len(elements))
            main = element_of(changes.main) | provenance(source)
            elements.append(main | {"dropped": changes.dropped} if changes.dropped else main)
            elements += [element_of(companion) | provenance(source, is_main=False) for companion in changes.companions]
        batch_as_json = as_json(elements)
        query = _APPLY_AND_RECORD if any(changes.dropped for changes, _ in batch) else _APPLY
        with _errors_translated():
            try:
                rows = self._execute(batch_as_json, query, seconds)
            except psycopg.errors.UniqueViolation as error:
                if error.diag.constraint_name != "deliveries_pkey":
                    raise
                # Another worker recorded one of these deliveries at the same moment; now it is there to be seen.
                rows = self._execute(batch_as_json, query, seconds)
        outcomes = [cast("Outcome", rows[position][0]) for position in positions]
        for (changes, source), outcome in zip(batch, outcomes, strict=True):
            if changes.dropped and outcome != "duplicate":
                _tell_dropped(changes, source)
        return outcomes

    def _apply_with_less(self, changes: Changes, source: Source, seconds: float | None) -> Outcome | None:
        """Apply a change without the value refused by Postgres, if clients write the field; None: not applied."""
        from clerk_supabase.model.storable import with_less  # noqa: PLC0415 - most environments never need it

        for less in with_less(changes):
            with suppress(ChangeRefused):
                [outcome] = self._apply_as_it_is([(less, source)], seconds)
                return outcome
        return None

    def _park_together(self, events: Sequence[ParkedEvent], seconds: float | None) -> list[None]:
        with _errors_translated():
            self._execute(rows_of(events), _PARK, seconds)
        return [None] * len(events)

    def _begin_as(self, claims: Claims) -> psycopg.Connection:
        """A connection with a transaction that acts as the user."""
        self._refuse_to_mix()
        kept = self._connection
        if kept is not None and not kept.closed:
            try:
                return _act_as(kept, claims)
            except psycopg.OperationalError:
                # As in _execute.
                if not kept.closed:
                    self._end_transaction(kept)
                    raise
        self._connection = self._connect()
        try:
            return _act_as(self._connection, claims)
        except psycopg.Error:
            self._end_transaction(self._connection)
            raise

    def _end_transaction(self, connection: psycopg.Connection) -> None:
        """Rolls back an open transaction. If the rollback fails, closes the connection."""
        if connection.info.transaction_status == pq.TransactionStatus.IDLE:
            return
        try:
            connection.execute("rollback")
        except psycopg.Error:
            connection.close()

    def _refuse_to_mix(self) -> None:
        # Settings of an inner transaction would last until the end of the outer one, and changes be the user's.
        if self._acts_as_user:
            raise RuntimeError("this store acts as a user until the block of as_user() ends; take its twin()")

    def _execute(
        self, batch: str, query: LiteralString = _APPLY, seconds: float | None = None
    ) -> list[tuple[Any, ...]]:
        """The rows of a single statement; with a limit in seconds, the statement runs in a transaction of a few."""
        self._refuse_to_mix()
        is_limited = seconds is not None or self._lock_seconds is not None
        ask = partial(self._ask_within, seconds) if is_limited else self._ask
        kept = self._connection
        if kept is not None and not kept.closed:
            try:
                return ask(kept, query, batch)
            except psycopg.OperationalError as error:
                # The other end may have gone while the function was frozen; applying twice is harmless. A pooler that
                # ended the statement for the time it took would do so again.
                if isinstance(failure(str(error)), RowUnavailable) or not kept.closed:
                    raise
        self._connection = self._connect()
        return ask(self._connection, query, batch)

    @staticmethod
    def _ask(connection: psycopg.Connection, query: LiteralString, batch: str) -> list[tuple[Any, ...]]:
        return connection.execute(query, [batch]).fetchall()

    def _ask_within(
        self, seconds: float | None, connection: _Connection, query: LiteralString, batch: str
    ) -> list[tuple[Any, ...]]:
        patience = connection.patience_seconds
        lock_seconds = self._lock_seconds
        if seconds is not None:
            connection.patience_seconds = seconds + 1 if patience is None else min(seconds + 1, patience)
            lock_seconds = min(seconds, _LOCK_OF_PART_SECONDS)
        try:
            connection.execute("begin")
            connection.execute(_LIMIT, [_milliseconds(seconds), _milliseconds(lock_seconds)])
            rows = self._ask(connection, query, batch)
            connection.execute("commit")
        finally:
            self._end_transaction(connection)
            connection.patience_seconds = patience
        return rows

    def _connect(self) -> _Connection:
        """Open a connection with the newest connection string. Raises DatabaseUnavailable and SetUpWrong."""
        try:
            return self._connect_with_newest()
        except SetUpWrong:
            count("SetUpWrong")
            raise

    def _connect_with_newest(self) -> _Connection:
        try:
            return self._connect_to(self._url.value())
        except (DatabaseUnavailable, SetUpWrong):
            if not self._url.changed():
                raise
        return self._connect_to(self._url.value())

    def _connect_to(self, url: str) -> _Connection:
        options = _CONNECTION_DEFAULTS | parse(url, self._url.source).keywords()
        if self._ca_file:
            options["sslrootcert"] = self._ca_file
        try:
            # One statement is one transaction: BEGIN and COMMIT would cost two more round trips.
            connection = _Connection.connect(make_conninfo("", **options), autocommit=True, prepare_threshold=None)
        except psycopg.Error as error:
            failed = failure(str(error))
        else:
            connection.patience_seconds = self._patience_seconds
            return connection
        # Out here the error has no context: libpq's own words quote the connection string.
        raise failed


def _milliseconds(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1000)


class _Connection(psycopg.Connection[TupleRow]):
    """A connection with a limit for each wait: a pooler takes a query and holds it while the server is unavailable."""

    patience_seconds: float | None = None

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """Wait for the answer to a query. Raises DatabaseUnavailable at the limit, after closing the connection."""
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


def _act_as(connection: psycopg.Connection, claims: Claims) -> psycopg.Connection:
    connection.execute("begin")
    connection.execute(_ACT_AS_USER, [claims.payload])
    return connection


class _QueriesOfUser:
    """Queries on a connection whose transaction acts as a user."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection

    def rows(self, query: LiteralString, *parameters: object) -> list[tuple[Any, ...]]:
        """See Queries."""
        _require_transaction(self._connection)
        with _errors_translated(_of_user):
            # Binary results travel by the protocol that takes one statement only.
            cursor = self._connection.execute(query, parameters or None, binary=True)
            return [] if cursor.description is None else cursor.fetchall()


def _require_transaction(connection: psycopg.Connection) -> None:
    # After an error Postgres takes a commit and rolls back; after the transaction, nobody is held by any policy.
    if connection.info.transaction_status != pq.TransactionStatus.INTRANS:
        raise RuntimeError("the transaction of this user is over: ended by an error, or by a statement of its own")


def _of_user(error: psycopg.Error) -> NotAllowed | None:
    """The error for a statement that the user has no right to: no fault of the database. None: another error."""
    return NotAllowed(_what_is_refused(error)) if error.sqlstate == _INSUFFICIENT_PRIVILEGE else None


@contextmanager
def _errors_translated(own: Callable[[psycopg.Error], ClerkSupabaseError | None] = lambda _: None) -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        if not is_about_the_connection(error.sqlstate, str(error)) or _is_the_apps_own(error):
            raise own(error) or _translated(error) from error
        failed = failure(str(error))
        if isinstance(failed, SetUpWrong):
            count("SetUpWrong")
        raise failed from None


def _translated(error: psycopg.Error) -> ClerkSupabaseError:
    sqlstate = error.sqlstate or ""
    # Without a SQLSTATE it is the connection that broke; the message names no data.
    reason = error.diag.message_primary or str(error).strip()
    if _is_raised_by_the_app(error):
        reason = f"{type(error).__name__} raised by a trigger of the app"  # whose words may quote the row
    if sqlstate[:2] in _NOT_SET_UP and not _is_the_apps_own(error):
        return DatabaseNotReady(f"{reason} ({sqlstate}); run: clerk-supabase migrate")
    if not sqlstate or (sqlstate[:2] in _PASSES and not (sqlstate == "XX000" and _is_the_apps_own(error))):
        unavailable = RowUnavailable if _may_be_one_row(error) else DatabaseUnavailable
        return unavailable(f"{reason} ({sqlstate or 'no answer'})")
    # Whatever is left is about the data: constraints, limits, and triggers of the app with a code of their own.
    refused = ValueRefused if sqlstate[:2] in _OF_A_VALUE and not _is_raised_by_the_app(error) else ChangeRefused
    return refused(_what_is_refused(error))


def _may_be_one_row(error: psycopg.Error) -> bool:
    """Tells whether a single row may be the reason, so that the other rows of the statement can be tried alone."""
    sqlstate = error.sqlstate or ""
    if sqlstate[:2] in _PASSES_FOR_OTHER_ROWS or sqlstate == _CANCELLED or _is_raised_by_the_app(error):
        return True
    return sqlstate[:2] in _OUTSIDE_OF_THE_SERVER and _is_the_apps_own(error)


def _is_the_apps_own(error: psycopg.Error) -> bool:
    """Tells whether the error came from a function outside of this project, such as a trigger of the app."""
    innermost = re.search(r"function (\S+)", error.diag.context or "")
    return innermost is not None and not innermost[1].startswith("clerk_sync.")


def _is_raised_by_the_app(error: psycopg.Error) -> bool:
    """Tells whether a function of the app refuses on purpose, in words of its own."""
    return _is_the_apps_own(error) and " at RAISE" in (error.diag.context or "").partition("\n")[0]


def _tell_dropped(changes: Changes, source: Source) -> None:
    """Count and log the fields of an object that lost a part: the names of the fields, never a value."""
    count("FieldsDropped", len(changes.dropped))
    where = provenance(source)
    logger.warning(
        "fields left out",
        fields=changes.dropped,
        object_id=changes.main.id,
        svix_id=where.get("svix_id"),
        cause=where["cause"],
    )


def _what_is_refused(error: psycopg.Error) -> str:
    """A message that names the rule, never the data: Postgres puts values into its own messages."""
    where = [
        f"{name} {value}"
        for name, value in (
            ("table", error.diag.table_name),
            ("column", error.diag.column_name),
            ("constraint", error.diag.constraint_name),
        )
        if value
    ]
    return ", ".join([f"Postgres refuses the data: {type(error).__name__} ({error.sqlstate})", *where])
