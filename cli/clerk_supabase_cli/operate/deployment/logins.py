"""Logins of the functions' roles, made with the connection string of the database's owner."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

from clerk_supabase.errors import ClerkSupabaseError
from clerk_supabase.postgres.connection_string import parse
from clerk_supabase_cli.failure import Failure
from clerk_supabase_cli.operate.database import DATABASE_URL, open_database
from clerk_supabase_cli.operate.setup.role_urls import SESSION_ROLE, WORKER_ROLE, give_password, suffix_of_user, text_of

NEW_PASSWORDS: Final = "--new-role-passwords"

_POOLER: Final = re.compile(r"[a-z0-9-]+\.pooler\.supabase\.com")
_DIRECT: Final = re.compile(r"db\.[a-z0-9]+\.supabase\.co")
_SESSION_PORT, _TRANSACTION_PORT = "5432", "6543"
# The functions verify the server with a file of their own, and never less than that on the way through the internet.
_ONLY_OF_THIS_MACHINE: Final = ("sslrootcert", "sslcert", "sslkey")
_IS_LOGGED_IN: Final = "select exists (select from pg_catalog.pg_stat_activity where usename = %s)"
_HAS_ROLES: Final = "select count(*) from pg_catalog.pg_roles where rolname = any(%s)"


class RoleInUse(Failure):
    """Somebody is logged in as a role whose password would be replaced."""


def owner_url_problem(url: str) -> str:
    """The reason why the owner cannot connect with the string; empty for a good string."""
    try:
        with open_database(url):
            return ""
    except (ClerkSupabaseError, Failure) as error:
        return str(error)


def obstacle_for_functions(owner_url: str, *, has_certificate: bool) -> str:
    """The reason why no function could connect to the host of the owner's string, with its remedy; empty for none."""
    given = parse(owner_url, DATABASE_URL)
    if _DIRECT.fullmatch(given.host) and given.port != _TRANSACTION_PORT:
        return "Lambda does not reach the host in DATABASE_URL, which has IPv6 only: take that of the Session pooler"
    if given.host.endswith((".supabase.com", ".supabase.co")) and not has_certificate:
        return (
            "the functions verify the certificate of Supabase: download it (Database settings > SSL configuration), "
            "put it into layers/shared/ca, and name it in DatabaseCaFile"
        )
    return ""


def has_roles(owner_url: str) -> bool:
    """Tells whether the database has the roles of the functions. Raises DatabaseFailed."""
    with open_database(owner_url) as database:
        return database.execute(_HAS_ROLES, [[WORKER_ROLE, SESSION_ROLE]]).fetchone() == (2,)


def new_login(owner_url: str, role: str, *, even_if_in_use: bool) -> str:
    """Gives a role a new password; returns its connection string for the functions.

    Raises RoleInUse if somebody is logged in as the role, unless *even_if_in_use*; DatabaseFailed and SetUpWrong.
    """
    with open_database(owner_url) as database:
        if not even_if_in_use and database.execute(_IS_LOGGED_IN, [role]).fetchone() == (True,):
            raise RoleInUse(
                f"another stack is logged in as {role}, and a new password would stop that stack: give the connection "
                f"string of the role as a variable (clerk-supabase deploy --help), or add {NEW_PASSWORDS}"
            )
        user = f"{role}{suffix_of_user(owner_url, database)}"
        return url_for_functions(owner_url, user, give_password(database, role))


def url_for_functions(owner_url: str, user: str, password: str) -> str:
    """The connection string of a role, for Lambda: through the transaction pooler, and with a verified server."""
    given = parse(owner_url, DATABASE_URL)
    parameters = {name: value for name, value in given.parameters.items() if name not in _ONLY_OF_THIS_MACHINE}
    if parameters.get("sslmode") != "disable":
        parameters.pop("sslmode", None)
    is_session_pooler = _POOLER.fullmatch(given.host) and given.port == _SESSION_PORT
    port = _TRANSACTION_PORT if is_session_pooler else given.port
    return text_of(replace(given, user=user, password=password, port=port, parameters=parameters))
