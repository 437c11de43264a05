"""Decides how much of a list a quick run compares, and finds where the numbers of rows differ. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from clerk_supabase.clerk_walk import OVERLAP, PAGE_SIZE, Window

# Of the requests that the share of the rate limit lets through; the rest is for what changed.
_SHARE_OF_REQUESTS: Final = 0.5
# Of the time that is left to the run.
_SHARE_OF_TIME: Final = 0.5
# As if a quarter of an hour had passed, of two hours: no visit is known to count from.
_FIRST_SHARE: Final = 1 / 8
_ROWS_OF_A_PAGE: Final = PAGE_SIZE - OVERLAP


@dataclass(frozen=True, slots=True)
class Due:
    """The share of a list that a run has to compare."""

    rows: int
    pages: int
    """More than that the rate limit does not let through."""
    seconds_kept: float
    """No page is read when less than that is left to the run."""


def due(
    total: int,
    *,
    elapsed_ms: int | None,
    oldest_ms: int,
    interval_ms: int,
    bound_minutes: float,
    requests_per_second: float,
    seconds_left: float,
) -> Due:
    """As large a part of a list as the time since the last visit is of the bound, however often runs come.

    Less than a page is left to a later run, unless that would come too late. `elapsed_ms`: since the last visit of any
    part, None if there was none; `oldest_ms`: since that of the part that waited longest; `interval_ms`: since the run
    before.
    """
    bound_ms = bound_minutes * 60_000
    elapsed = bound_ms * _FIRST_SHARE if elapsed_ms is None else min(max(elapsed_ms, 0), bound_ms)
    # If the next runs come as soon as this one did, so many come within the bound, and the last of them in time.
    runs = max(1, int(bound_ms // elapsed)) if elapsed else math.inf
    rows = math.ceil(total / runs)
    if rows < _ROWS_OF_A_PAGE:
        is_urgent = oldest_ms + interval_ms > bound_ms
        rows = _ROWS_OF_A_PAGE if is_urgent else 0
    pages = max(1, int(elapsed / 1_000 * requests_per_second * _SHARE_OF_REQUESTS))
    return Due(rows, pages, seconds_left * (1 - _SHARE_OF_TIME))


@dataclass(frozen=True, slots=True)
class Place:
    """A place in Clerk's list, between two moments of creation."""

    offset: int
    """Number of objects in Clerk's list that were created before `moment`."""
    moment: int


@dataclass(frozen=True, slots=True)
class _Stretch:
    start: Place
    end: Place
    surplus_at_start: int
    surplus_at_end: int
    """Number of rows less number of objects that were created before each of these two places."""


def where_ranks_differ(
    total: int, rows: int, last_moment: int, look: Callable[[int], Place | None], rank: Callable[[int], int]
) -> Iterator[tuple[Window, int]]:
    """The windows of about a page in which Clerk has another number of objects than we, and the offset of each.

    `look`: a place near an offset, None where the list says none. `rank`: how many of our rows were created before a
    moment. Halves the stretches whose numbers differ, so each costs as many questions as the list has powers of two.
    """
    stretches = [_Stretch(Place(0, 0), Place(total, last_moment), 0, rows - total)]
    while stretches:
        stretch = stretches.pop()
        if stretch.surplus_at_start == stretch.surplus_at_end:
            continue
        middle = None
        if stretch.end.offset - stretch.start.offset > _ROWS_OF_A_PAGE:
            middle = look((stretch.start.offset + stretch.end.offset) // 2)
        if middle is None or not stretch.start.moment < middle.moment < stretch.end.moment:
            end = None if stretch.end.moment == last_moment else stretch.end.moment
            yield Window(stretch.start.moment, end), stretch.start.offset
            continue
        surplus = rank(middle.moment) - middle.offset
        stretches += [
            _Stretch(middle, stretch.end, surplus, stretch.surplus_at_end),
            _Stretch(stretch.start, middle, stretch.surplus_at_start, surplus),
        ]


def place_in(offset: int, moments: Sequence[int | None]) -> Place | None:
    """The first place in a page at which the moment of creation changes: there the number before it is certain."""
    for number in range(1, len(moments)):
        earlier, later = moments[number - 1], moments[number]
        if earlier is None or later is None:
            return None
        if earlier < later:
            return Place(offset + number, later)
    return None
