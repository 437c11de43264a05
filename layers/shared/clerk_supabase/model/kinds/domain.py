"""The domains of Clerk's organizations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from clerk_supabase.model.facts import Facts

if TYPE_CHECKING:
    from clerk_supabase.model.clerk_object import ClerkObject

FACTS: Final = Facts(
    kind="domain",
    write_order=5,
    plural="domains",
    table="organization_domains",
    key="clerk_domain_id",
    event="organizationDomain",
    parents={"clerk_org_id": "organization"},
    list_path="/organization_domains",
    again_path="/organization_domains?organization_id={organization}&order_by=+created_at",
    is_read_by_id=True,
)


def model() -> type[ClerkObject]:
    """The model of a domain."""
    from clerk_supabase.model.organizations import Domain

    return Domain
