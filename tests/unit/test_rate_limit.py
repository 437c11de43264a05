"""The share of a rate limit: never exceeded, wherever one looks, by however many threads."""

from __future__ import annotations

from bisect import bisect_left
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clerk_supabase.clerk.rate_limit import TokenBucket
from tests.kit.clock import Clock


def all_taken(bucket: TokenBucket, clock: Clock, seconds: float) -> list[float]:
    """The times at which a caller got tokens who asks as early as the bucket allows, for this number of seconds."""
    end = clock.now + seconds
    taken: list[float] = []
    while clock.now < end:
        wait = bucket.take()
        if wait == 0:
            taken.append(clock.now)
        clock.now += wait
    return taken


@given(tokens=st.integers(2, 1000), idle=st.floats(0, 100), window=st.floats(0.1, 100))
def test_no_window_ever_has_more_than_its_tokens(tokens: int, idle: float, window: float) -> None:
    clock = Clock()
    bucket = TokenBucket(tokens, window, clock)
    clock.now += idle
    taken = all_taken(bucket, clock, 2.5 * window)
    for place, first in enumerate(taken):
        # A whole window, without the moment it ends.
        assert bisect_left(taken, first + window * (1 - 1e-9)) - place <= tokens


@given(tokens=st.integers(10, 1000))
def test_nearly_all_tokens_of_a_long_time_are_given_out(tokens: int) -> None:
    clock = Clock()
    assert len(all_taken(TokenBucket(tokens, 10, clock), clock, 100)) > 0.88 * tokens * 10


def test_a_tiny_share_still_allows_a_request() -> None:
    clock = Clock()
    assert len(all_taken(TokenBucket(0.1, 10, clock), clock, 100)) >= 10


def test_threads_share_one_bucket() -> None:
    bucket = TokenBucket(1000, 10, Clock())
    with ThreadPoolExecutor(8) as pool:
        waits = list(pool.map(lambda _: bucket.take(), range(1000)))
    assert waits.count(0) == 100


def test_during_a_pause_nobody_gets_a_token_and_afterwards_there_is_no_burst() -> None:
    clock = Clock()
    bucket = TokenBucket(1000, 10, clock)
    bucket.pause(7)
    assert bucket.take() == pytest.approx(7)
    clock.now += 3
    assert bucket.take() == pytest.approx(4)
    clock.now += 4
    assert bucket.take() == 0
    assert bucket.take() > 0


def test_a_shorter_pause_does_not_end_a_longer_one() -> None:
    clock = Clock()
    bucket = TokenBucket(1000, 10, clock)
    bucket.pause(7)
    bucket.pause(1)
    assert bucket.take() == pytest.approx(7)
