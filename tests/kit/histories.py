"""Changes of users, short to write."""

from __future__ import annotations

from typing import Any

from clerk_supabase.model.changes import Change, Changes, Delete, Delivery, Upsert, Version
from clerk_supabase.model.clerk_object import parse_object
from clerk_supabase.model.users import User
from clerk_supabase_cli.standin import samples

CREATED_AT = 1_600_000_000_000
RECEIVED_AT = 1_700_000_000_000

Applied = tuple[Changes, Delivery | None]


def upsert(user_id: str = "user_1", *, version: int | tuple[int, int] = 1, **fields: Any) -> Upsert:
    """A user as seen at a version; *fields* are fields of Clerk's User."""
    updated_at, observed_at = version if isinstance(version, tuple) else (version, version)
    sent = samples.user(user_id, created_at=CREATED_AT, updated_at=updated_at) | fields
    return Upsert("user", user_id, Version(updated_at, observed_at), parse_object(User, sent).columns())


def delete(user_id: str = "user_1", *, at: int) -> Delete:
    """The end of a user."""
    return Delete("user", user_id, at)


def delivered(change: Change, svix_id: str, *, received_at: int = RECEIVED_AT) -> Applied:
    """A change with its webhook."""
    event_type = "user.deleted" if isinstance(change, Delete) else "user.updated"
    return Changes(change), Delivery(svix_id, event_type, received_at)


def alone(*changes: Change) -> list[Applied]:
    """Changes without a webhook."""
    return [(Changes(change), None) for change in changes]
