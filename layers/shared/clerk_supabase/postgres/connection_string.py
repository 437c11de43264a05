"""Connection strings of Postgres, split into their parts before libpq sees them.

libpq splits a broken string elsewhere than its author meant, takes a part of the password for the name of a host, and
quotes it. So each error here is a fixed text, chosen by the fault: the text quotes no part of the string, and names
only the secret or the variable with the string. libpq never gets the string, only its parts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final
from urllib.parse import quote, unquote

from clerk_supabase.errors import SetUpWrong

FORM: Final = "postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
HOW_TO_ENCODE: Final = (
    "encode it: python3 -c 'from getpass import getpass; from urllib.parse import quote; print(quote(getpass(), \"\"))'"
)

_SCHEMES: Final = ("postgresql://", "postgres://")
_LONGEST: Final = 4096
_DEFAULT_PORT: Final = "5432"

# Sets and no patterns: each cold start would compile the patterns, in ten times the time of the rest of this module.
_DIGITS: Final = frozenset("0123456789")
_HEXADECIMAL: Final = _DIGITS | frozenset("abcdefABCDEF")
_OF_A_HOST: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ._-") | _DIGITS
_OF_IPV6: Final = _HEXADECIMAL | frozenset(":.")
_PLACEHOLDERS: Final = ("[", "]", "<", ">", "${", "#{", "your-password", "your_password", "yourpassword")
_QUOTES: Final = "\"'`\u2018\u2019\u201c\u201d\u00ab\u00bb"


def _is_number(text: str, digits: int = 9) -> bool:
    return 0 < len(text) <= digits and _DIGITS.issuperset(text)


_PARAMETERS: Final[Mapping[str, Callable[[str], bool]]] = MappingProxyType(
    {
        "application_name": bool,
        "channel_binding": {"disable", "prefer", "require"}.__contains__,
        "connect_timeout": _is_number,
        "gssencmode": {"disable", "prefer", "require"}.__contains__,
        "keepalives": _is_number,
        "keepalives_count": _is_number,
        "keepalives_idle": _is_number,
        "keepalives_interval": _is_number,
        "options": bool,
        "ssl_min_protocol_version": {"TLSv1.2", "TLSv1.3"}.__contains__,
        "sslcert": bool,
        "sslkey": bool,
        "sslmode": {"disable", "allow", "prefer", "require", "verify-ca", "verify-full"}.__contains__,
        "sslnegotiation": {"postgres", "direct"}.__contains__,
        "sslrootcert": bool,
        "target_session_attrs": {"any", "read-write", "primary"}.__contains__,
        "tcp_user_timeout": _is_number,
    }
)
"""Parameters after the `?`, each with the test of its values. Other parameters of libpq name other hosts, or files."""

_OF_OTHER_PROGRAMS: Final = (
    *("pgbouncer", "connection_limit", "pool_timeout", "pool_size", "statement_cache_size", "schema", "supa"),
    *("prepareThreshold", "prepared_statements", "workaround", "currentSchema", "socket_timeout", "sslaccept", "ssl"),
    *("max_pool_size", "pool_mode", "search_path", "timezone"),
)
"""Parameters of Prisma, SQLAlchemy, asyncpg, JDBC. An error may name them: the text is ours, not from the string."""

_OF_THE_ADDRESS: Final = ("user", "password", "host", "hostaddr", "port", "dbname", "database", "service", "passfile")

_EMPTY: Final = "it is empty"
_TOO_LONG: Final = f"it is longer than {_LONGEST} characters"
_IS_JSON: Final = (
    "it is JSON, as Secrets Manager's console keeps keys and values: choose Plaintext there and store the string alone"
)
_QUOTED: Final = "there is a quotation mark at its beginning or end: leave it out, or write %22 or %27 in the password"
_DRIVER: Final = "it names a driver (postgresql+...://, jdbc:) or has capitals: it must begin with postgresql://"
_TEXT_BEFORE: Final = "something stands before postgresql://, such as psql or the name of a variable: leave it out"
_KEYWORDS: Final = f"it is written as keyword=value: write {FORM}"
_NO_SCHEME: Final = f"it does not begin with postgresql://: write {FORM}"
_HAS_CONTROL: Final = "it contains a line break, a tab or another control character: write it on one line"
_NOT_ASCII: Final = (
    "it contains a character that is not ASCII, perhaps a quotation mark or a blank from a document: "
    f"leave it out, or, if it belongs to the password, {HOW_TO_ENCODE}"
)
_HAS_BLANK: Final = "it contains a blank: leave it out, or write %20 if it belongs to the password"
_HAS_PLACEHOLDER: Final = (
    "it contains a bracket or a placeholder such as [YOUR-PASSWORD] or <project>: put the value in, without brackets; "
    "in the password write %5B for [, %5D for ], %3C for <, %3E for >, %24 for $"
)
_PERCENT: Final = f"it contains a % that begins no escape: write %25 for each % of the password, or {HOW_TO_ENCODE}"
_NO_AT: Final = f"it has no @ between the password and the host: write {FORM}"
_DELIMITERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        character: (
            f"there is a {character} before the @: if it belongs to the password, write {code}, or {HOW_TO_ENCODE}; "
            f"otherwise user, password or host are missing: write {FORM}"
        )
        for character, code in (("/", "%2F"), ("?", "%3F"), ("#", "%23"))
    }
)
_MANY_AT: Final = (
    f"it contains an @ that is not encoded: write %40 for each @ but the one before the host, or {HOW_TO_ENCODE}"
)
_NO_USER: Final = "it names no user before the password"
_NO_PASSWORD: Final = "its password is empty"  # noqa: S105 - a message, not a password
_NO_HOST: Final = "it names no host: a socket of this machine cannot be used, write 127.0.0.1 or localhost"
_MANY_HOSTS: Final = "it names several hosts: name one"
_BAD_HOST: Final = "its host is not a name of letters, digits, dots and hyphens, nor an IPv6 address in brackets"
_BAD_PORT: Final = (
    "its port is not a number from 1 to 65535; Supabase's pooler has 6543 (transaction) and 5432 (session)"
)
_NO_DATABASE: Final = "it names no database: at Supabase it ends with /postgres"
_BAD_DATABASE: Final = "there is a / or : after the name of the database: write %2F and %3A in a name or a password"
_FRAGMENT: Final = "there is a # after the host: write %23, also in the password, or leave it out"
_ESCAPED: Final = (
    "an escape in it stands for a control character or for no UTF-8 (a line break at the end is %0A): "
    f"encode the password again, {HOW_TO_ENCODE}"
)
_BAD_PARAMETERS: Final = "what follows the ? is not name=value&name=value, each name once"
_ADDRESS_BELOW: Final = f"user, password, host, port or database stand after the ?: write {FORM}"
_UNKNOWN_PARAMETER: Final = f"a parameter after the ? is unknown: remove it; known are {', '.join(_PARAMETERS)}"


@dataclass(frozen=True, slots=True, repr=False)
class ConnectionString:
    """The decoded parts of a connection string. The repr shows no part."""

    user: str
    password: str | None
    """The password, or None in a string without a password; libpq may have its own (PGPASSWORD, ~/.pgpass)."""
    host: str
    port: str
    database: str
    parameters: Mapping[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        return "ConnectionString(...)"

    @property
    def role(self) -> str:
        """The user without the project that Supabase's pooler wants after a dot."""
        return self.user.partition(".")[0]

    def keywords(self) -> dict[str, str]:
        """The parts as libpq calls them."""
        password = {} if self.password is None else {"password": self.password}
        address = {"user": self.user, **password, "host": self.host, "port": self.port, "dbname": self.database}
        return {**self.parameters, **address}


