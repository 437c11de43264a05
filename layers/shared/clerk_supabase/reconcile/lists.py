"""Lists that Clerk pages by offset only, read from one end to the other: the lists of all kinds but users."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from clerk_supabase.clerk.pages import Page
from clerk_supabase.clerk.walk import Window
from clerk_supabase.model.facts import ListKind, ReadKind
from clerk_supabase.model.found_kinds import FACTS, KIND_NAMES, LIST_KINDS
from clerk_supabase.reconcile.drift import Tally, doubts_about_list
from clerk_supabase.reconcile.pages import Comparison, Work
from clerk_supabase.reconcile.records import PlannedWindow

# Above the numbers of the windows of users. A quick run has two windows for each list: new objects, and the rest.
LISTS: Final[Mapping[ListKind, int]] = MappingProxyType(
    {kind: 1_000_000 + FACTS[kind].write_order for kind in LIST_KINDS}
)
SLICES: Final[Mapping[ListKind, int]] = MappingProxyType(
    {kind: 2_000_000 + FACTS[kind].write_order for kind in LIST_KINDS}
)


def plan_lists(*, is_quick: bool) -> list[tuple[int, ReadKind, int | None, int | None]]:
    """A window for each list and, for a quick run, a second window for its slices."""
    numbers = [*LISTS.items(), *(SLICES.items() if is_quick else ())]
    return [(number, kind, None, None) for kind, number in numbers]


def compare_list(work: Work, kind: ListKind, window: PlannedWindow) -> None:
    """Compares a whole list. Raises OrganizationsUnavailable and DomainsUnavailable."""
    comparison = Comparison(work, work.runs, window)
    told: list[int] = []
    for page in work.clerk.oldest_first(kind):
        if page.total_count is not None:
            told.append(page.total_count)
            work.expected[kind] = page.total_count
        compare_page(comparison, page)
    comparison.tally["told"] = min(told[0], told[-1]) if told else 0
    comparison.finish()


def find_extra(work: Work, kind: ListKind, tally: Tally) -> str | None:
    """Stores a finding for each row that Clerk did not list; returns a reason to doubt the list, if any.

    No finding about a kind whose list may leave objects out.
    """
    seen = work.runs.find_unseen(work.run_id, kind, is_count_only=not FACTS[kind].is_list_whole)
    doubts = doubts_about_list(tally, seen, KIND_NAMES[kind])
    if doubts is None:
        note_visit(work, kind, Window())
    return doubts


def compare_page(comparison: Comparison, page: Page, *, since: int | None = None) -> None:
    """Compares a page and counts gaps and repetitions in the list. `since`: see Comparison.page."""
    comparison.page(page.items, page.odd, since=since)
    if not page.is_new:
        comparison.tally["repeated"] = 1
    if not page.joins:
        comparison.tally["gaps"] = comparison.tally.get("gaps", 0) + 1


def note_visit(work: Work, kind: ReadKind, window: Window, *, is_whole: bool = True) -> None:
    """Stores that the run has read the objects created in a window. `is_whole`: no object can be missing."""
    if work.begun.run.as_of > 0:
        work.runs.visit_slice(work.run_id, work.begun.lease, kind, window, is_whole=is_whole)


def note_switched_off(work: Work, kind: ListKind) -> None:
    """Stores that this instance of Clerk has no list of the kind."""
    work.runs.visit_slice(work.run_id, work.begun.lease, kind, Window(), is_whole=False, is_switched_off=True)
