"""Lists that can only be read from one end to the other, by offset: all but that of users."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from clerk_supabase.clerk.pages import Page
from clerk_supabase.clerk.walk import Window
from clerk_supabase.model.kinds import KIND_NAMES, LIST_KINDS, ListKind, ReadKind
from clerk_supabase.reconcile.drift import Tally, doubts_about_list
from clerk_supabase.reconcile.pages import Comparison, Work
from clerk_supabase.reconcile.records import PlannedWindow

# Beyond those of users. A quick run has two windows for each list: of what is new, and of the rest.
LISTS: Final[Mapping[ListKind, int]] = MappingProxyType(
    {kind: number for number, kind in enumerate(LIST_KINDS, 1_000_001)}
)
SLICES: Final[Mapping[ListKind, int]] = MappingProxyType(
    {kind: number for number, kind in enumerate(LIST_KINDS, 2_000_001)}
)


def plan_lists(*, is_quick: bool) -> list[tuple[int, ReadKind, int | None, int | None]]:
    """A window for each list and, of a quick run, one for its slices."""
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
    """Writes down which rows were not listed; returns why the list may not have been complete, if so."""
    seen = work.runs.find_unseen(work.run_id, kind)
    doubts = doubts_about_list(tally, seen, KIND_NAMES[kind])
    if doubts is None:
        note_visit(work, kind, Window())
    return doubts


def compare_page(comparison: Comparison, page: Page, *, since: int | None = None) -> None:
    """Compares a page and counts what is odd about its place in the list. `since`: see Comparison.page."""
    comparison.page(page.items, page.odd, since=since)
    if not page.is_new:
        comparison.tally["repeated"] = 1
    if not page.joins:
        comparison.tally["gaps"] = comparison.tally.get("gaps", 0) + 1


def note_visit(work: Work, kind: ReadKind, window: Window, *, is_whole: bool = True) -> None:
    """Writes down that the run has read what was created in a window. `is_whole`: no row can have been missed there."""
    if work.begun.run.as_of > 0:
        work.runs.visit_slice(work.run_id, work.begun.lease, kind, window, is_whole=is_whole)


def note_switched_off(work: Work, kind: ListKind) -> None:
    """Writes down that this instance has no list of that kind."""
    work.runs.visit_slice(work.run_id, work.begun.lease, kind, Window(), is_whole=False, is_switched_off=True)
