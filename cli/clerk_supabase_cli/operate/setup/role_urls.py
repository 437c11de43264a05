"""The connection strings of the functions' two roles for the developer's database, made from the owner's.

A deployed stack may use the passwords of these roles. So a password is set only for a role without a password, or if
the developer asks for it.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import quote, urlencode

import psycopg
from psycopg import sql

from clerk_supabase.postgres.connection_string import ConnectionString, parse
from clerk_supabase_cli.failure import Failure
from clerk_supabase_cli.operate.database import DATABASE_URL, Connection, open_database

WORKER_ROLE: Final = "clerk_sync_worker"
SESSION_ROLE: Final = "clerk_sync_session"
WORKER_VARIABLE: Final = "SYNC_DATABASE_URL"
SESSION_VARIABLE: Final = "SESSION_DATABASE_URL"
_ROLES: Final = (WORKER_ROLE, SESSION_ROLE)
_WHICH_DATABASE: Final = "select system_identifier, current_database() from pg_catalog.pg_control_system()"
_WITHOUT_PASSWORD: Final = "select count(*) from pg_catalog.pg_authid where rolname = any(%s) and rolpassword is null"  # noqa: S105 - SQL


class RolesUnusable(Failure):
    """The functions' roles cannot log in with the given URLs, or their passwords may be in use."""


@dataclass(frozen=True, slots=True)
class RoleUrls:
    """The connection strings of the functions."""

    worker: str
    session: str
    origin: str
    """The origin of the passwords, as the rest of a sentence."""


@contextmanager
def urls_of_roles(owner_url: str, given: Sequence[str | None], *, reset: bool) -> Iterator[RoleUrls]:
    """The URLs of both roles, during the `with` block.

    *given*: the URLs of worker and session, if the developer has them. Otherwise both roles get a password until the
    block ends: roles without a password, or with *reset* any role. Raises RolesUnusable and DatabaseFailed.
    """
    worker, session = given
    if worker and session:
        for role, url in zip(_ROLES, (worker, session), strict=True):
            _check_given(owner_url, role, url)
        yield RoleUrls(worker, session, f"with {WORKER_VARIABLE} and {SESSION_VARIABLE}")
        return
    if worker or session:
        raise RolesUnusable(f"{WORKER_VARIABLE} and {SESSION_VARIABLE} go together: set both or neither")
    with open_database(owner_url) as database:
        if not reset and not _are_without_password(database):
            raise RolesUnusable(
                f"{WORKER_ROLE} and {SESSION_ROLE} may have passwords, with which a deployed stack connects: set "
                f"{WORKER_VARIABLE} and {SESSION_VARIABLE}, or give both roles new ones by --reset-role-passwords"
            )
    try:
        with open_database(owner_url) as database:
            suffix = suffix_of_user(owner_url, database)
            worker, session = (as_role(owner_url, f"{role}{suffix}", give_password(database, role)) for role in _ROLES)
        yield RoleUrls(worker, session, "with passwords that are good until dev ends")
    finally:
        with open_database(owner_url) as database:
            for role in _ROLES:
                database.execute(sql.SQL("alter role {} password null").format(sql.Identifier(role)))


def give_password(database: Connection, role: str) -> str:
    """Sets and returns a new password. The server, and so its log, sees only the verifier."""
    password = secrets.token_urlsafe(24)
    verifier = database.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()
    database.execute(sql.SQL("alter role {} password {}").format(sql.Identifier(role), sql.Literal(verifier)))
    return password


def as_role(url: str, user: str, password: str) -> str:
    """The connection string of another user for the same database, without user and password of *url*."""
    return text_of(replace(parse(url, DATABASE_URL), user=user, password=password))


def text_of(given: ConnectionString) -> str:
    """The connection string with these parts."""
    host = f"[{given.host}]" if ":" in given.host else given.host
    query = f"?{urlencode(given.parameters, quote_via=quote)}" if given.parameters else ""
    credentials = f"{quote(given.user, '')}:{quote(given.password or '', '')}"
    return f"postgresql://{credentials}@{host}:{given.port}/{quote(given.database, '')}{query}"


def suffix_of_user(owner_url: str, database: Connection) -> str:
    """The ending of a role's name for Supabase's pooler: `.<project>`; empty without a pooler."""
    row = database.execute("select current_user").fetchone()
    user = parse(owner_url, DATABASE_URL).user
    name = str(row[0]) if row else ""
    return user.removeprefix(name) if user.startswith(f"{name}.") else ""


def _are_without_password(database: Connection) -> bool:
    """Tells whether both roles are known to have no password. Only a superuser can find out."""
    try:
        return database.execute(_WITHOUT_PASSWORD, [list(_ROLES)]).fetchone() == (len(_ROLES),)
    except psycopg.errors.InsufficientPrivilege:
        return False


def _check_given(owner_url: str, role: str, url: str) -> None:
    """Raises RolesUnusable unless *url* logs in as *role*, into the database of the owner's URL."""
    with open_database(owner_url) as database:
        wanted = database.execute(_WHICH_DATABASE).fetchone()
    with open_database(url) as database:
        found = database.execute(_WHICH_DATABASE).fetchone()
        user = database.execute("select session_user").fetchone()
    variable = WORKER_VARIABLE if role == WORKER_ROLE else SESSION_VARIABLE
    if user != (role,):
        raise RolesUnusable(f"{variable} connects as another role than {role}")
    if found != wanted:
        raise RolesUnusable(f"{variable} is of another database than --database-url")
