"""Decisions of a comparison: where to cut, whether to trust a listing, when to brake."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clerk_supabase.clerk.walk import Window
from clerk_supabase.reconcile.drift import (
    Brake,
    Census,
    cuts_by_counts,
    doubts_about_list,
    doubts_about_users,
    is_silent,
    where_counts_differ,
    windows_between,
)


@pytest.mark.parametrize(
    ("existing", "allowed", "limit"), [(0, None, 10), (900, None, 10), (5_000, None, 50), (5_000, 3, 3), (5, 7, 7)]
)
def test_the_brake_is_ten_rows_or_one_percent_by_default(existing: int, allowed: int | None, limit: int) -> None:
    assert Brake().limit(existing, allowed) == limit


def test_windows_hold_every_moment_once() -> None:
    assert windows_between([]) == [Window(0, None)]
    assert windows_between([5, 9]) == [Window(0, 5), Window(5, 9), Window(9, None)]


@pytest.mark.parametrize(
    ("before", "listed", "after", "is_believed"),
    [
        (10, 10, 10, True),
        (10, 9, 9, True),
        (10, 10, 9, True),
        (10, 8, 9, False),
        (10, 11, 10, False),
        (9, 9, 10, False),
    ],
)
def test_a_listing_of_users_lies_between_the_counts_before_and_after(
    before: int, listed: int, after: int, is_believed: bool
) -> None:
    assert (doubts_about_users(before, listed, after) is None) == is_believed


def test_a_list_is_trusted_when_its_pages_join_and_its_length_is_as_announced() -> None:
    assert doubts_about_list({"told": 5}, 5, "organizations") is None
    assert doubts_about_list({"told": 5}, 6, "organizations") is None
    assert doubts_about_list({"told": 5}, 4, "organizations") == "Clerk listed 4 organizations, but says there are 5"
    assert "may have been missed" in str(doubts_about_list({"told": 5, "gaps": 1}, 5, "organizations"))


@pytest.mark.parametrize(
    ("change", "delivery", "silent"), [(None, None, False), (5, None, True), (5, 4, True), (5, 5, False), (5, 6, False)]
)
def test_silence_is_a_change_since_which_no_webhook_came(
    change: int | None, delivery: int | None, silent: bool
) -> None:
    assert is_silent(change, delivery) == silent


class Clerk:
    """Users by their moment of creation, and how often somebody asked how many there are."""

    def __init__(self, moments: list[int]) -> None:
        self.moments = moments
        self.asked = 0

    def count(self, window: Window) -> int:
        self.asked += 1
        return sum(moment in window for moment in self.moments)


def census(moments: list[int], every: int) -> Census:
    cuts = [*moments[every::every], moments[-1] + 1]
    return Census(cuts, [sum(moment < cut for moment in moments) for cut in cuts])


DAY = 86_400_000
YEARS = st.integers(0, 10 * 365 * DAY)


@given(st.lists(YEARS, min_size=1), st.lists(st.integers(0, 3_000), max_size=300), YEARS, st.integers(1, 50))
def test_no_window_holds_too_many_however_unevenly_an_instance_grew(
    calm: list[int], crowd: list[int], day: int, most: int
) -> None:
    moments = [*calm, *(day + moment for moment in crowd)]
    clerk = Clerk(moments)
    first, last = min(moments), max(moments) + 1
    cuts = cuts_by_counts(first, last, len(moments), most, clerk.count)
    assert cuts == sorted(set(cuts))
    assert all(first < cut < last for cut in cuts)
    for window in windows_between(cuts):
        assert Clerk(moments).count(window) <= most or len({each for each in moments if each in window}) == 1
    # Each halving that cuts nothing comes nearer to a moment, of which ten years have less than 2 to the 39th.
    assert clerk.asked <= 39 * (len(moments) // most)


def test_cuts_cost_about_a_count_each_where_an_instance_grew_evenly() -> None:
    clerk = Clerk(list(range(0, 32_000, 10)))
    assert len(cuts_by_counts(0, 32_000, 3_200, 100, clerk.count)) == clerk.asked == 31


def test_two_milliseconds_are_halved_and_one_is_not() -> None:
    assert cuts_by_counts(0, 2, 2, 1, Clerk([0, 1]).count) == [1]
    assert cuts_by_counts(0, 1, 2, 1, Clerk([0, 0]).count) == []


@pytest.mark.parametrize("answer", [0, -5, 10**9])
def test_counts_that_make_no_sense_make_cuts_of_which_none_is_twice(answer: int) -> None:
    cuts = cuts_by_counts(0, DAY, 5_000, 100, lambda _: answer)
    assert cuts == sorted(set(cuts))


@given(st.integers(0, 2**32), st.integers(2_000, 20_000), st.integers(0, 40))
def test_every_window_with_another_number_of_users_is_found(seed: int, users: int, deletes: int) -> None:
    ours = list(range(users))
    gone = set(Random(seed).sample(ours, deletes))
    clerk = Clerk([moment for moment in ours if moment not in gone])
    found = list(where_counts_differ(census(ours, 450), len(clerk.moments), clerk.count))
    assert all(any(moment in window for window, _ in found) for moment in gone)
    assert [theirs for _, theirs in found] == [sum(moment in window for moment in clerk.moments) for window, _ in found]
    assert clerk.asked <= deletes * 6 + 1


def test_a_single_window_with_more_users_than_a_page_is_read_without_another_question() -> None:
    def count(window: Window) -> int:
        raise AssertionError(f"nobody needs to count {window}")

    assert list(where_counts_differ(Census([10], [600]), 601, count)) == [(Window(0, 10), 601)]


def test_rows_that_will_be_there_soon_may_be_told_in_the_order_of_change() -> None:
    before = Census([10, 20, 30], [4, 5, 6])
    assert before.with_rows([25, 5]) == Census([10, 20, 30], [5, 6, 8]) == before.with_rows([5, 25])


def test_rows_that_will_be_there_soon_are_counted_where_they_belong() -> None:
    ours = list(range(2_000))
    missing = [450, 451, 1_999]
    there = census(ours, 450)
    here = Census(there.moments, [before - sum(m < cut for m in missing) for cut, before in
                                  zip(there.moments, there.created_before, strict=True)])  # fmt: skip
    assert here.with_rows(missing) == there
    assert list(where_counts_differ(there, 2_000, Clerk(ours).count)) == []
