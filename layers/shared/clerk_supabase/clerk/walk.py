"""Walks through a whole list of Clerk's, while others write to the list. Pages are read by a function of the caller."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from clerk_supabase.clerk.pages import Item, Page
from clerk_supabase.errors import ClerkKeyRejected, ClerkRejected, ClerkUnavailable

PAGE_SIZE: Final = 500
# The number of objects that may leave the list between two pages before the walk misses an object.
OVERLAP: Final = 20
_MOST_RESTARTS: Final = 3


@dataclass(frozen=True, slots=True)
class Window:
    """The moments from `start` on and before `end`, in milliseconds; without an end if `end` is None."""

    start: int = 0
    end: int | None = None

    def __contains__(self, moment: object) -> bool:
        return isinstance(moment, int) and self.start <= moment < (math.inf if self.end is None else self.end)


@dataclass(frozen=True, slots=True)
class Stretch:
    """All listed users of one window of creation; two stretches never share a moment.

    So a stretch can be compared with the rows of the same window, and a stopped run continues at the end of a stretch.
    """

    window: Window
    items: list[Item]
    """The users in order of creation; users without a readable `created_at` belong to this stretch or to another."""
    odd: list[str]
    """Faults of the elements without a usable id; their data is not quoted."""


def by_creation(
    read_page: Callable[[Window, str | None], Page], window: Window, page_size: int = PAGE_SIZE
) -> Iterator[Stretch]:
    """Walks the users created in a window, oldest first. `read_page` gets a window and the id of a cursor or None.

    By Clerk's rule, a page that is not full is the last page. The caller compares the walk with Clerk's counts.
    Raises the errors of `read_page`, and ClerkUnavailable for contradictory answers.
    """
    walk = _Walk(window)
    while not walk.is_over:
        try:
            page = read_page(walk.asked, walk.cursor)
            walk.check(page)
        except ClerkKeyRejected:
            raise
        except (ClerkRejected, _OutOfOrder) as error:
            # The user at the cursor may be deleted by now, and Clerk does not document its answer to such a cursor.
            walk.restart(error)
            continue
        stretch = walk.step(page, is_last=page.size < page_size)
        if stretch is not None:
            yield stretch


class _OutOfOrder(Exception):
    """The page does not follow the one before."""


class _Walk:
    """The place of a walk. Users of a page's last moment wait for the next page, which may have more such users."""

    def __init__(self, window: Window) -> None:
        self.asked = window
        self.cursor: str | None = None
        self.is_over = False
        self._told = window.start
        self._held: list[Item] = []
        self._newest = -1
        self._restarts = 0

    def check(self, page: Page) -> None:
        """Raises _OutOfOrder."""
        moments = [item.created_at for item in page.items if item.created_at is not None]
        if moments != sorted(moments):
            raise _OutOfOrder("its users are not in order of creation")
        if self.cursor is None:
            return
        if (moments and moments[0] < self._newest) or any(item.id == self.cursor for item in page.items):
            raise _OutOfOrder("its users do not follow the users of the page before")

    def restart(self, error: ClerkRejected | _OutOfOrder) -> None:
        """Asks again without a cursor, from the end of the last stretch on. Raises after too many restarts."""
        self._restarts += 1
        if self.cursor is None or self._restarts > _MOST_RESTARTS:
            if isinstance(error, ClerkRejected):
                raise error
            raise ClerkUnavailable(f"Clerk's list of users cannot be right: {error}") from error
        self.asked = replace(self.asked, start=self._told)
        self.cursor = None
        self._held = []
        self._newest = -1

    def step(self, page: Page, *, is_last: bool) -> Stretch | None:
        """The stretch that is complete after this page, if any."""
        # The request had a margin at both bounds: users created outside of the window are dropped.
        moments = [each.created_at for each in page.items if each.created_at is not None]
        items = page.items
        if moments and not (moments[0] in self.asked and moments[-1] in self.asked):
            items = [each for each in items if each.created_at is None or each.created_at in self.asked]
        items = self._held + items
        self._newest = max(self._newest, moments[-1] if moments else -1)
        if is_last or (self.asked.end is not None and self._newest >= self.asked.end):
            self.is_over = True
            return Stretch(replace(self.asked, start=self._told), items, page.odd)
        if not page.items:
            raise ClerkUnavailable("Clerk's list of users cannot be right: a whole page without a usable id")
        self.cursor = page.items[-1].id
        until = max(self._told, self._newest)
        told, self._held = _cut(items, until)
        if until == self._told and not told and not page.odd:
            return None
        stretch = Stretch(Window(self._told, until), told, page.odd)
        if until > self._told:
            self._restarts = 0
        self._told = until
        return stretch


def _cut(items: list[Item], until: int) -> tuple[list[Item], list[Item]]:
    """Split items, sorted by creation, into the earlier items and the last few. An item without a moment is earlier."""
    for place in range(len(items), 0, -1):
        moment = items[place - 1].created_at
        if moment is None:
            break
        if moment < until:
            return items[:place], items[place:]
    told = [each for each in items if each.created_at is None or each.created_at < until]
    return told, [each for each in items if each.created_at is not None and each.created_at >= until]


def by_offset(read_page: Callable[[int], Page], page_size: int = PAGE_SIZE, overlap: int = OVERLAP) -> Iterator[Page]:
    """Walks a list without a cursor. `read_page` gets an offset. Objects are repeated where pages overlap.

    Objects shift during the walk: a page tells whether it `joins` the page before, and the caller compares
    `total_count` before and after, where Clerk gives it. The walk ends with a full page without a new id, or with a
    page behind the end of the list, because a server that ignores the offset would be walked for ever.
    """
    before: set[str] = set()
    offset = 0
    while True:
        page = read_page(offset)
        ids = {item.id for item in page.items}
        is_full = page.size >= page_size
        is_behind_the_end = page.total_count is not None and page.total_count <= offset
        is_new = not is_full or not (ids <= before or is_behind_the_end)
        yield replace(page, joins=offset == 0 or not ids.isdisjoint(before), is_new=is_new)
        if not is_full or not is_new:
            return
        before = ids
        offset += page_size - overlap
