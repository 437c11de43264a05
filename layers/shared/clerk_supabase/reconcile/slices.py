"""Lists in quick runs: new objects, places where the numbers differ, and the slice that has waited longest.

The change of any other object is found with its slice, after at most `settings.sweep_minutes`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from clerk_supabase.clerk.list_walk import Part, from_moment
from clerk_supabase.clerk.pages import Page
from clerk_supabase.clerk.sweep import Place, due, place_in, where_ranks_differ
from clerk_supabase.clerk.walk import OVERLAP, PAGE_SIZE
from clerk_supabase.model.clerk_object import LAST_MILLISECOND
from clerk_supabase.model.facts import ListKind
from clerk_supabase.model.found_kinds import FACTS, KIND_NAMES
from clerk_supabase.reconcile.drift import doubts_about_pages
from clerk_supabase.reconcile.lists import LISTS, SLICES, compare_page, find_extra, note_visit
from clerk_supabase.reconcile.pages import Comparison, Work
from clerk_supabase.reconcile.records import PlannedWindow, Slice

# Each place costs about a dozen requests. If more places differ, the next runs and the slices compare the rest.
_MOST_PLACES: Final = 16
# Of new objects, and of one place: a quick run reads no more pages.
_MOST_PAGES: Final = 200


@dataclass
class ListDoubts:
    """Reasons why a quick run cannot be sure about the rows of a kind, in words."""

    deletes: str | None = None
    """The reason why no object of the kind may be deleted, if any."""
    more: list[str] = field(default_factory=list)
    """Reasons why the run is incomplete: due parts that were not compared."""
    notes: list[str] = field(default_factory=list)
    """Facts that people should know about a run that is complete."""


def compare_quickly(work: Work, kind: ListKind, windows: Mapping[int, PlannedWindow], watermark: int) -> ListDoubts:
    """Compares the objects created since the watermark, the places where the numbers differ, and the due slice.

    A list of a single page, or without times, is compared as a whole. Raises OrganizationsUnavailable and
    DomainsUnavailable.
    """
    new = Comparison(work, work.runs, windows[LISTS[kind]])
    doubts = ListDoubts()
    total, is_all = _compare_new(work, kind, new, watermark - work.settings.overlap_ms, doubts)
    new.finish()
    if is_all:
        doubts.deletes = find_extra(work, kind, new.tally)
        return doubts
    rest = _Rest(work, kind, Comparison(work, work.runs, windows[SLICES[kind]]), doubts)
    if FACTS[kind].is_list_whole:
        rest.compare_where_numbers_differ(total, new.missing_created)
    rest.compare_slices(total)
    rest.comparison.finish()
    of_pages = (doubts_about_pages(tally, KIND_NAMES[kind]) for tally in (new.tally, rest.comparison.tally))
    doubts.deletes = next((each for each in of_pages if each is not None), None)
    return doubts


def _compare_new(work: Work, kind: ListKind, new: Comparison, until: int, doubts: ListDoubts) -> tuple[int, bool]:
    """Compares the objects created from `until` on; returns the length of the list, and True after a whole list."""
    total = 0
    is_all = not FACTS[kind].is_dated
    for number, page in enumerate(work.clerk.newest_first(kind), 1):
        if number == 1:
            total = new.tally["told"] = work.expected[kind] = page.total_count or 0
            is_all = is_all or page.size < PAGE_SIZE
        compare_page(new, page, since=None if is_all else max(until, 0))
        if is_all:
            continue
        created = [item.created_at for item in page.items if item.created_at is not None]
        if created and min(created) < until:
            break
        if number == _MOST_PAGES:
            doubts.more.append(f"more than {number * PAGE_SIZE:,} {KIND_NAMES[kind]} are new: not all were compared")
            break
    if new.tally.get("gaps") and not is_all:
        doubts.more.append(
            f"{KIND_NAMES[kind]} were removed while Clerk listed the new ones, so some may have been missed"
        )
    return total, is_all


class _Rest:
    """The objects of a list that are not new: a quick run compares parts of them."""

    def __init__(self, work: Work, kind: ListKind, comparison: Comparison, doubts: ListDoubts) -> None:
        self._work = work
        self._kind = kind
        self.comparison = comparison
        self._doubts = doubts
        self._pages = 0

    def compare_where_numbers_differ(self, total: int, coming: Sequence[int]) -> None:
        """Compare places with another number of objects in Clerk. `coming`: moments of creation of expected rows."""

        def rank(moment: int) -> int:
            return self._rank(moment) + sum(created < moment for created in coming)

        rows = rank(LAST_MILLISECOND)
        places = where_ranks_differ(total, rows, LAST_MILLISECOND, self._look, rank)
        for number, (window, offset) in enumerate(places):
            if number == _MOST_PLACES:
                self._doubts.more.append(
                    f"Clerk counts {total:,} {KIND_NAMES[self._kind]}, here are {rows:,}, and more than {number} "
                    "places differ: the next runs compare the rest"
                )
                return
            until = LAST_MILLISECOND if window.end is None else window.end
            pages = self._pages
            for part in self._compared(window.start, offset):
                if part.window.end is None or part.window.end >= until:
                    break
                if self._pages - pages >= _MOST_PAGES:
                    self._doubts.more.append(f"too many {KIND_NAMES[self._kind]} are of the same moment to compare all")
                    break

    def compare_slices(self, total: int) -> None:
        """Compare the due number of rows, in the parts that have waited longest. Without enough time, add a note."""
        work = self._work
        if work.begun.run.as_of == 0:
            return
        part = self._next_slice()
        now = work.begun.run.as_of
        wanted = due(
            total,
            elapsed_ms=None if part.newest_visit is None else now - part.newest_visit,
            oldest_ms=now - part.visited_at,
            interval_ms=now - (work.begun.watermark or 0),
            bound_minutes=work.settings.sweep_minutes,
            requests_per_second=work.clerk.http.requests_per_second,
            seconds_left=work.seconds_left(),
        )
        last_page = self._pages + wanted.pages
        left = wanted.rows
        is_in_time = True
        while part.start is not None and left > 0 and is_in_time:
            for compared in self._compared(part.start, max(0, self._rank(part.start) - OVERLAP)):
                left -= len(compared.items)
                is_in_time = self._pages < last_page and work.seconds_left() >= wanted.seconds_kept
                if left <= 0 or not is_in_time or compared.is_repeated:
                    break
            before, part = part, self._next_slice()
            if part.start == before.start:
                # A dry run leaves no trace, and the next run begins here again.
                break
        if left > 0 and not is_in_time:
            self._doubts.notes.append(
                f"there was time for {wanted.rows - left:,} of the {wanted.rows:,} {KIND_NAMES[self._kind]} that were "
                f"due: to compare all takes longer than the {work.settings.sweep_minutes:g} minutes of "
                "ReconcileSweepMinutes"
            )

    def _compared(self, start: int, offset: int) -> Iterator[Part]:
        """Compares the objects created from `start` on, part after part. `offset`: their approximate place."""
        work, kind = self._work, self._kind
        for part in from_moment(self._read, start, offset):
            self.comparison.page(part.items, part.odd, since=part.window.start)
            if part.is_repeated:
                self.comparison.tally["repeated"] = 1
                yield part
                return
            if part.is_whole and FACTS[kind].is_list_whole:
                work.runs.find_unseen_among(work.run_id, kind, part.window, [item.id for item in part.items])
            elif not part.is_whole and all(item.created_at is not None for item in part.items):
                reason = f"objects were removed while Clerk listed {KIND_NAMES[kind]}, so some may have been missed"
                self._doubts.more += [] if reason in self._doubts.more else [reason]
            note_visit(work, kind, part.window, is_whole=part.is_whole)
            yield part

    def _read(self, offset: int) -> Page:
        self._pages += 1
        return self._work.clerk.page_at(self._kind, offset)

    def _look(self, offset: int) -> Place | None:
        page = self._work.clerk.page_at(self._kind, offset, OVERLAP)
        return place_in(offset, [item.created_at for item in page.items])

    def _rank(self, moment: int) -> int:
        return self._work.runs.rank_rows(self._kind, [moment])[0]

    def _next_slice(self) -> Slice:
        return self._work.runs.next_slice(self._work.run_id, self._kind)
