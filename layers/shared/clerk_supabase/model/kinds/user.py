"""Clerk's users."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from clerk_supabase.model.facts import Facts

if TYPE_CHECKING:
    from clerk_supabase.model.clerk_object import ClerkObject

FACTS: Final = Facts(
    kind="user",
    write_order=1,
    plural="users",
    table="users",
    key="clerk_id",
    event="user",
    again_path="/users?user_id={id}",
    gone_path="/users/{id}",
    is_read_by_id=True,
    keeps_private_metadata=True,
)


def model() -> type[ClerkObject]:
    """The model of a user."""
    from clerk_supabase.model.users import User

    return User
