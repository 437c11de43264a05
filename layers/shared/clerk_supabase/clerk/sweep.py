"""Decides how much of a list a quick run compares, and finds where the numbers of rows differ. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from clerk_supabase.clerk.walk import OVERLAP, PAGE_SIZE, Window

# The part of the requests in the share of the rate limit that a comparison of slices may use; the rest is for changes.
_SHARE_OF_REQUESTS: Final = 0.5
# The part of the run's remaining time that a comparison of slices may use.
_SHARE_OF_TIME: Final = 0.5
# Without a known visit: as if a quarter of an hour had passed, of two hours.
_FIRST_SHARE: Final = 1 / 8
_ROWS_OF_A_PAGE: Final = PAGE_SIZE - OVERLAP


@dataclass(frozen=True, slots=True)
class Due:
    """The part of a list for one run to compare."""

    rows: int
    pages: int
    """The largest number of pages within the rate limit."""
    seconds_kept: float
    """The time that must be left to the run for another page."""


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
    """The part of a list to compare: the share of the bound that has passed since the last visit, at any rate of runs.

    Less than a page is left to a later run, unless the later run would come too late. `elapsed_ms`: time since the last
    visit of any part, None without a visit; `oldest_ms`: time since the visit of the part that waited longest;
    `interval_ms`: time since the run before; `bound_minutes`: the time for the whole list.
    """
    bound_ms = bound_minutes * 60_000
    elapsed = bound_ms * _FIRST_SHARE if elapsed_ms is None else min(max(elapsed_ms, 0), bound_ms)
    # If the next runs come as soon as the present run, this many runs fall within the bound, and the last is in time.
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
    """Number of objects in Clerk's list created before `moment`."""
    moment: int


@dataclass(frozen=True, slots=True)
class _Stretch:
    start: Place
    end: Place
    surplus_at_start: int
    surplus_at_end: int
    """Number of rows minus number of objects created before each of two places."""


def where_ranks_differ(
    total: int, rows: int, last_moment: int, look: Callable[[int], Place | None], rank: Callable[[int], int]
) -> Iterator[tuple[Window, int]]:
    """The windows, of about a page each, in which Clerk has another number of objects than we, with their offsets.

    `look`: a place near an offset, None without one in the list. `rank`: the number of rows created before a moment.
    A stretch whose numbers differ is halved, so each window costs as many requests as the list has powers of two.
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
    """The first place in a page at which the moment of creation changes: the number of objects before it is certain."""
    for number in range(1, len(moments)):
        earlier, later = moments[number - 1], moments[number]
        if earlier is None or later is None:
            return None
        if earlier < later:
            return Place(offset + number, later)
    return None
