"""What a comparison of Clerk with the tables decides: how to cut it, whether to believe it, when to brake. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated

from clerk_supabase.clerk_walk import PAGE_SIZE, Window
from clerk_supabase.settings import Settings, number, variable, whole

Tally = dict[str, int]
"""What a window has counted until now."""

CountUsers = Callable[[Window], int]
"""How many users Clerk counts in a window."""


@dataclass(frozen=True, slots=True)
class Brake(Settings):
    """More deletes than that of one kind are not done, because something else must be wrong."""

    rows: Annotated[int, variable("BRAKE_ROWS", whole)] = 10
    percent: Annotated[float, variable("BRAKE_PERCENT", number)] = 1.0

    def limit(self, existing: int, allowed: int | None) -> int:
        """How many may be deleted of so many rows. `allowed`: what an operator allows instead."""
        return max(self.rows, int(existing * self.percent / 100)) if allowed is None else allowed


def windows_between(cuts: Sequence[int]) -> list[Window]:
    """All moments, in the windows that these cuts make. They are in order, and none is twice."""
    return [Window(start, end) for start, end in pairwise([0, *cuts, None]) if start is not None]


def cuts_by_counts(first: int, last: int, users: int, most: int, count_users: CountUsers) -> list[int]:
    """Cuts of the time between two moments, so that no window has more than `most` of its `users`: halves what has.

    For an instance of which nothing else is known: it may have grown on a single day. A millisecond stays whole.
    """
    cuts: list[int] = []
    parts = [(first, last, users)]
    while parts:
        start, end, there = parts.pop()
        if there <= most or end - start < 2:
            continue
        middle = (start + end) // 2
        earlier = count_users(Window(start, middle))
        if 0 < earlier < there:
            cuts.append(middle)
        parts += [(start, middle, earlier), (middle, end, there - earlier)]
    return sorted(cuts)


def doubts_about_users(before: int, listed: int, after: int) -> str | None:
    """Why a listing cannot have been complete, if so. All three: users created before it began.

    Such users can only have become fewer meanwhile, so the listing lies between the two counts.
    """
    if after <= listed <= before:
        return None
    return f"Clerk listed {listed:,} users, but counted {before:,} before and {after:,} after"


def doubts_about_pages(tally: Mapping[str, int], what: str) -> str | None:
    """Return why the pages of a window cannot be relied on, if so."""
    if tally.get("odd"):
        return f"Clerk listed {what} without a usable id, or called deleted"
    if tally.get("undated"):
        return f"Clerk listed {what} without a believable Date"
    if tally.get("repeated"):
        return f"Clerk listed the same {what} again instead of the next ones"
    return None


def doubts_about_end(listed: int | None, counted: int) -> str | None:
    """Return why the list of the users who changed cannot have ended where it did, if so.

    `listed`: how many users were on it, if it ended before the watermark: then nobody is missing on it.
    """
    if listed is None or listed >= counted:
        return None
    return f"Clerk's list of the users who changed ended after {listed:,}, but Clerk counts {counted:,}"


def doubts_about_list(tally: Mapping[str, int], seen: int, what: str) -> str | None:
    """The same for a list that says itself how long it is: new objects come in at its end while it is read."""
    if doubts := doubts_about_pages(tally, what):
        return doubts
    if tally.get("gaps", 0) > 0:
        return f"objects went while Clerk listed {what}, so some may have been missed"
    if seen < tally["told"]:
        return f"Clerk listed {seen:,} {what}, but says there are {tally['told']:,}"
    return None


def is_silent(change_at: int | None, newest_delivery: int | None) -> bool:
    """Whether Clerk has a change, older than webhooks may take, since which none has arrived."""
    return change_at is not None and (newest_delivery is None or newest_delivery < change_at)


@dataclass(frozen=True, slots=True)
class Census:
    """How many of our rows were created in each of many small windows."""

    moments: Sequence[int]
    """The cuts, and the end of the last window, in order."""
    created_before: Sequence[int]
    """How many rows were created before each of them."""

    def count(self, first: int, last: int) -> int:
        """In the windows from number `first` on and before `last`."""
        return self.created_before[last - 1] - (self.created_before[first - 1] if first else 0)

    def window(self, first: int, last: int) -> Window:
        """These windows as one."""
        return Window(self.moments[first - 1] if first else 0, self.moments[last - 1])

    def with_rows(self, created: Sequence[int]) -> Census:
        """The same with rows that will be there soon."""
        ordered = sorted(created)
        return Census(
            self.moments,
            [
                before + bisect_left(ordered, moment)
                for moment, before in zip(self.moments, self.created_before, strict=True)
            ],
        )


def where_counts_differ(census: Census, total: int, count_users: CountUsers) -> Iterator[tuple[Window, int]]:
    """The windows of about a page in which Clerk has another number of users than we, and how many it has.

    `total`: how many Clerk has in all windows. Halves what differs; the second half is what is left of the whole, so
    each halving costs one question.
    """
    parts = [(0, len(census.moments), total)]
    while parts:
        first, last, theirs = parts.pop()
        ours = census.count(first, last)
        if theirs == ours:
            continue
        if last - first == 1 or max(theirs, ours) <= PAGE_SIZE - 1:
            yield census.window(first, last), theirs
            continue
        middle = (first + last) // 2
        left = count_users(census.window(first, middle))
        # In the order of creation.
        parts += [(middle, last, theirs - left), (first, middle, left)]
