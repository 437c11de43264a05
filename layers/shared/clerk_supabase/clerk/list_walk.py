"""Walks a list, sorted by creation, from a moment on, while others write to the list. No input or output.

Clerk lists organizations, memberships, invitations and domains by offset only. An offset means nothing from one run to
the next, a moment of creation does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from clerk_supabase.clerk.pages import Item, Page
from clerk_supabase.clerk.walk import OVERLAP, PAGE_SIZE, Window

ReadPage = Callable[[int], Page]
"""Reads the page at an offset, oldest objects first."""

_MOST_STEPS_BACK = 3
# Each step doubles, and then halves, so a list of a million objects takes some twenty.
_MOST_STEPS_TO_THE_BEGINNING = 60


@dataclass(frozen=True, slots=True)
class Part:
    """The objects of a list created in one window, in order of creation."""

    window: Window
    items: list[Item]
    odd: list[str]
    """Reasons, each for an element without a usable id."""
    is_whole: bool = True
    """False: an object of the window may have been missed."""
    is_repeated: bool = False
    """True: Clerk listed the same objects again instead of the next ones, so the walk ended."""


def from_moment(read_page: ReadPage, start: int, offset: int) -> Iterator[Part]:
    """Walks the objects created from `start` on. `offset`: a guess at the place of the first such object.

    Two parts never share a moment, so each part can be compared with the rows of its window.
    """
    offset, page = _beginning(read_page, start, offset)
    told = start
    held: dict[str, Item] = {}
    odd: list[str] = []
    is_whole = True
    stalled = 0
    while True:
        moments = [item.created_at for item in page.items]
        newest = max((moment for moment in moments if moment is not None), default=told)
        is_new = newest > told or any(item.created_at in {None, told} and item.id not in held for item in page.items)
        # A list that lost objects may be stepped back through for a few pages.
        stalled = 0 if is_new else stalled + 1
        is_whole = is_whole and None not in moments and not page.odd and _is_sorted(moments)
        held |= {item.id: item for item in page.items if item.created_at is None or item.created_at >= told}
        odd += page.odd
        if page.size < PAGE_SIZE:
            yield Part(Window(told, None), list(held.values()), odd, is_whole)
            return
        if newest > told:
            known = [item for item in held.values() if item.created_at is None or item.created_at < newest]
            yield Part(Window(told, newest), known, odd, is_whole)
            held = {item.id: item for item in held.values() if item.created_at == newest}
            told, odd, is_whole = newest, [], True
        before = {item.id for item in page.items}
        offset, page, joins = _next(read_page, offset, before, told)
        is_whole = is_whole and joins
        is_repeated = before >= {item.id for item in page.items} or stalled > _MOST_STEPS_BACK
        if page.size >= PAGE_SIZE and is_repeated:
            yield Part(Window(told, told), list(held.values()), odd, is_whole=False, is_repeated=True)
            return


def _beginning(read_page: ReadPage, start: int, offset: int) -> tuple[int, Page]:
    """A page that begins before `start`, with its offset; found in a few steps rather than exactly.

    A list that changes from step to step, as that of servers that contradict each other, is read from its beginning.
    """
    step = PAGE_SIZE - OVERLAP
    low, high = 0, None
    for _ in range(_MOST_STEPS_TO_THE_BEGINNING):
        page = read_page(offset)
        moments = [item.created_at for item in page.items if item.created_at is not None]
        if offset > 0 and not (moments and moments[0] < start):
            high = offset
            # The list has lost objects before the last page that ended too early.
            low = low if low < offset else 0
            offset = max(low, offset - step)
        elif page.size >= PAGE_SIZE and moments and moments[-1] < start:
            low = offset
            offset = offset + step if high is None else min(offset + step, (low + high) // 2)
            if high is not None and offset - low < PAGE_SIZE:
                return low, page
        else:
            return offset, page
        step *= 2
    return 0, read_page(0)


def _next(read_page: ReadPage, offset: int, before: set[str], told: int) -> tuple[int, Page, bool]:
    """The next page after the page at `offset`, with its offset; False: objects between the two may be missing."""
    offset += PAGE_SIZE - OVERLAP
    for _ in range(_MOST_STEPS_BACK):
        page = read_page(offset)
        first = page.items[0].created_at if page.items else None
        if not before.isdisjoint(item.id for item in page.items) or (first is not None and first < told):
            return offset, page, True
        # So many objects were removed that the list has shifted by more than the overlap.
        offset = max(0, offset - (PAGE_SIZE - OVERLAP))
    return offset, read_page(offset), False


def _is_sorted(moments: list[int | None]) -> bool:
    known = [moment for moment in moments if moment is not None]
    return all(earlier <= later for earlier, later in pairwise(known))
