"""The invitations to Clerk's organizations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from clerk_supabase.model.facts import Facts

if TYPE_CHECKING:
    from clerk_supabase.model.clerk_object import ClerkObject

FACTS: Final = Facts(
    kind="invitation",
    write_order=4,
    plural="invitations",
    table="organization_invitations",
    key="clerk_invitation_id",
    event="organizationInvitation",
    verbs=("created", "accepted", "revoked"),
    parents={"clerk_org_id": "organization"},
    list_path="/organization_invitations",
    again_path="/organizations/{organization}/invitations/{id}",
    is_read_by_id=True,
)


def model() -> type[ClerkObject]:
    """The model of an invitation."""
    from clerk_supabase.model.organizations import Invitation

    return Invitation
