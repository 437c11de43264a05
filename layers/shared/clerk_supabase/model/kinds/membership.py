"""The memberships of users in Clerk's organizations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from clerk_supabase.model.facts import Facts

if TYPE_CHECKING:
    from clerk_supabase.model.clerk_object import ClerkObject

FACTS: Final = Facts(
    kind="membership",
    write_order=3,
    plural="memberships",
    table="organization_memberships",
    key="clerk_membership_id",
    event="organizationMembership",
    parents={"clerk_org_id": "organization", "clerk_user_id": "user"},
    list_path="/organization_memberships",
    again_path="/organizations/{organization}/memberships?user_id={user}&order_by=+created_at",
    gone_path="/users/{user}/organization_memberships",
    is_read_by_id=True,
    keeps_private_metadata=True,
)


def model() -> type[ClerkObject]:
    """The model of a membership."""
    from clerk_supabase.model.organizations import Membership

    return Membership
