"""Clerk's answers about single invitations and domains: there, gone, or not certain."""

from __future__ import annotations

from clerk_supabase.clerk import Clerk
from clerk_supabase.errors import GoneFromClerk


def invitation_gone_at(clerk: Clerk, invitation_id: str, org_id: str | None) -> int | None:
    """When Clerk said that there is no such invitation; None: it has it, or does not say."""
    if org_id is None:
        return None
    found = clerk.invitation(org_id, invitation_id)
    return found.observed_at or None if found.value is None else None


def domain_gone_at(clerk: Clerk, domain_id: str, org_id: str | None) -> int | None:
    """When Clerk listed all domains of the organization, and not this one; None: it has it, or does not say.

    Clerk answers about no single domain by its id.
    """
    if org_id is None:
        return None
    ids: set[str] = set()
    told: list[int] = []
    observed_at = 0
    try:
        for page in clerk.domains_of_organization(org_id):
            if page.odd or not (page.joins and page.is_new) or page.total_count is None:
                return None
            ids |= {item.id for item in page.items}
            told.append(page.total_count)
            observed_at = observed_at or page.observed_at
    except GoneFromClerk as organization_gone:
        return organization_gone.observed_at or None
    is_complete = bool(told) and len(ids) >= max(told)
    return observed_at or None if is_complete and domain_id not in ids else None
