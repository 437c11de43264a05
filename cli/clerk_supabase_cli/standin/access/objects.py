"""Synthetic permissions, roles, waitlist entries and sessions, with every field of Clerk's.

Source of the field names: https://github.com/clerk/openapi-specs (webhooks/2025-04-15).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from clerk_supabase_cli.standin.samples import Json

_WEEK: Final = 7 * 86_400_000


def permission(permission_id: str, key: str, *, created_at: int, updated_at: int, **changes: Any) -> Json:
    """A Clerk Permission. Times in milliseconds; `changes` replaces whole fields."""
    return {
        "object": "permission",
        "id": permission_id,
        "name": key.removeprefix("org:").replace(":", " "),
        "key": key,
        "description": "",
        "type": "user",
        "created_at": created_at,
        "updated_at": updated_at,
    } | changes


def role(
    role_id: str, key: str, permissions: Sequence[Json], *, created_at: int, updated_at: int, **changes: Any
) -> Json:
    """A Clerk Role with these permissions, as objects of this module."""
    return {
        "object": "role",
        "id": role_id,
        "name": key.removeprefix("org:").capitalize(),
        "key": key,
        "description": None,
        "is_creator_eligible": False,
        "permissions": list(permissions),
        "created_at": created_at,
        "updated_at": updated_at,
    } | changes


def waitlist_entry(entry_id: str, email_address: str, *, created_at: int, updated_at: int, **changes: Any) -> Json:
    """A Clerk WaitlistEntry, pending."""
    return {
        "object": "waitlist_entry",
        "id": entry_id,
        "email_address": email_address,
        "status": "pending",
        "is_locked": False,
        "created_at": created_at,
        "updated_at": updated_at,
        "invitation": None,
    } | changes


def invitation_from_waitlist(entry: Json, invited_at: int) -> Json:
    """The Clerk Invitation of a waitlist entry. Anybody with its link may sign up."""
    return {
        "object": "invitation",
        "id": f"inv_{entry['id'].partition('_')[2]}",
        "email_address": entry["email_address"],
        "public_metadata": {},
        "revoked": False,
        "status": "pending",
        "url": "https://accounts.example.test/sign-up?ticket=secret",
        "expires_at": invited_at + 4 * _WEEK,
        "created_at": invited_at,
        "updated_at": invited_at,
    }


def session(session_id: str, user: Json, *, created_at: int, updated_at: int, **changes: Any) -> Json:
    """A Clerk Session as webhooks show it, with its user; active."""
    return {
        "object": "session",
        "id": session_id,
        "user_id": user["id"],
        "client_id": f"client_{session_id.partition('_')[2]}",
        "actor": None,
        "status": "active",
        "last_active_organization_id": None,
        "last_active_at": updated_at,
        "latest_activity": {
            "object": "session_activity",
            "id": f"sess_activity_{session_id.partition('_')[2]}",
            "device_type": "Macintosh",
            "is_mobile": False,
            "browser_name": "Firefox",
            "browser_version": "140.0",
            "ip_address": "192.0.2.7",
            "city": "Bern",
            "country": "CH",
        },
        "expire_at": created_at + _WEEK,
        "abandon_at": created_at + 4 * _WEEK,
        "created_at": created_at,
        "updated_at": updated_at,
        "user": user,
    } | changes
