"""Clerk's organizations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from clerk_supabase.model.facts import Facts

if TYPE_CHECKING:
    from clerk_supabase.model.clerk_object import ClerkObject

FACTS: Final = Facts(
    kind="organization",
    write_order=2,
    plural="organizations",
    table="organizations",
    key="clerk_org_id",
    event="organization",
    list_path="/organizations",
    again_path="/organizations?organization_id={id}",
    gone_path="/organizations/{id}",
    is_read_by_id=True,
    keeps_private_metadata=True,
)


def model() -> type[ClerkObject]:
    """The model of an organization."""
    from clerk_supabase.model.organizations import Organization

    return Organization