class _Flaw(Exception):
    """A mistake in a connection string; its text is a constant of this module."""


def parse(text: str, source: str) -> ConnectionString:
    """Splits a connection string into its parts. Blanks and line breaks around the string do not count.

    `source`: the secret or the variable with the string, for the error. Raises SetUpWrong, whose text and chain hold
    no part of the string.
    """
    try:
        return _parsed(text.strip())
    except _Flaw as flaw:
        words = str(flaw)
    # Raised outside of the except block, the error has no context.
    raise SetUpWrong(f"the connection string in {source} cannot be used: {words}")


def with_parameter(text: str, name: str, value: str) -> str:
    """Adds a parameter to a valid connection string."""
    address, _, parameters = text.strip().partition("?")
    before = f"{parameters}&" if parameters else ""
    return f"{address}?{before}{name}={quote(value, safe='')}"


def _parsed(text: str) -> ConnectionString:
    scheme = _scheme(text)
    rest = text[len(scheme) :]
    _check_characters(rest)
    before_at, *after_at = rest.split("@")
    if not after_at:
        raise _Flaw(_NO_AT)
    for delimiter in before_at:
        if delimiter in _DELIMITERS:
            raise _Flaw(_DELIMITERS[delimiter])
    if len(after_at) > 1:
        raise _Flaw(_MANY_AT)
    user, colon, password = before_at.partition(":")
    if not user:
        raise _Flaw(_NO_USER)
    if colon and not password:
        raise _Flaw(_NO_PASSWORD)
    host, port, database, query = _address(after_at[0])
    return ConnectionString(
        _decoded(user), _decoded(password) if colon else None, host, port, _decoded(database), _parameters(query)
    )


