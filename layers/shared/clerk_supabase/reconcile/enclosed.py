"""Objects that Clerk lists inside other objects only, such as payment attempts inside billing statements."""

from __future__ import annotations

from typing import Final

from clerk_supabase.model.facts import Kind
from clerk_supabase.model.found_kinds import ENCLOSED_KINDS, FACTS, KIND_NAMES
from clerk_supabase.reconcile.drift import doubts_about_pages
from clerk_supabase.reconcile.lists import compare_page
from clerk_supabase.reconcile.pages import Comparison, Work
from clerk_supabase.reconcile.records import PlannedWindow

_FIRST_NUMBER: Final = 3_000_000


def plan_enclosed() -> list[tuple[int, Kind, int | None, int | None]]:
    """A window for each of these kinds."""
    return [(_FIRST_NUMBER + FACTS[kind].write_order, kind, None, None) for kind in ENCLOSED_KINDS]


def compare_enclosed(work: Work, kind: Kind, *, is_quick: bool) -> str | None:
    """Compares the objects inside all enclosing objects, or, in a quick run, of the newest page.

    Returns a reason for doubt, if any. Clerk does not document that every object is enclosed, so no row is extra.
    """
    window = _window(work, kind)
    if window is None or window.is_done:
        # A run that an earlier version planned has no such window.
        return None if window is None else _doubts(window.tally, kind)
    comparison = Comparison(work, work.runs, window)
    for page in work.clerk.enclosed(kind):
        compare_page(comparison, page)
        if is_quick:
            break
    comparison.finish()
    return _doubts(comparison.tally, kind)


def _doubts(tally: dict[str, int], kind: Kind) -> str | None:
    if doubts := doubts_about_pages(tally, KIND_NAMES[kind]):
        return doubts
    if tally.get("gaps"):
        return (
            f"{FACTS[kind].enclosing} were removed while Clerk listed these, so some {KIND_NAMES[kind]} may be missed"
        )
    return None


def _window(work: Work, kind: Kind) -> PlannedWindow | None:
    # Read each time: the window has the counts of its pages.
    return next((each for each in work.runs.windows(work.run_id) if each.kind == kind), None)
