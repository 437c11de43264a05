"""The roles that members of Clerk's organizations may have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from clerk_supabase.model.facts import Facts

if TYPE_CHECKING:
    from clerk_supabase.model.clerk_object import ClerkObject

FACTS: Final = Facts(
    kind="role",
    write_order=7,
    plural="roles",
    table="roles",
    key="clerk_role_id",
    event="role",
    list_path="/organization_roles",
    again_path="/organization_roles/{id}",
    is_read_by_id=True,
)


def model() -> type[ClerkObject]:
    """The model of a role."""
    from clerk_supabase.model.roles import OrganizationRole

    return OrganizationRole
