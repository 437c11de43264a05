"""Organizations and memberships: lists that can only be read from one end to the other, by offset."""

from __future__ import annotations

from typing import Final

from clerk_supabase.changes import ReadKind
from clerk_supabase.clerk_walk import PAGE_SIZE
from clerk_supabase.drift import doubts_about_list, doubts_about_pages
from clerk_supabase.reconcile_pages import KIND_NAMES, Comparison, Work
from clerk_supabase.runs import PlannedWindow

# Beyond those of users.
ORGANIZATIONS: Final = 1_000_001
MEMBERSHIPS: Final = 1_000_002


def plan_lists() -> list[tuple[int, ReadKind, int | None, int | None]]:
    """A window each."""
    return [(ORGANIZATIONS, "organization", None, None), (MEMBERSHIPS, "membership", None, None)]


def compare_list(work: Work, window: PlannedWindow, *, is_quick: bool) -> None:
    """Compares a whole list; `is_quick`: only its first page, if it is as long as ours.

    Raises OrganizationsUnavailable.
    """
    comparison = Comparison(work, work.runs, window)
    pages = work.clerk.organizations() if window.kind == "organization" else work.clerk.memberships()
    told: list[int] = []
    for page in pages:
        if page.total_count is not None:
            told.append(page.total_count)
            work.expected[window.kind] = page.total_count
        comparison.page(page.items, page.odd)
        if not page.is_new:
            comparison.tally["repeated"] = 1
        if not page.joins:
            comparison.tally["gaps"] = comparison.tally.get("gaps", 0) + 1
        if is_quick and page.size == PAGE_SIZE and work.runs.count_rows()[window.kind] == page.total_count:
            comparison.tally["partial"] = 1
            break
    comparison.tally["told"] = min(told[0], told[-1]) if told else 0
    comparison.finish()


def find_extra(work: Work, window: PlannedWindow) -> str | None:
    """Writes down which rows were not listed; returns why the list may not have been complete, if so."""
    if window.tally.get("partial"):
        return doubts_about_pages(window.tally, KIND_NAMES[window.kind])
    seen = work.runs.find_unseen(work.run_id, window.kind)
    return doubts_about_list(window.tally, seen, KIND_NAMES[window.kind])
