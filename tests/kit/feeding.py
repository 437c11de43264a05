"""Feeds of an app's table, short to write."""

from __future__ import annotations

from typing import Any

from psycopg.types.json import Jsonb

from tests.kit.databases import Connection, Rows, rows, value

USERS = """
    create table public.users (
        id uuid primary key default gen_random_uuid(),
        clerk_user_id text unique,
        email text unique,
        first_name text,
        role text not null default 'member',
        updated_at timestamptz
    )
"""


def mapping(**different: Any) -> dict[str, Any]:
    """A mapping of the table above."""
    return {
        "kind": "user",
        "table": "public.users",
        "key": {"clerk_user_id": "mirror.clerk_id"},
        "insert": True,
        "on_insert": {},
        "update": {"email": "mirror.email", "first_name": "mirror.first_name"},
        "on_delete": "keep",
        "guard": False,
    } | different


def switch(admin: Connection, **different: Any) -> int:
    """Switches a feed on, and returns its number."""
    feed: int = value(admin, "select clerk_sync.prepare_feed(%s)", Jsonb(mapping(**different)))
    admin.execute("select clerk_sync.switch_feed(%s)", [feed])
    return feed


def users_of_app(admin: Connection) -> Rows:
    """Id in Clerk, e-mail address and first name of each row of the app."""
    return rows(admin, "select clerk_user_id, email, first_name from public.users order by clerk_user_id")


def unfed(admin: Connection) -> Rows:
    """The unfed objects, each with code and reason."""
    return rows(admin, "select object_id, code, reason from clerk_sync.unfed_rows order by feed_id, object_id")
