"""How a list of Clerk's is walked from end to end, while others write to it. Pure: it is told how to read a page."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from clerk_supabase.clerk_pages import Item, Page
from clerk_supabase.errors import ClerkKeyRefused, ClerkRefused, ClerkUnavailable

PAGE_SIZE: Final = 500
# Rows that may go away between two pages before one is missed.
OVERLAP: Final = 20
_MOST_RESTARTS: Final = 3


@dataclass(frozen=True, slots=True)
class Window:
    """The moments from `start` on and before `end`, in milliseconds. `end` None: all that follow."""

    start: int = 0
    end: int | None = None

    def __contains__(self, moment: object) -> bool:
        return isinstance(moment, int) and self.start <= moment < (math.inf if self.end is None else self.end)


@dataclass(frozen=True, slots=True)
class Stretch:
    """All users Clerk listed that were created in a window; two stretches never share a moment.

    So they can be compared with the rows of the same window, and whoever has to stop goes on at its end.
    """

    window: Window
    items: list[Item]
    """In order of creation; those without a readable created_at belong here or elsewhere."""
    odd: list[str]
    """What is wrong with the elements that have no usable id, without their data."""


def by_creation(
    read_page: Callable[[Window, str | None], Page], window: Window, page_size: int = PAGE_SIZE
) -> Iterator[Stretch]:
    """Walks the users created in a window, oldest first. `read_page` gets a window and the id of a cursor or None.

    A page that is not full is the end: Clerk's rule. Whether it told the truth is for its counts to say.
    Raises what `read_page` raises, and ClerkUnavailable when the answers make no sense.
    """
    walk = _Walk(window)
    while not walk.is_over:
        try:
            page = read_page(walk.asked, walk.cursor)
            walk.check(page)
        except ClerkKeyRefused:
            raise
        except (ClerkRefused, _OutOfOrder) as error:
            # The user at the cursor may be gone, and nobody has written down what Clerk answers then.
            walk.restart(error)
            continue
        stretch = walk.step(page, is_last=page.size < page_size)
        if stretch is not None:
            yield stretch


class _OutOfOrder(Exception):
    """The page does not follow the one before."""


class _Walk:
    """Where a walk is. What was created at the last moment of a page is held back: the next may have more of it."""

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
            raise _OutOfOrder("its users do not follow those of the page before")

    def restart(self, error: ClerkRefused | _OutOfOrder) -> None:
        """Asks again from the last moment that is not told whole, without a cursor."""
        self._restarts += 1
        if self.cursor is None or self._restarts > _MOST_RESTARTS:
            if isinstance(error, ClerkRefused):
                raise error
            raise ClerkUnavailable(f"Clerk's list of users cannot be right: {error}") from error
        self.asked = replace(self.asked, start=self._told)
        self.cursor = None
        self._held = []
        self._newest = -1

    def step(self, page: Page, *, is_last: bool) -> Stretch | None:
        """What is known whole after this page, if anything."""
        # The bounds were asked for with a margin; in between is who comes between two that are in the window.
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
    """Those that were created before, and the others: the last few, in order of creation as all of them are. Who does
    not say when belongs to the first."""
    for place in range(len(items), 0, -1):
        moment = items[place - 1].created_at
        if moment is None:
            break
        if moment < until:
            return items[:place], items[place:]
    told = [each for each in items if each.created_at is None or each.created_at < until]
    return told, [each for each in items if each.created_at is not None and each.created_at >= until]


def by_offset(read_page: Callable[[int], Page], page_size: int = PAGE_SIZE, overlap: int = OVERLAP) -> Iterator[Page]:
    """Walks a list that has no cursor. `read_page` gets an offset. Objects come again where pages overlap.

    Rows shift while one reads: a page says whether it `joins` the one before, and `total_count` before and after,
    where there is one, says the rest. A server that ignores the offset would be walked for ever: the walk ends with a
    full page that has no new id, or that begins behind the end of the list.
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
