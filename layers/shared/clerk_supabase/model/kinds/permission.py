"""The permissions that roles of Clerk's organizations may hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from clerk_supabase.model.facts import Facts

if TYPE_CHECKING:
    from clerk_supabase.model.clerk_object import ClerkObject

FACTS: Final = Facts(
    kind="permission",
    write_order=6,
    plural="permissions",
    table="permissions",
    key="clerk_permission_id",
    event="permission",
    list_path="/organization_permissions",
    again_path="/organization_permissions/{id}",
    is_read_by_id=True,
)


def model() -> type[ClerkObject]:
    """The model of a permission."""
    from clerk_supabase.model.roles import Permission

    return Permission