def _scheme(text: str) -> str:
    if not text:
        raise _Flaw(_EMPTY)
    if len(text) > _LONGEST:
        raise _Flaw(_TOO_LONG)
    for scheme in _SCHEMES:
        if text.startswith(scheme):
            return scheme
    raise _Flaw(_why_not_a_scheme(text))


def _why_not_a_scheme(text: str) -> str:
    lower = text.lower()
    if text.startswith("{"):
        return _IS_JSON
    if text[0] in _QUOTES:
        return _QUOTED
    if re.match(r"jdbc:|postgres(ql)?(\+\w+)?:", lower):
        return _DRIVER
    if any(scheme in lower for scheme in _SCHEMES):
        return _TEXT_BEFORE
    return _KEYWORDS if re.match(r"\w+\s*=", text) else _NO_SCHEME


def _check_characters(rest: str) -> None:
    for is_there, flaw in (
        (_has_control(rest), _HAS_CONTROL),
        (rest.endswith(tuple(_QUOTES)), _QUOTED),
        (not rest.isascii(), _NOT_ASCII),
        (" " in rest, _HAS_BLANK),
        (_has_placeholder(rest), _HAS_PLACEHOLDER),
        (not all(len(each) > 1 and _HEXADECIMAL.issuperset(each[:2]) for each in rest.split("%")[1:]), _PERCENT),
    ):
        if is_there:
            raise _Flaw(flaw)


def _has_control(text: str) -> bool:
    return any(each < " " or each == "\x7f" for each in text)


def _has_placeholder(rest: str) -> bool:
    before_host, at, after_at = rest.rpartition("@")
    if _is_ipv6(host := after_at.partition("]")[0] + "]"):
        rest = before_host + at + after_at.removeprefix(host)
    lower = rest.lower()
    return any(each in lower for each in _PLACEHOLDERS)


def _is_ipv6(host: str) -> bool:
    return host[:1] == "[" and host[-1:] == "]" and ":" in host and _OF_IPV6.issuperset(host[1:-1])


def _is_name(host: str) -> bool:
    return host[0].isalnum() and (host[-1].isalnum() or host[-1] == ".") and _OF_A_HOST.issuperset(host)


def _address(text: str) -> tuple[str, str, str, str]:
    """Host, port, database and the parameters behind the `?`."""
    if "#" in text:
        raise _Flaw(_FRAGMENT)
    place, _, query = text.partition("?")
    server, _, database = place.partition("/")
    end_of_ipv6 = server.rfind("]") + 1
    name, colon, port = server[end_of_ipv6:].partition(":")
    host = server[:end_of_ipv6] + name
    if not host:
        raise _Flaw(_NO_HOST)
    if "," in server:
        raise _Flaw(_MANY_HOSTS)
    if not (_is_ipv6(host) or _is_name(host)):
        raise _Flaw(_BAD_HOST)
    if colon and not (_is_number(port, 5) and 0 < int(port) < 65_536):
        raise _Flaw(_BAD_PORT)
    if not database:
        raise _Flaw(_NO_DATABASE)
    if "/" in database or ":" in database:
        raise _Flaw(_BAD_DATABASE)
    return host.strip("[]"), port or _DEFAULT_PORT, database, query


def _parameters(query: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in query.split("&") if query else ():
        name, equals, value = part.partition("=")
        if name in _OF_OTHER_PROGRAMS:
            raise _Flaw(f"libpq has no parameter {name}: remove it")
        if name in _OF_THE_ADDRESS:
            raise _Flaw(_ADDRESS_BELOW)
        if not equals or name in found:
            raise _Flaw(_BAD_PARAMETERS)
        if name not in _PARAMETERS:
            raise _Flaw(_UNKNOWN_PARAMETER)
        found[name] = _decoded(value)
        if not _PARAMETERS[name](found[name]):
            raise _Flaw(f"its parameter {name} has a value that libpq does not take")
    return found


def _decoded(text: str) -> str:
    # Bytes outside UTF-8 are replaced: an error of the decoder would hold them.
    decoded = unquote(text, errors="replace")
    if "\ufffd" in decoded or _has_control(decoded):
        raise _Flaw(_ESCAPED)
    return decoded
