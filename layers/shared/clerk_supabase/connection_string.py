"""Connection strings of Postgres, taken apart before libpq sees one.

libpq splits a broken string elsewhere than its author meant, takes a part of the password for the name of a host, and
quotes it. So each error here is a fixed text, chosen by what is wrong: it quotes nothing, and names only the secret or
variable the string was read from. libpq never gets the string, only its parts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final
from urllib.parse import quote, unquote

from clerk_supabase.errors import SetUpWrong

FORM: Final = "postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
HOW_TO_ENCODE: Final = (
    "encode it: python3 -c 'from getpass import getpass; from urllib.parse import quote; print(quote(getpass(), \"\"))'"
)

_SCHEME: Final = re.compile("postgres(?:ql)?://")
_LONGEST: Final = 4096
_DEFAULT_PORT: Final = "5432"

_AFTER_AT: Final = re.compile(
    r"(?P<host>\[[^]]*\]|[^:/?#]*)(?::(?P<port>[^/?#]*))?(?:/(?P<database>[^?#]*))?(?:\?(?P<query>[^#]*))?"
)
_HOST: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9.])?")
_IPV6: Final = re.compile(r"\[[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*\]")
_IPV6_OF_A_HOST: Final = re.compile(rf"(?<=@){_IPV6.pattern}(?=[:/]|$)")
_PORT: Final = re.compile("[0-9]{1,5}")
_PLACEHOLDER: Final = re.compile(r"[][<>]|[$#]\{|your[-_]?password", re.IGNORECASE)
_BAD_ESCAPE: Final = re.compile("%(?![0-9A-Fa-f]{2})")
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_QUOTES: Final = "\"'`\u2018\u2019\u201c\u201d\u00ab\u00bb"

_NUMBER: Final = re.compile("[0-9]{1,9}")
_TEXT: Final = re.compile(".+")


def _one_of(*values: str) -> re.Pattern[str]:
    return re.compile("|".join(values))


_PARAMETERS: Final[Mapping[str, re.Pattern[str]]] = MappingProxyType(
    {
        "application_name": _TEXT,
        "channel_binding": _one_of("disable", "prefer", "require"),
        "connect_timeout": _NUMBER,
        "gssencmode": _one_of("disable", "prefer", "require"),
        "keepalives": _NUMBER,
        "keepalives_count": _NUMBER,
        "keepalives_idle": _NUMBER,
        "keepalives_interval": _NUMBER,
        "options": _TEXT,
        "ssl_min_protocol_version": _one_of(r"TLSv1\.2", r"TLSv1\.3"),
        "sslcert": _TEXT,
        "sslkey": _TEXT,
        "sslmode": _one_of("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
        "sslnegotiation": _one_of("postgres", "direct"),
        "sslrootcert": _TEXT,
        "target_session_attrs": _one_of("any", "read-write", "primary"),
        "tcp_user_timeout": _NUMBER,
    }
)
"""What may follow the `?`, each with the values it takes. libpq knows more: ways to another host, and to files."""

_OF_OTHER_PROGRAMS: Final = (
    *("pgbouncer", "connection_limit", "pool_timeout", "pool_size", "statement_cache_size", "schema", "supa"),
    *("prepareThreshold", "prepared_statements", "workaround", "currentSchema", "socket_timeout", "sslaccept", "ssl"),
    *("max_pool_size", "pool_mode", "search_path", "timezone"),
)
"""Parameters of Prisma, SQLAlchemy, asyncpg, JDBC, which may be named in an error, for they are not from the string."""

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
    f"leave it out, or, if it is of the password, {HOW_TO_ENCODE}"
)
_HAS_BLANK: Final = "it contains a blank: leave it out, or write %20 if it is of the password"
_HAS_PLACEHOLDER: Final = (
    "it contains a bracket or a placeholder such as [YOUR-PASSWORD] or <project>: put the value in, without brackets; "
    "in the password write %5B for [, %5D for ], %3C for <, %3E for >, %24 for $"
)
_PERCENT: Final = f"it contains a % that begins no escape: write %25 for each % of the password, or {HOW_TO_ENCODE}"
_NO_AT: Final = f"it has no @ between the password and the host: write {FORM}"
_DELIMITERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        character: (
            f"there is a {character} before the @: if it is of the password, write {code}, or {HOW_TO_ENCODE}; "
            f"else user, password or host are missing: write {FORM}"
        )
        for character, code in (("/", "%2F"), ("?", "%3F"), ("#", "%23"))
    }
)
_MANY_AT: Final = (
    f"it contains an @ that is not encoded: write %40 for each @ but the one before the host, or {HOW_TO_ENCODE}"
)
_NO_USER: Final = "it names no user before the password"
_NO_PASSWORD: Final = "its password is empty"  # noqa: S105 - words about one
_NO_HOST: Final = "it names no host: a socket of this machine cannot be used, write 127.0.0.1 or localhost"
_MANY_HOSTS: Final = "it names several hosts: name one"
_BAD_HOST: Final = "its host is none: letters, digits, dots and hyphens, or an IPv6 address in brackets"
_BAD_PORT: Final = "its port is no number from 1 to 65535; Supabase's pooler has 6543 (transaction) and 5432 (session)"
_NO_DATABASE: Final = "it names no database: at Supabase it ends with /postgres"
_BAD_DATABASE: Final = "there is a / or : after the name of the database: write %2F and %3A in a name or a password"
_FRAGMENT: Final = "there is a # after the host: write %23, also in the password, or leave it out"
_ESCAPED: Final = (
    "an escape in it stands for a control character or for no UTF-8 (a line break at the end is %0A): encode it anew, "
    f"{HOW_TO_ENCODE}"
)
_BAD_PARAMETERS: Final = "what follows the ? is not name=value&name=value, each name once"
_ADDRESS_BELOW: Final = f"user, password, host, port or database stand after the ?: write {FORM}"
_UNKNOWN_PARAMETER: Final = f"a parameter after the ? is none of {', '.join(_PARAMETERS)}: remove it"


@dataclass(frozen=True, slots=True, repr=False)
class ConnectionString:
    """The parts of one, decoded. Its repr shows none of them."""

    user: str
    password: str | None
    """None: it names none. libpq may have one of its own (PGPASSWORD, ~/.pgpass)."""
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
    """What is wrong, as one of the texts above."""


def parse(text: str, source: str) -> ConnectionString:
    """Takes a connection string apart. Blanks and line breaks around it do not count.

    `source`: the secret or the variable it was read from, for the error. Raises SetUpWrong, whose text and chain hold
    no part of the string.
    """
    try:
        return _parsed(text.strip())
    except _Flaw as flaw:
        words = str(flaw)
    # Out here the error has no context.
    raise SetUpWrong(f"the connection string in {source} cannot be used: {words}")


def with_parameter(text: str, name: str, value: str) -> str:
    """The same connection string, one that can be parsed, with one parameter more."""
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
    if found := re.search("[/?#]", before_at):
        raise _Flaw(_DELIMITERS[found[0]])
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
    if found := _SCHEME.match(text):
        return found[0]
    lower = text.lower()
    if text.startswith("{"):
        raise _Flaw(_IS_JSON)
    if text[0] in _QUOTES:
        raise _Flaw(_QUOTED)
    if re.match(r"jdbc:|postgres(ql)?(\+\w+)?:", lower):
        raise _Flaw(_DRIVER)
    if _SCHEME.search(lower):
        raise _Flaw(_TEXT_BEFORE)
    raise _Flaw(_KEYWORDS if re.match(r"\w+\s*=", text) else _NO_SCHEME)


def _check_characters(rest: str) -> None:
    for is_there, flaw in (
        (_CONTROL.search(rest), _HAS_CONTROL),
        (rest.endswith(tuple(_QUOTES)), _QUOTED),
        (not rest.isascii(), _NOT_ASCII),
        (" " in rest, _HAS_BLANK),
        (_PLACEHOLDER.search(_IPV6_OF_A_HOST.sub("", rest)), _HAS_PLACEHOLDER),
        (_BAD_ESCAPE.search(rest), _PERCENT),
    ):
        if is_there:
            raise _Flaw(flaw)


def _address(text: str) -> tuple[str, str, str, str]:
    """Host, port, database and what follows the `?`."""
    found = _AFTER_AT.fullmatch(text)
    if found is None:
        raise _Flaw(_FRAGMENT if "#" in text else _BAD_HOST)
    host, port, database = found["host"], found["port"], found["database"]
    if not host:
        raise _Flaw(_NO_HOST)
    if "," in host or "," in (port or ""):
        raise _Flaw(_MANY_HOSTS)
    if not (_HOST.fullmatch(host) or _IPV6.fullmatch(host)):
        raise _Flaw(_BAD_HOST)
    if port is not None and not (_PORT.fullmatch(port) and 0 < int(port) < 65_536):
        raise _Flaw(_BAD_PORT)
    if not database:
        raise _Flaw(_NO_DATABASE)
    if re.search("[/:]", database):
        raise _Flaw(_BAD_DATABASE)
    return host.strip("[]"), port or _DEFAULT_PORT, database, found["query"] or ""


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
        if not _PARAMETERS[name].fullmatch(found[name]):
            raise _Flaw(f"its parameter {name} has a value that libpq does not take")
    return found


def _decoded(text: str) -> str:
    # What is not UTF-8 is replaced: an error of the decoder's would hold the bytes.
    decoded = unquote(text, errors="replace")
    if "\ufffd" in decoded or _CONTROL.search(decoded):
        raise _Flaw(_ESCAPED)
    return decoded
