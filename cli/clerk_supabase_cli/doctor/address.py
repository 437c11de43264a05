"""The way to the database in a connection string: pooler, address family, TLS. No input or output but DNS.

A finding names no part of the string, because any part may be a piece of a password pasted into the wrong place.

Source: https://supabase.com/docs/guides/database/connecting-to-postgres
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable, Iterator
from typing import Final

from clerk_supabase.postgres.connection_string import ConnectionString
from clerk_supabase_cli.doctor.verdicts import Finding, fail, ok, skipped, warn

Resolve = Callable[[str], set[int]]
"""The address families of a host. Raises OSError for a host without an address."""

_DIRECT: Final = re.compile(r"db\.[a-z0-9]+\.supabase\.co")
_POOLER: Final = re.compile(r"[a-z0-9-]+\.pooler\.supabase\.com")
_TRANSACTION_PORT: Final = "6543"
_USE_THE_POOLER: Final = "take Supabase's connection string of the Transaction pooler: port 6543, user <role>.<project>"
# https://www.postgresql.org/docs/current/libpq-ssl.html
_WITHOUT_PROOF: Final = {"disable", "allow", "prefer"}
_WITHOUT_NAME: Final = {"require", "verify-ca"}


def families(host: str) -> set[int]:
    """The address families found by this machine's resolver, even those that the machine itself cannot use."""
    return {family for family, *_ in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=0)}


def is_of_this_machine(given: ConnectionString) -> bool:
    """Tells whether the database is on this machine."""
    if given.host == "localhost":
        return True
    try:
        return ipaddress.ip_address(given.host).is_loopback
    except ValueError:
        return False


def address(given: ConnectionString, role: str, resolve: Resolve = families) -> Iterator[Finding]:
    """Checks that a Lambda function can reach the host, and logs in as the right role with a password."""
    if given.role != role:
        yield fail(f"it logs in as another role, not as {role}", f"store the connection string of {role}")
    if given.password is None:
        yield fail("it names no password", f"store the connection string of {role} with its password")
    if _POOLER.fullmatch(given.host):
        yield from _of_pooler(given)
    elif _DIRECT.fullmatch(given.host):
        yield from _direct(given, resolve)
    elif is_of_this_machine(given):
        yield skipped("a database of this machine has no pooler, and is reached without DNS")
    else:
        yield ok("its host is none of Supabase's; whether it has a pooler, only you know")


def tls(given: ConnectionString, ca_file: str) -> Iterator[Finding]:
    """Tells whether the functions verify the server's certificate."""
    mode = given.parameters.get("sslmode", "verify-full")
    if is_of_this_machine(given):
        yield skipped(f"sslmode={mode}: nothing leaves this machine")
    elif mode in _WITHOUT_PROOF:
        yield fail(f"sslmode={mode}: anybody on the way can read and change the data", "take sslmode out of the secret")
    elif mode in _WITHOUT_NAME:
        yield warn(f"sslmode={mode}: another server could take the database's place", "take sslmode out of the secret")
    elif not (ca_file or "sslrootcert" in given.parameters):
        yield fail(
            "verify-full, but no certificate authority to verify against",
            "put Supabase's certificate into layers/shared/ca/ and set DatabaseCaFile=/opt/ca/<name>",
        )
    else:
        yield ok("certificate and host name have to be right (sslmode=verify-full)")


def _of_pooler(given: ConnectionString) -> Iterator[Finding]:
    if "." not in given.user:
        yield fail("the pooler cannot find the database: the user names no project", _USE_THE_POOLER)
    if given.port == _TRANSACTION_PORT:
        yield ok("transaction pooler, port 6543, reachable by IPv4")
    else:
        yield warn("session pooler: each running function keeps one of its few connections", _USE_THE_POOLER)


def _direct(given: ConnectionString, resolve: Resolve) -> Iterator[Finding]:
    try:
        found = resolve(given.host)
    except OSError:
        yield fail("its host has no address: is the project paused, or its name misspelled?", _USE_THE_POOLER)
        return
    if socket.AF_INET not in found:
        yield fail("its host has an IPv6 address only, which Lambda does not reach", _USE_THE_POOLER)
    elif given.port == _TRANSACTION_PORT:
        yield ok("dedicated pooler, port 6543, reachable by IPv4")
    else:
        yield warn("direct connection: each running function holds one of the server's", _USE_THE_POOLER)
