"""Decisions of a comparison of Clerk with the tables: windows, trust in a list, brakes. No input or output."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Final

from clerk_supabase.clerk.walk import PAGE_SIZE, Window
from clerk_supabase.settings import Settings, number, variable, whole

Tally = dict[str, int]
"""The counts of a window so far, by name."""

WRONG_CARRIER: Final = "carrier wrong"
"""Name of the number of objects whose own rows agree with Clerk, while the row of their carrier is missing or wrong."""

CountUsers = Callable[[Window], int]
"""A function that asks Clerk for the number of users in a window."""


@dataclass(frozen=True, slots=True)
class Brake(Settings):
    """The largest number of deletes of one kind that a run makes: more deletes are a sign of another fault."""

    rows: Annotated[int, variable("BRAKE_ROWS", whole)] = 10
    percent: Annotated[float, variable("BRAKE_PERCENT", number)] = 1.0

    def limit(self, existing: int, allowed: int | None) -> int:
        """The allowed number of deletes among `existing` rows. `allowed`: the number allowed by an operator instead."""
        return max(self.rows, int(existing * self.percent / 100)) if allowed is None else allowed


def windows_between(cuts: Sequence[int]) -> list[Window]:
    """All moments, split into windows at `cuts`, which are sorted and unique."""
    return [Window(start, end) for start, end in pairwise([0, *cuts, None]) if start is not None]


def cuts_by_counts(first: int, last: int, users: int, most: int, count_users: CountUsers) -> list[int]:
    """Cuts of the time between two moments: windows with more than `most` of the `users` are halved.

    For an instance without earlier counts, whose users may all be of a single day. A millisecond is never halved.
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
    """The reason why a listing cannot have been complete, if any. All three numbers: users created before it began.

    The number of such users can only have fallen meanwhile, so a complete listing lies between the two counts.
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
    for field in ("updated_at", "created_at"):
        if tally.get(f"without {field}"):
            return f"Clerk listed {what} without {field}, which a comparison needs"
    if tally.get("carriers without updated_at"):
        return f"Clerk's answers that hold {what} are without updated_at, which a comparison needs"
    return None


def doubts_about_end(listed: int | None, counted: int) -> str | None:
    """The reason why the list of changed users cannot have been complete, if any.

    `listed`: the number of users on a list that ended before the watermark, and so misses no user.
    """
    if listed is None or listed >= counted:
        return None
    return f"Clerk's list of the users who changed ended after {listed:,}, but Clerk counts {counted:,}"


def doubts_about_list(tally: Mapping[str, int], seen: int, what: str) -> str | None:
    """The reason why a list cannot have been complete, if any.

    `seen`: the number of objects seen in the list. `tally["told"]`: the list's own length, which may grow meanwhile.
    """
    if doubts := doubts_about_pages(tally, what):
        return doubts
    if tally.get("gaps", 0) > 0:
        return f"objects were removed while Clerk listed {what}, so some may have been missed"
    if seen < tally["told"]:
        return f"Clerk listed {seen:,} {what}, but says there are {tally['told']:,}"
    return None


def is_silent(change_at: int | None, newest_delivery: int | None) -> bool:
    """Tells whether no webhook has arrived since a change in Clerk. The caller passes a change that is old enough."""
    return change_at is not None and (newest_delivery is None or newest_delivery < change_at)


@dataclass(frozen=True, slots=True)
class Census:
    """The numbers of our rows by small windows of creation."""

    moments: Sequence[int]
    """The cuts, and the end of the last window, in order."""
    created_before: Sequence[int]
    """The number of rows created before each window."""

    def count(self, first: int, last: int) -> int:
        """The number of our rows in the windows from number `first` on and before `last`."""
        return self.created_before[last - 1] - (self.created_before[first - 1] if first else 0)

    def window(self, first: int, last: int) -> Window:
        """All these windows as a single window."""
        return Window(self.moments[first - 1] if first else 0, self.moments[last - 1])

    def with_rows(self, created: Sequence[int]) -> Census:
        """The same numbers plus rows on their way. `created`: their moments of creation."""
        ordered = sorted(created)
        return Census(
            self.moments,
            [
                before + bisect_left(ordered, moment)
                for moment, before in zip(self.moments, self.created_before, strict=True)
            ],
        )


def where_counts_differ(census: Census, total: int, count_users: CountUsers) -> Iterator[tuple[Window, int]]:
    """The windows, of about a page each, in which Clerk has another number of users than we, with Clerk's number.

    `total`: Clerk's number in all windows together. A window that differs is halved; Clerk is asked about the first
    half, and the number of the second half is the rest, so each halving costs a single request.
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
