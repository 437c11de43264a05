"""Advice for a database that cannot be reached, the same in every command."""

from __future__ import annotations

import ipaddress
from typing import Final

NO_ANSWER: Final = "no answer"
"""The begin of the reason for a server that does not say a word."""

_DASHBOARD: Final = "Connect in Supabase's dashboard"
_SESSION_POOLER: Final = f"take the string of the Session pooler from {_DASHBOARD}"
_COPY: Final = f"copy the string again from {_DASHBOARD}"

# Words of clerk_supabase.postgres.failures, and the advice. The first match decides.
_ADVICE: Final = (
    # The words for a pooler end with advice already, or say which dashboard to look at.
    ("the pooler", ""),
    (
        "password authentication failed",
        "type the password again, or set a new one under Database Settings in Supabase's dashboard",
    ),
    ("names no password", "write it between the user and the @, or put it into ~/.pgpass"),
    (
        "no such role or database",
        "correct the user and the name at the end of the string (at Supabase: postgres), or create the database",
    ),
    (
        "does not support ssl",
        "for a server on this machine end the string with ?sslmode=disable; for any other server switch SSL on there",
    ),
    ("too many connections", "close sessions that nobody needs, or wait and try again"),
    ("starts, stops or recovers", "wait a moment and try again"),
    (
        "no address in dns",
        "check its spelling; a paused project of Supabase has no address: resume it in the dashboard",
    ),
    (
        "connection refused",
        f"start the server, or compare host and port with {_DASHBOARD}, where a paused project is resumed too",
    ),
    (
        NO_ANSWER,
        (
            "look whether the project is paused or its pooler hangs (Supabase's dashboard); a firewall or the Network "
            f"Restrictions of the project may keep this machine out; without IPv6 on this machine {_SESSION_POOLER}"
        ),
    ),
    ("unreachable", f"db.PROJECT.supabase.co has an IPv6 address only: without IPv6 {_SESSION_POOLER}"),
    ("pg_hba.conf", "allow this machine there; if only TLS is let in, end the string with ?sslmode=require"),
    ("may not log in", "connect as the owner of the database"),
    ("may not connect to this database", "connect as the owner of the database"),
    ("certificate verify failed", "name the authority of the server: ?sslrootcert=FILE at the end of the string"),
    ("does not match host name", "write the host as the certificate names it"),
    ("root certificate file", "name the file of the authority: ?sslrootcert=FILE at the end of the string"),
    ("closed the connection", "check that host and port are those of Postgres, and try again"),
    ("tls failed", "check that host and port are those of Postgres, and try again"),
)


_OF_TLS: Final = (
    *("does not support ssl", "certificate verify failed"),
    *("does not match host name", "root certificate file"),
)
"""Words about a server that answers, and whose TLS does not fit the connection string."""

# The same for a server on this machine, before the others.
_ADVICE_HERE: Final = (
    (NO_ANSWER, "the server on this machine is stopped, paused or overloaded: continue (kill -CONT) or restart it"),
    ("connection refused", "start the server, or correct the port"),
)


def advice(reason: str, host: str) -> str:
    """The advice for a reason, in the words of `clerk_supabase.postgres.failures`; empty if the reason holds advice."""
    lower = reason.lower()
    known = (*_ADVICE_HERE, *_ADVICE) if is_this_machine(host) else _ADVICE
    return next((todo for sign, todo in known if sign in lower), _COPY)


def is_this_machine(host: str) -> bool:
    """Tells whether a host of a connection string is a loopback address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"


def is_about_tls(reason: str) -> bool:
    """Tells whether the server answers, and its TLS does not fit the connection string: a fault that does not pass."""
    return any(sign in reason.lower() for sign in _OF_TLS)
