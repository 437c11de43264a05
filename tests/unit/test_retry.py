"""How long an attempt waits."""

from __future__ import annotations

from random import Random

import pytest

from clerk_supabase.retry import MAX_ATTEMPTS, delay_seconds

CEILINGS = [30, 60, 120, 240, 480, 900, 900, 900]
LONGEST_DELAY_OF_SQS = 900


def highest(_: float, high: float) -> float:
    return high


def lowest(low: float, _: float) -> float:
    return low


@pytest.mark.parametrize(("attempt", "ceiling"), list(enumerate(CEILINGS, start=1)))
def test_the_ceiling_doubles_until_sqs_delays_no_longer(attempt: int, ceiling: int) -> None:
    assert delay_seconds(attempt, highest) == ceiling <= LONGEST_DELAY_OF_SQS
    assert delay_seconds(attempt, lowest) == 0


def test_every_attempt_has_its_ceiling() -> None:
    assert len(CEILINGS) == MAX_ATTEMPTS


def test_the_events_of_one_outage_do_not_come_back_together() -> None:
    chance = Random(1)
    delays = [delay_seconds(6, chance.uniform) for _ in range(1000)]
    assert all(0 <= delay <= 900 for delay in delays)
    # Full jitter: spread over all of it, a tenth or so in every tenth.
    for tenth in range(10):
        assert 50 < sum(tenth * 90 <= delay < (tenth + 1) * 90 for delay in delays) < 150


def test_even_an_absurd_number_of_attempts_is_delayed_no_longer_than_sqs_can() -> None:
    assert delay_seconds(1000, highest) == LONGEST_DELAY_OF_SQS
