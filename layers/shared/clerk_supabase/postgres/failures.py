"""Errors of Postgres, of poolers and of libpq, translated into the errors of this package.

A failed connection is described in fixed words: libpq, poolers and the server put user, database, host and settings
into their messages, and each of these may be a part of a password that was pasted into the wrong place. So the message
is searched for signs, and never printed. The error of a statement is translated by its SQLSTATE.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from clerk_supabase.errors import (
    ChangeRefused,
    ClerkSupabaseError,
    DatabaseNotReady,
    DatabaseUnavailable,
    OtherVersion,
    RowUnavailable,
    SetUpWrong,
    ValueRefused,
)

if TYPE_CHECKING:
    import psycopg

# Classes of SQLSTATE. https://www.postgresql.org/docs/current/errcodes-appendix.html
_ABOUT_THE_CONNECTION: Final = (
    "08",  # connection
    "28",  # role unknown or password wrong
    "3D",  # database does not exist
)
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
INSUFFICIENT_PRIVILEGE = "42501"
# Raised by clerk_sync.for_major().
_OTHER_VERSION: Final = "42VER"
_NOT_SET_UP = {
    "3F",  # schema does not exist
    "42",  # function or column missing, or no right to use it
}
_NOT_LET_IN: Final = (
    "password authentication failed: the role has another password, or a character of it is not percent-encoded"
)
_NO_TENANT: Final = "the pooler knows no such project and user: the user must be ROLE.PROJECT"
_FULL: Final = "too many connections"
_FULL_IN_SESSION_MODE: Final = (
    "the pooler has too many connections in session mode (port 5432): use its transaction mode (port 6543)"
)
_WAITS_IN_VAIN: Final = (
    "the pooler had no connection to give in time: lower SyncMaximumConcurrency, or raise the pool size"
)
_STARTING: Final = "the server starts, stops or recovers"
_NO_SUCH: Final = "no such role or database"

# Words of the message in lower case, our words, and the error. The first match decides.
_KNOWN: Final[tuple[tuple[str, str, type[DatabaseUnavailable | SetUpWrong]], ...]] = (
    ("password authentication failed", _NOT_LET_IN, SetUpWrong),
    ("sasl authentication failed", _NOT_LET_IN, SetUpWrong),
    ("wrong password", _NOT_LET_IN, SetUpWrong),
    ("no password supplied", "the connection string names no password", SetUpWrong),
    ("tenant or user not found", _NO_TENANT, SetUpWrong),
    # Written by versions of Supavisor that write no code.
    ("maxclientsinsessionmode", _FULL_IN_SESSION_MODE, DatabaseUnavailable),
    ("unable to check out process from the pool", _WAITS_IN_VAIN, DatabaseUnavailable),
    # Written by pgbouncer, which is the dedicated pooler of Supabase: https://www.pgbouncer.org/config.html
    ("no more connections allowed", _FULL, DatabaseUnavailable),
    ("client connections exceeded", _FULL, DatabaseUnavailable),
    ("query_wait_timeout", _WAITS_IN_VAIN, DatabaseUnavailable),
    ("server login has been failing", "the pooler cannot log in at the server", DatabaseUnavailable),
    ("cannot connect to server", "the pooler cannot log in at the server", DatabaseUnavailable),
    ("no such database", _NO_SUCH, SetUpWrong),
    ("no such user", _NO_SUCH, SetUpWrong),
    ("max client connections", _FULL, DatabaseUnavailable),
    ("too many connections", _FULL, DatabaseUnavailable),
    ("too many clients", _FULL, DatabaseUnavailable),
    ("connection slots are reserved", _FULL, DatabaseUnavailable),
    ("starting up", _STARTING, DatabaseUnavailable),
    ("shutting down", _STARTING, DatabaseUnavailable),
    ("recovery mode", _STARTING, DatabaseUnavailable),
    ("not permitted to log in", "the role may not log in", SetUpWrong),
    ("no pg_hba.conf entry", "the server's pg_hba.conf lets nobody in this way", SetUpWrong),
    ("permission denied for database", "the role may not connect to this database", SetUpWrong),
    ("certificate verify failed", "certificate verify failed: another authority signed it", DatabaseUnavailable),
    ("does not match host name", "the server's certificate does not match host name", DatabaseUnavailable),
    (
        "root certificate file",
        "the root certificate file is not there or cannot be read: compare DatabaseCaFile",
        DatabaseUnavailable,
    ),
    ("does not support ssl", "the server does not support SSL, which sslmode demands", DatabaseUnavailable),
    ("failed to resolve host", "the host of the connection string has no address in DNS", DatabaseUnavailable),
    ("could not translate host", "the host of the connection string has no address in DNS", DatabaseUnavailable),
    ("connection refused", "connection refused: nothing listens at this host and port", DatabaseUnavailable),
    ("timeout expired", "no answer in the time to connect", DatabaseUnavailable),
    ("timed out", "no answer in the time to connect", DatabaseUnavailable),
    # Said by pgbouncer. Postgres goes on with the statement, and keeps its locks, until the limit of the role ends it.
    (
        "query timeout",
        "a statement took longer than query_timeout of the pooler allows: raise it above statement_timeout of the role",
        RowUnavailable,
    ),
    ("unreachable", "the network of the host is unreachable", DatabaseUnavailable),
    ("no route to host", "the network of the host is unreachable", DatabaseUnavailable),
    ("closed the connection", "the server closed the connection", DatabaseUnavailable),
    ("connection reset", "the server closed the connection", DatabaseUnavailable),
    ("ssl error", "TLS failed", DatabaseUnavailable),
    ("ssl syscall", "TLS failed", DatabaseUnavailable),
    # Of a role, or of a database.
    ("does not exist", _NO_SUCH, SetUpWrong),
)
# Supavisor, the pooler of Supabase, begins its message with a code, which the names in the message cannot imitate.
# https://github.com/supabase/supavisor, lib/supavisor/errors
_CODE: Final = re.compile(r"(?:^|FATAL:\s+)\((E[A-Z]{4,})\)")
_CODES: Final[dict[str, tuple[str, type[DatabaseUnavailable | SetUpWrong]]]] = {
    "ENOTFOUND": (_NO_TENANT + "; copy it from Connect in Supabase's dashboard, region included", SetUpWrong),
    "ENOIDENTIFIER": ("the pooler is told no project: the user must be ROLE.PROJECT", SetUpWrong),
    "EINVALIDUSERINFO": ("the pooler cannot read the user or the database: the user must be ROLE.PROJECT", SetUpWrong),
    "EMULTIPLEUSERS": ("the pooler knows several such users: ask Supabase's support", SetUpWrong),
    "ESSLREQUIRED": ("the pooler demands TLS, which sslmode of the connection string forbids", SetUpWrong),
    "EADDRNOTALLOWED": (
        "the pooler keeps this address out: see Network Restrictions in Supabase's dashboard",
        SetUpWrong,
    ),
    "EBANNED": ("the pooler refuses the project, which Supabase has suspended: see its dashboard", SetUpWrong),
    "EMAXCONNSESSION": (_FULL_IN_SESSION_MODE, DatabaseUnavailable),
    "EMAXCONN": (
        "the pooler has too many connections: lower SyncMaximumConcurrency, or take a larger compute size",
        DatabaseUnavailable,
    ),
    "EMAXPOOLSREACHED": ("the pooler has too many connections: there is no room for another pool", DatabaseUnavailable),
    "ECIRCUITBREAKER": (
        "the pooler refuses all logins for some minutes: find who logs in with an old password, and wait",
        DatabaseUnavailable,
    ),
    "ECHECKOUTTIMEOUT": (_WAITS_IN_VAIN, DatabaseUnavailable),
    "ECHECKOUTRETRIES": (_WAITS_IN_VAIN, DatabaseUnavailable),
}
_OTHER_CODE: Final = "the pooler of Supabase fails: see Pooler Logs in Supabase's dashboard"
_UNKNOWN: Final = "the connection failed, in words that are not repeated because they may quote the connection string"


def is_about_the_connection(sqlstate: str | None, message: str) -> bool:
    """Tells whether a statement failed at a login: a pooler logs in at the server after it took a client."""
    return sqlstate is not None and (sqlstate.startswith(_ABOUT_THE_CONNECTION) or _CODE.search(message) is not None)


def failure(message: str) -> DatabaseUnavailable | SetUpWrong:
    """The error to raise for the message with which libpq, a pooler or the server refused a connection."""
    if code := _CODE.search(message):
        words, error = _CODES.get(code[1], (_OTHER_CODE, DatabaseUnavailable))
        return error(f"{words} ({code[1]})" if code[1] in _CODES else words)
    lower = message.lower()
    for sign, words, error in _KNOWN:
        if sign in lower:
            return error(words)
    return DatabaseUnavailable(_UNKNOWN)


def translated(error: psycopg.Error) -> ClerkSupabaseError:
    """The error of this package for the error of a statement."""
    sqlstate = error.sqlstate or ""
    # Without a SQLSTATE it is the connection that broke; the message names no data.
    reason = error.diag.message_primary or str(error).strip()
    if _is_raised_by_the_app(error):
        reason = f"{type(error).__name__} raised by a trigger of the app"  # whose words may quote the row
    if sqlstate == _OTHER_VERSION and not is_the_apps_own(error):
        return OtherVersion(f"{reason}: {error.diag.message_hint}")
    if sqlstate[:2] in _NOT_SET_UP and not is_the_apps_own(error):
        return DatabaseNotReady(f"{reason} ({sqlstate}); run: clerk-supabase migrate")
    if not sqlstate or (sqlstate[:2] in _PASSES and not (sqlstate == "XX000" and is_the_apps_own(error))):
        unavailable = RowUnavailable if _may_be_one_row(error) else DatabaseUnavailable
        return unavailable(f"{reason} ({sqlstate or 'no answer'})")
    # Whatever is left is about the data: constraints, limits, and triggers of the app with a code of their own.
    refused = ValueRefused if sqlstate[:2] in _OF_A_VALUE and not _is_raised_by_the_app(error) else ChangeRefused
    return refused(what_is_refused(error))


def _may_be_one_row(error: psycopg.Error) -> bool:
    """Tells whether a single row may be the reason, so that the other rows of the statement can be tried alone."""
    sqlstate = error.sqlstate or ""
    if sqlstate[:2] in _PASSES_FOR_OTHER_ROWS or sqlstate == _CANCELLED or _is_raised_by_the_app(error):
        return True
    return sqlstate[:2] in _OUTSIDE_OF_THE_SERVER and is_the_apps_own(error)


def is_the_apps_own(error: psycopg.Error) -> bool:
    """Tells whether the error came from a function outside of this project, such as a trigger of the app."""
    innermost = re.search(r"function (\S+)", error.diag.context or "")
    return innermost is not None and not innermost[1].startswith("clerk_sync.")


def _is_raised_by_the_app(error: psycopg.Error) -> bool:
    """Tells whether a function of the app refuses on purpose, in words of its own."""
    return is_the_apps_own(error) and " at RAISE" in (error.diag.context or "").partition("\n")[0]


def what_is_refused(error: psycopg.Error) -> str:
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
