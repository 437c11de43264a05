"""Waiting times between attempts."""

from __future__ import annotations

from random import Random

import pytest

from clerk_supabase.retry import MAX_ATTEMPTS, delay_seconds

CEILINGS = [5, 10, 20, 40, 80, 160, 320, 640]
LONGEST_DELAY_OF_SQS = 900


def highest(_: float, high: float) -> float:
    return high


def lowest(low: float, _: float) -> float:
    return low


@pytest.mark.parametrize(("attempt", "ceiling"), list(enumerate(CEILINGS, start=1)))
def test_the_ceiling_doubles_with_each_attempt(attempt: int, ceiling: int) -> None:
    assert delay_seconds(attempt, highest) == ceiling <= LONGEST_DELAY_OF_SQS
    assert delay_seconds(attempt, lowest) == 0


def test_every_attempt_has_its_ceiling() -> None:
    assert len(CEILINGS) == MAX_ATTEMPTS


def test_the_events_of_one_outage_do_not_come_back_together() -> None:
    chance = Random(1)
    delays = [delay_seconds(8, chance.uniform) for _ in range(1000)]
    assert all(0 <= delay <= 640 for delay in delays)
    # Full jitter: spread over all of it, a tenth or so in every tenth.
    for tenth in range(10):
        assert 50 < sum(tenth * 64 <= delay < (tenth + 1) * 64 for delay in delays) < 150


def test_even_an_absurd_number_of_attempts_is_delayed_no_longer_than_sqs_can() -> None:
    assert delay_seconds(1000, highest) == LONGEST_DELAY_OF_SQS
