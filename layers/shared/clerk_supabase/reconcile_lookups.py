"""Clerk's answers about single memberships, invitations and domains: there, gone, or not certain."""

from __future__ import annotations

from collections.abc import Iterator

from clerk_supabase.changes import ReadKind
from clerk_supabase.clerk import Clerk
from clerk_supabase.clerk_pages import Page
from clerk_supabase.errors import GoneFromClerk


def child_gone_at(clerk: Clerk, kind: ReadKind, object_id: str, user_id: str | None, org_id: str | None) -> int | None:
    """The moment at which Clerk answered that there is no such object; None: Clerk has the object, or gave no answer.

    Clerk answers about no single membership or domain, so the whole list of the user or organization is read.
    """
    parent_id = user_id if kind == "membership" else org_id
    if parent_id is None:
        return None
    if kind == "invitation":
        found = clerk.invitation(parent_id, object_id)
        return found.observed_at or None if found.value is None else None
    pages = clerk.memberships_of_user if kind == "membership" else clerk.domains_of_organization
    return _absent_at(pages(parent_id), object_id)


def _absent_at(pages: Iterator[Page], object_id: str) -> int | None:
    """The moment at which Clerk listed everything there is, without this object."""
    ids: set[str] = set()
    told: list[int] = []
    observed_at = 0
    try:
        for page in pages:
            if page.odd or not (page.joins and page.is_new) or page.total_count is None:
                return None
            ids |= {item.id for item in page.items}
            told.append(page.total_count)
            observed_at = observed_at or page.observed_at
    except GoneFromClerk as parent_gone:
        return parent_gone.observed_at or None
    is_complete = bool(told) and len(ids) >= max(told)
    return observed_at or None if is_complete and object_id not in ids else None
