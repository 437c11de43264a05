"""Why no connection came about, in fixed words.

libpq, poolers and the server put user, database, host and settings into their messages, and each of these may be a part
of a password that was pasted into the wrong place. So a message is only searched for signs; no word of it is passed on.
"""

from __future__ import annotations

from typing import Final

from clerk_supabase.errors import DatabaseUnavailable, SetUpWrong

# Classes of SQLSTATE. https://www.postgresql.org/docs/current/errcodes-appendix.html
_ABOUT_THE_CONNECTION: Final = (
    "08",  # connection
    "28",  # role unknown or password wrong
    "3D",  # database does not exist
)
_NOT_LET_IN: Final = (
    "password authentication failed: the role has another password, or a character of it is not percent-encoded"
)
_NO_TENANT: Final = "the pooler knows no such project and user: the user must be ROLE.PROJECT"
_FULL: Final = "too many connections"
_STARTING: Final = "the server starts, stops or recovers"

# Words of the message in lower case, ours, and the error. The first one that is found counts.
_KNOWN: Final[tuple[tuple[str, str, type[DatabaseUnavailable | SetUpWrong]], ...]] = (
    ("password authentication failed", _NOT_LET_IN, SetUpWrong),
    ("sasl authentication failed", _NOT_LET_IN, SetUpWrong),
    ("wrong password", _NOT_LET_IN, SetUpWrong),
    ("no password supplied", "the connection string names no password", SetUpWrong),
    ("tenant or user not found", _NO_TENANT, SetUpWrong),
    ("enotfound", _NO_TENANT, SetUpWrong),
    ("enoidentifier", _NO_TENANT, SetUpWrong),
    ("ecircuitbreaker", "the pooler refuses for a while, after too many failed logins", DatabaseUnavailable),
    ("emaxconn", _FULL, DatabaseUnavailable),
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
    ("unreachable", "the network of the host is unreachable", DatabaseUnavailable),
    ("no route to host", "the network of the host is unreachable", DatabaseUnavailable),
    ("closed the connection", "the server closed the connection", DatabaseUnavailable),
    ("connection reset", "the server closed the connection", DatabaseUnavailable),
    ("ssl error", "TLS failed", DatabaseUnavailable),
    ("ssl syscall", "TLS failed", DatabaseUnavailable),
    # Of a role, or of a database.
    ("does not exist", "no such role or database", SetUpWrong),
)
_UNKNOWN: Final = "the connection failed, in words that are not repeated because they may quote the connection string"


def is_about_the_connection(sqlstate: str | None) -> bool:
    """Whether a statement failed because nobody is let in: a pooler logs in at the server after it took a client."""
    return sqlstate is not None and sqlstate.startswith(_ABOUT_THE_CONNECTION)


def failure(message: str) -> DatabaseUnavailable | SetUpWrong:
    """The error to raise for what libpq, a pooler or the server said instead of letting somebody in."""
    lower = message.lower()
    for sign, words, error in _KNOWN:
        if sign in lower:
            return error(words)
    return DatabaseUnavailable(_UNKNOWN)
