"""The schema `auth` of Supabase: its tables as far as this version of Supabase Auth has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from psycopg import sql

from clerk_supabase_cli.failure import Failure
from clerk_supabase_cli.operate.database import Connection

MIRROR: Final = "clerk"
"""The schema of the mirror."""
PAIRS_SCHEMA: Final = "clerk_migration"
"""The schema of the pairs of old and new ids, which lives as long as the migration."""

NOT_THE_APPS: Final = (
    *("auth", "cron", "extensions", "graphql", "graphql_public", "information_schema", "net", "pgbouncer", "pgmq"),
    *("pgsodium", "realtime", "storage", "supabase_functions", "supabase_migrations", "vault", "_realtime"),
    *("clerk_sync", MIRROR, PAIRS_SCHEMA),
)
"""Schemas without tables of the app."""

USER_COLUMNS: Final[Mapping[str, str]] = {
    "email": "text",
    "phone": "text",
    "encrypted_password": "text",
    "email_confirmed_at": "timestamptz",
    "phone_confirmed_at": "timestamptz",
    "confirmation_sent_at": "timestamptz",
    "recovery_sent_at": "timestamptz",
    "invited_at": "timestamptz",
    "banned_until": "timestamptz",
    "deleted_at": "timestamptz",
    "created_at": "timestamptz",
    "is_sso_user": "boolean",
    "is_anonymous": "boolean",
    "raw_user_meta_data": "jsonb",
    "raw_app_meta_data": "jsonb",
}
"""The columns of auth.users that matter here, with their types; an old project lacks some of them."""

_COLUMNS: Final = """
    select a.attname::text from pg_attribute as a
    where a.attrelid = to_regclass(%s) and a.attnum > 0 and not a.attisdropped
"""
_SETTINGS: Final = """
    select set_config('row_security', 'off', true), set_config('quote_all_identifiers', 'off', true)
"""


class NotSupabaseAuth(Failure):
    """The database has no table auth.users of Supabase Auth."""


def see_all_rows(connection: Connection) -> None:
    """For the rest of the transaction, raises an error where row-level security would hide rows from this role.

    Names are printed without needless quotes, so that calls such as auth.uid() are found.
    """
    connection.execute(_SETTINGS)


def columns_of(connection: Connection, table: str) -> set[str]:
    """The columns of a table; an empty set without the table."""
    return {name for (name,) in connection.execute(_COLUMNS, [table])}


def users_query(connection: Connection) -> sql.Composed:
    """A query of all users with every column of USER_COLUMNS; a column that is missing here is null.

    Raises NotSupabaseAuth.
    """
    present = columns_of(connection, "auth.users")
    if "id" not in present:
        raise NotSupabaseAuth("there is no table auth.users: connect to the database of a project with Supabase Auth")
    columns = [
        sql.SQL("u.{name}::{type} as {name}" if name in present else "null::{type} as {name}").format(
            name=sql.Identifier(name), type=sql.SQL(type_name)
        )
        for name, type_name in USER_COLUMNS.items()
    ]
    return sql.SQL("select u.id, {} from auth.users as u").format(sql.SQL(", ").join(columns))
