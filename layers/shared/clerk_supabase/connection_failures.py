"""Why no connection came about, in fixed words.

libpq, poolers and the server put user, database, host and settings into their messages, and each of these may be a part
of a password that was pasted into the wrong place. So a message is only searched for signs; no word of it is passed on.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from clerk_supabase.errors import DatabaseUnavailable, SetUpWrong


class _Known(NamedTuple):
    sign: str
    """Words of the message, in lower case."""
    words: str
    error: type[DatabaseUnavailable | SetUpWrong]


_NOT_LET_IN: Final = (
    "password authentication failed: the role has another password, or a character of it is not percent-encoded"
)
_NO_TENANT: Final = "the pooler knows no such project and user: the user must be ROLE.PROJECT"
_FULL: Final = "too many connections"
_STARTING: Final = "the server starts, stops or recovers"

# The first one that is found counts.
_KNOWN: Final = (
    _Known("password authentication failed", _NOT_LET_IN, SetUpWrong),
    _Known("sasl authentication failed", _NOT_LET_IN, SetUpWrong),
    _Known("wrong password", _NOT_LET_IN, SetUpWrong),
    _Known("no password supplied", "the connection string names no password", SetUpWrong),
    _Known("tenant or user not found", _NO_TENANT, SetUpWrong),
    _Known("enotfound", _NO_TENANT, SetUpWrong),
    _Known("enoidentifier", _NO_TENANT, SetUpWrong),
    _Known("ecircuitbreaker", "the pooler refuses for a while, after too many failed logins", DatabaseUnavailable),
    _Known("emaxconn", _FULL, DatabaseUnavailable),
    _Known("max client connections", _FULL, DatabaseUnavailable),
    _Known("too many connections", _FULL, DatabaseUnavailable),
    _Known("too many clients", _FULL, DatabaseUnavailable),
    _Known("connection slots are reserved", _FULL, DatabaseUnavailable),
    _Known("starting up", _STARTING, DatabaseUnavailable),
    _Known("shutting down", _STARTING, DatabaseUnavailable),
    _Known("recovery mode", _STARTING, DatabaseUnavailable),
    _Known("not permitted to log in", "the role may not log in", SetUpWrong),
    _Known("no pg_hba.conf entry", "the server's pg_hba.conf lets nobody in this way", SetUpWrong),
    _Known("permission denied for database", "the role may not connect to this database", SetUpWrong),
    _Known("certificate verify failed", "certificate verify failed: another authority signed it", DatabaseUnavailable),
    _Known("does not match host name", "the server's certificate does not match host name", DatabaseUnavailable),
    _Known(
        "root certificate file",
        "the root certificate file is not there or cannot be read: compare DatabaseCaFile",
        DatabaseUnavailable,
    ),
    _Known("does not support ssl", "the server does not support SSL, which sslmode demands", DatabaseUnavailable),
    _Known("failed to resolve host", "the host of the connection string has no address in DNS", DatabaseUnavailable),
    _Known("could not translate host", "the host of the connection string has no address in DNS", DatabaseUnavailable),
    _Known("connection refused", "connection refused: nothing listens at this host and port", DatabaseUnavailable),
    _Known("timeout expired", "no answer in the time to connect", DatabaseUnavailable),
    _Known("timed out", "no answer in the time to connect", DatabaseUnavailable),
    _Known("unreachable", "the network of the host is unreachable", DatabaseUnavailable),
    _Known("no route to host", "the network of the host is unreachable", DatabaseUnavailable),
    _Known("closed the connection", "the server closed the connection", DatabaseUnavailable),
    _Known("connection reset", "the server closed the connection", DatabaseUnavailable),
    _Known("ssl error", "TLS failed", DatabaseUnavailable),
    _Known("ssl syscall", "TLS failed", DatabaseUnavailable),
    # Of a role, or of a database.
    _Known("does not exist", "no such role or database", SetUpWrong),
)
_UNKNOWN: Final = "the connection failed, in words that are not repeated because they may quote the connection string"


def failure(message: str) -> DatabaseUnavailable | SetUpWrong:
    """The error to raise for what libpq, a pooler or the server said instead of letting somebody in."""
    lower = message.lower()
    for known in _KNOWN:
        if known.sign in lower:
            return known.error(known.words)
    return DatabaseUnavailable(_UNKNOWN)
