"""The time for a batch tried in parts, and the outcome of elements for which no time was left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from clerk_supabase.errors import ChangeRefused, DatabaseUnavailable, Retryable, RowUnavailable
from clerk_supabase.postgres.parts import in_parts
from tests.kit.clock import Clock


@dataclass
class Slow:
    """A function that takes elements, and uses up the time limit of a part with an element that fails."""

    failing: dict[int, Exception]
    first_takes: float = 15.0
    clock: Clock = field(default_factory=Clock)
    limits: list[float | None] = field(default_factory=list)

    def __call__(self, elements: Sequence[int], seconds: float | None) -> Sequence[str]:
        self.limits.append(seconds)
        for element in elements:
            if element in self.failing:
                self.clock.now += self.first_takes if seconds is None else seconds
                raise self.failing[element]
        return ["done"] * len(elements)


def tried(slow: Slow, count: int = 10) -> list[str | ChangeRefused | Retryable]:
    return in_parts(range(count), slow, slow.clock)


@pytest.mark.parametrize("place", range(10))
def test_one_slow_element_leaves_time_for_all_the_others(place: int) -> None:
    error = RowUnavailable("slow")
    slow = Slow({place: error})
    began = slow.clock.now
    answers = tried(slow)
    assert answers.pop(place) is error
    assert answers == ["done"] * 9
    assert slow.clock.now - began < 20


def test_when_the_time_is_over_the_rest_is_not_tried_and_says_so() -> None:
    slow = Slow({number: RowUnavailable("slow") for number in range(500)})
    began = slow.clock.now
    answers = tried(slow, 500)
    assert slow.clock.now - began <= 20
    assert all(isinstance(answer, DatabaseUnavailable) for answer in answers)
    assert "not tried alone" in str(answers[-1])
    assert min(limit for limit in slow.limits if limit is not None) >= 0.1


def test_a_database_that_becomes_unavailable_between_two_parts_is_not_asked_again() -> None:
    gone = DatabaseUnavailable("gone")
    slow = Slow({2: ChangeRefused("refused"), 7: gone})
    answers = tried(slow)
    assert answers[:2] == ["done", "done"]
    assert isinstance(answers[2], ChangeRefused)
    assert answers[3:5] == ["done", "done"]
    assert answers[5:] == [gone] * 5


def test_a_database_that_is_unavailable_from_the_beginning_is_asked_once() -> None:
    slow = Slow({0: DatabaseUnavailable("away")})
    with pytest.raises(DatabaseUnavailable, match="away"):
        tried(slow)
    assert slow.limits == [None]


def test_a_refusal_costs_no_time_so_it_sets_no_limit() -> None:
    slow = Slow({3: ChangeRefused("refused")}, first_takes=0)
    tried(slow)
    assert set(slow.limits) == {None}


def test_refusals_that_take_long_use_up_the_time_like_everything_else() -> None:
    clock = Clock()
    began = clock.now

    def takes_two_seconds_each(elements: Sequence[int], seconds: float | None) -> Sequence[str]:
        clock.now += min(2.0 * len(elements), 15.0 if seconds is None else seconds)
        raise ChangeRefused("refused in the end") if seconds is None else RowUnavailable("slow")

    in_parts(range(10), takes_two_seconds_each, clock)
    assert clock.now - began <= 20
