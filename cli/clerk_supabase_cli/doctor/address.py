"""What a connection string says about the road to the database: which pooler, which IP, which TLS. Pure but for DNS.

Source: https://supabase.com/docs/guides/database/connecting-to-postgres
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

from clerk_supabase_cli.doctor.verdicts import Finding, fail, ok, skipped, warn

Resolve = Callable[[str], set[int]]
"""The address families of a host. Raises OSError when it has none."""

_DIRECT: Final = re.compile(r"db\.[a-z0-9]+\.supabase\.co")
_POOLER: Final = re.compile(r"[a-z0-9-]+\.pooler\.supabase\.com")
_TRANSACTION_PORT: Final = 6543
_USE_THE_POOLER: Final = "take Supabase's connection string of the Transaction pooler: port 6543, user <role>.<project>"
# https://www.postgresql.org/docs/current/libpq-ssl.html
_WITHOUT_PROOF: Final = {"disable", "allow", "prefer"}
_WITHOUT_NAME: Final = {"require", "verify-ca"}


class NoConnectionString(Exception):
    """Not a connection string; the message does not quote it."""

    def __init__(self) -> None:
        super().__init__("it is no connection string: postgresql://user:password@host:6543/postgres")


def families(host: str) -> set[int]:
    """By the resolver of this machine, whatever IP it speaks itself."""
    return {family for family, *_ in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=0)}


def parts(url: str) -> Mapping[str, Any]:
    """What libpq makes of it. Raises NoConnectionString."""
    try:
        return conninfo_to_dict(url)
    except ProgrammingError:
        # Its message repeats the string, and with it the password.
        raise NoConnectionString from None


def is_of_this_machine(url: str) -> bool:
    """Whether the database is where this command runs. Raises NoConnectionString."""
    host = str(parts(url).get("host", ""))
    if host in {"", "localhost"} or host.startswith("/"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def address(url: str, role: str, resolve: Resolve = families) -> Iterator[Finding]:
    """Whether a Lambda function can get there, and as whom. Raises NoConnectionString."""
    given = parts(url)
    host, port, user = (str(given.get(name) or "") for name in ("host", "port", "user"))
    if user.partition(".")[0] != role:
        yield fail(f"it logs in as {user or 'nobody'}, not as {role}", f"store the connection string of {role}")
    if _POOLER.fullmatch(host):
        yield from _of_pooler(user, port)
    elif _DIRECT.fullmatch(host):
        yield from _direct(host, port, resolve)
    elif is_of_this_machine(url):
        yield skipped("a database of this machine has no pooler, and is reached without DNS")
    else:
        yield ok(f"{host} is no host of Supabase's; whether it has a pooler, only you know")


def tls(url: str, ca_file: str) -> Iterator[Finding]:
    """Whether the functions insist on knowing whom they talk to. Raises NoConnectionString."""
    given = parts(url)
    mode = str(given.get("sslmode") or "verify-full")
    if is_of_this_machine(url):
        yield skipped(f"sslmode={mode}: nothing leaves this machine")
    elif mode in _WITHOUT_PROOF:
        yield fail(
            f"sslmode={mode}: anybody on the way can read and change what is sent", "take sslmode out of the secret"
        )
    elif mode in _WITHOUT_NAME:
        yield warn(f"sslmode={mode}: another server could take the database's place", "take sslmode out of the secret")
    elif not (ca_file or given.get("sslrootcert")):
        yield fail(
            "verify-full, but no certificate authority to verify against",
            "put Supabase's certificate into layers/shared/ca/ and set DatabaseCaFile=/opt/ca/<name>",
        )
    else:
        yield ok("certificate and host name have to be right (sslmode=verify-full)")


def _of_pooler(user: str, port: str) -> Iterator[Finding]:
    if "." not in user:
        yield fail("the pooler does not know whose database it is: the user names no project", _USE_THE_POOLER)
    if port == str(_TRANSACTION_PORT):
        yield ok("transaction pooler, port 6543, reachable by IPv4")
    else:
        yield warn("session pooler: each running function keeps one of its few connections", _USE_THE_POOLER)


def _direct(host: str, port: str, resolve: Resolve) -> Iterator[Finding]:
    try:
        found = resolve(host)
    except OSError:
        yield fail(f"{host} has no address: is the project paused, or its name misspelled?", _USE_THE_POOLER)
        return
    if socket.AF_INET not in found:
        yield fail(f"{host} has an IPv6 address only, which Lambda does not reach", _USE_THE_POOLER)
    elif port == str(_TRANSACTION_PORT):
        yield ok("dedicated pooler, port 6543, reachable by IPv4")
    else:
        yield warn("direct connection: each running function holds one of the server's", _USE_THE_POOLER)
