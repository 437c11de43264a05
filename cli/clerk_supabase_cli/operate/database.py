"""The operator's connection to Postgres, with advice in its errors."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

import psycopg
from psycopg.abc import Params
from psycopg.conninfo import make_conninfo
from psycopg.pq import TransactionStatus
from psycopg.rows import Row

from clerk_supabase.errors import DatabaseUnavailable, SetUpWrong
from clerk_supabase.postgres.connection import Connection as LimitedConnection
from clerk_supabase.postgres.connection_string import parse
from clerk_supabase.postgres.failures import failure, is_about_the_connection
from clerk_supabase_cli.failure import Failure
from clerk_supabase_cli.operate.blockers import locked
from clerk_supabase_cli.operate.reachability import NO_ANSWER, advice, is_about_tls

if TYPE_CHECKING:
    from psycopg.abc import RV, PQGen

Connection = psycopg.Connection[tuple[Any, ...]]

DATABASE_URL: Final = "--database-url or DATABASE_URL"
"""The sources of the owner's connection string, as errors name them."""

NOT_REACHED: Final = "the database cannot be reached: "
"""The begin of DatabaseUnreachable's message."""

# A pause between two questions whether the server is alive, while a statement takes its time.
_LONGEST_SILENCE: Final = 30.0
# A role that may create in a schema of the search path could plant a function there that fits our arguments better than
# Postgres's own, and the owner would run that function.
# No statement waits without end for a lock; a limit of the role, the database or the connection string holds, too.
_BEGIN: Final = """
    select
        pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true),
        case when pg_catalog.current_setting('lock_timeout') operator(pg_catalog.=) '0'
            then pg_catalog.set_config('lock_timeout', '10s', true) end
"""


@dataclass(frozen=True, slots=True)
class Patience:
    """Limits in seconds for a server that does not answer: one that is stopped, or behind a network that drops packets.

    A slow statement is no silence: after `silence` without an answer, the server is asked by another connection.
    """

    connect: int
    silence: float
    proof: int
    """The time of the other connection to show that the server is alive."""
    asks_server: bool = False
    """True: the proof is an answer to a statement. False: a login suffices, which a pooler answers while all its
    connections to the server are in use, such as by the statement that is waited for."""


PATIENT: Final = Patience(connect=10, silence=10.0, proof=10)
LOOK: Final = Patience(connect=4, silence=2.0, proof=3, asks_server=True)
"""For commands that tell a person about an outage: together at most five seconds."""


class DatabaseFailed(Failure):
    """Postgres cannot be reached, is not set up, or refused a statement."""


class DatabaseUnreachable(DatabaseFailed):
    """No connection to Postgres could be opened or kept."""

    is_outage = True
    """False: the server answers, and the connection string is wrong, such as its password."""


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

    patience: Patience | None = None
    """None: a statement may take as long as the server needs, also if the server is stopped."""
    keywords: Mapping[str, Any]
    """The parts of the connection string."""

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self.cursor_factory = _Cursor
        self.keywords = {}

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """Waits for the answer to a statement. Raises DatabaseUnreachable when the server is silent."""
        return super().wait(gen if self.patience is None else self._watched(gen, self.patience), interval, timeout)

    def _watched(self, gen: PQGen[RV], patience: Patience) -> PQGen[RV]:
        """Take the same steps, and ask a silent server for a sign of life, in longer and longer pauses."""
        heard, silence = time.monotonic(), patience.silence
        try:
            state = next(gen)
            while True:
                ready = yield state
                if ready:
                    heard, silence = time.monotonic(), patience.silence
                elif time.monotonic() - heard > silence:
                    self._require_life(patience)
                    heard, silence = time.monotonic(), min(2 * silence, max(silence, _LONGEST_SILENCE))
                state = gen.send(ready)
        except StopIteration as end:
            answer: RV = end.value
            return answer

    def _require_life(self, patience: Patience) -> None:
        """Raises DatabaseUnreachable, and closes this connection, unless the server answers another connection."""
        if _answers(self.keywords, patience):
            return
        # An answer that comes later would be taken for that to the next question.
        self.pgconn.finish()
        reason = f"{NO_ANSWER} within {patience.silence + patience.proof:g} s, nor to another connection"
        raise _not_reached(DatabaseUnavailable(reason), str(self.keywords.get("host", "")))

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
def open_database(url: str, patience: Patience = PATIENT) -> Iterator[Connection]:
    """A connection with a transaction for every statement, also through a pooler.

    Raises SetUpWrong for the URL, and DatabaseFailed, for a statement inside the block too; LockedByOthers for a
    statement that waited too long for a lock; DatabaseUnreachable for a server that does not answer.
    """
    try:
        with connect(url, patience, autocommit=True, prepare_threshold=None) as connection:
            try:
                yield connection
            except psycopg.errors.LockNotAvailable as error:
                raise locked(connection, error) from None
    except psycopg.Error as error:
        is_broken = isinstance(error, psycopg.OperationalError) and error.sqlstate is None
        if not is_broken and not is_about_the_connection(error.sqlstate, str(error)):
            raise DatabaseFailed(_what_to_do(error)) from error
        raise _not_reached(failure(str(error)), _host(url)) from None


def connect(url: str, patience: Patience = PATIENT, **options: Any) -> Connection:
    """A connection with options of psycopg's. Raises DatabaseFailed and SetUpWrong, which quote nothing of the URL."""
    given = parse(url, DATABASE_URL).keywords()
    keywords = {"connect_timeout": str(patience.connect), "application_name": "clerk-supabase", **given}
    try:
        connection = OwnersConnection.connect(make_conninfo("", **keywords), **options)
    except psycopg.Error as error:
        reason = failure(str(error))
    else:
        connection.patience, connection.keywords = patience, keywords
        return connection
    # Out here the error has no context: libpq's own words quote the connection string.
    raise _not_reached(reason, str(given["host"]))


def advice_on_name(typed: str, example: str = "public.tasks") -> str:
    """The advice after Postgres did not find a table."""
    if typed.count(".") == 1:
        return "create the table first, or correct its name"
    return f"spell it schema.table, as in {example}"


def why_unreachable(url: str, patience: Patience = LOOK) -> DatabaseUnreachable | None:
    """The error of a first statement, within seconds; None if the database answers. Raises SetUpWrong."""
    try:
        with open_database(url, patience) as connection:
            connection.execute("select 1")
            return None
    except DatabaseUnreachable as error:
        return error


def _answers(keywords: Mapping[str, Any], patience: Patience) -> bool:
    """Tells whether a new connection is answered in time; an error is an answer, too."""
    limited = {**keywords, "connect_timeout": str(patience.proof)}
    try:
        with LimitedConnection.connect(make_conninfo("", **limited), autocommit=True) as connection:
            if patience.asks_server:
                connection.patience_seconds = float(patience.proof)
                connection.execute("select 1")
    except DatabaseUnavailable:
        return False
    except psycopg.Error as error:
        failed = failure(str(error))
        return isinstance(failed, SetUpWrong) or "too many connections" in str(failed)
    return True


def _host(url: str) -> str:
    return parse(url, DATABASE_URL).host


def _not_reached(reason: Exception, host: str) -> DatabaseUnreachable:
    words = "; ".join(filter(None, [str(reason), advice(str(reason), host)]))
    error = DatabaseUnreachable(f"{NOT_REACHED}{words}")
    error.is_outage = not isinstance(reason, SetUpWrong) and not is_about_tls(str(reason))
    return error


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
