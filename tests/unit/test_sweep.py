"""The part of a list that a quick run compares, and the windows where the numbers of rows differ."""

from __future__ import annotations

import math
from bisect import bisect_left
from typing import NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clerk_supabase.clerk.sweep import Place, due, place_in, where_ranks_differ
from clerk_supabase.clerk.walk import Window

MINUTE = 60_000
LAST = 253_402_300_799_999


def rows_due(total: int, minutes: float | None, *, oldest: float = 0, interval: float = 15) -> int:
    elapsed = None if minutes is None else int(minutes * MINUTE)
    found = due(
        total,
        elapsed_ms=elapsed,
        oldest_ms=int(oldest * MINUTE),
        interval_ms=int(interval * MINUTE),
        bound_minutes=120,
        requests_per_second=50,
        seconds_left=math.inf,
    )
    return found.rows


@pytest.mark.parametrize(
    ("minutes", "rows"),
    [
        *((15, 125_000), (1, 8_334), (14, 125_000), (50, 500_000), (120, 1_000_000), (600, 1_000_000)),
        *((None, 125_000), (-5, 0)),
    ],
)
def test_a_slice_is_as_large_a_part_as_the_time_since_the_last_is_of_the_bound(
    minutes: float | None, rows: int
) -> None:
    assert rows_due(1_000_000, minutes) == rows


def test_less_than_a_page_waits_until_the_next_run_would_come_too_late() -> None:
    assert rows_due(700, 15) == 0
    assert rows_due(700, 15, oldest=105) == 0
    assert rows_due(700, 15, oldest=106) == 480


@given(total=st.integers(1, 200_000), every=st.integers(1, 120))
def test_every_row_is_compared_again_within_the_bound_however_often_runs_come(total: int, every: int) -> None:
    # Times of comparison of rows, in the order of the next comparison.
    compared_at = [(0, total)]
    newest = 0
    for now in range(every, 600, every):
        oldest, _ = compared_at[0]
        left = rows_due(total, now - newest, oldest=now - oldest, interval=every)
        if left:
            newest = now
        while left > 0 and compared_at[0][0] < now:
            at, rows = compared_at.pop(0)
            assert now - at <= 120
            # A part ends where it was cut: what is beyond comes again as a part of its own.
            done = min(rows, left)
            left -= done
            if done < rows:
                compared_at.insert(0, (at, rows - done))
            compared_at.append((now, done))
        assert now - compared_at[0][0] <= 120


def test_the_limits_are_those_of_the_rate_limit_and_of_the_time_that_is_left() -> None:
    found = due(
        1_000_000,
        elapsed_ms=15 * MINUTE,
        oldest_ms=0,
        interval_ms=0,
        bound_minutes=120,
        requests_per_second=5,
        seconds_left=600,
    )
    assert (found.pages, found.seconds_kept) == (2_250, 300)
    assert (
        due(
            10_000,
            elapsed_ms=0,
            oldest_ms=0,
            interval_ms=0,
            bound_minutes=120,
            requests_per_second=0.01,
            seconds_left=math.inf,
        ).pages
        == 1
    )


# Differences of the numbers of rows


def windows(theirs: list[int], ours: list[int], page: int = 20) -> list[tuple[int, int | None]]:
    """`theirs` and `ours`: moments of creation, sorted."""

    def look(offset: int) -> Place | None:
        return place_in(offset, theirs[offset : offset + page])

    found = where_ranks_differ(len(theirs), len(ours), LAST, look, lambda moment: bisect_left(ours, moment))
    return [(window.start, window.end) for window, _ in found]


def test_where_nothing_differs_nobody_is_asked() -> None:
    def never(_: int) -> NoReturn:
        raise AssertionError

    assert list(where_ranks_differ(10_000, 10_000, LAST, never, never)) == []


def test_a_stretch_of_a_page_is_compared_without_another_question_and_a_longer_one_is_halved() -> None:
    asked: list[int] = []

    def look(offset: int) -> Place:
        asked.append(offset)
        return Place(offset, 1_000 + offset)

    assert list(where_ranks_differ(480, 481, LAST, look, lambda _: 0)) == [(Window(0, None), 0)]
    assert asked == []
    # The lower half has as many rows as objects, and the upper one has one more.
    found = list(where_ranks_differ(482, 483, LAST, look, lambda moment: moment - 1_000))
    assert (found, asked) == ([(Window(1_241, None), 241)], [241])


def test_one_extra_object_in_a_long_list_is_located_within_a_window_of_about_a_page() -> None:
    ours = list(range(5_000))
    [(start, end)] = windows([each for each in ours if each != 3_210], ours)
    assert start <= 3_210
    assert end is not None
    assert 3_210 < end <= start + 480


@given(
    gone=st.sets(st.integers(0, 4_999), max_size=5),
    missing=st.sets(st.integers(0, 4_999), max_size=5),
    same_moment=st.integers(1, 30),
)
def test_every_deleted_or_missing_user_is_in_a_window_unless_the_numbers_agree(
    gone: set[int], missing: set[int], same_moment: int
) -> None:
    everybody = [number // same_moment for number in range(5_000)]
    theirs = [moment for number, moment in enumerate(everybody) if number not in gone]
    ours = [moment for number, moment in enumerate(everybody) if number not in missing]
    found = windows(theirs, ours)
    surplus = len(ours) - len(theirs)
    in_windows = 0
    for start, end in found:
        until = LAST if end is None else end
        in_windows += sum(start <= moment < until for moment in ours) - sum(
            start <= moment < until for moment in theirs
        )
    assert in_windows == surplus


def test_a_place_is_where_the_moment_changes() -> None:
    assert place_in(40, [5, 5, 6, 7]) == Place(42, 6)
    assert place_in(40, [5, 5]) is None
    assert place_in(40, [5, None, 6]) is None
    assert place_in(40, [None, 5, 6]) is None
    assert place_in(40, []) is None
