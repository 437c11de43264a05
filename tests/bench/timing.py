"""The shortest of many: what else the machine did at the time only ever makes things longer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

Clock = Callable[[], float]


def shortest(act: Callable[[Any], object], things: Iterable[Any], clock: Clock = time.perf_counter) -> float:
    """Does it with one thing after the other; the seconds of the fastest turn."""
    return min(_timed(act, thing, clock) for thing in things)


def shortest_in_turns(
    one: Callable[[Any], object],
    other: Callable[[Any], object],
    things: Iterable[Any],
    clock: Clock = time.perf_counter,
) -> tuple[float, float]:
    """The same for two that take turns, so that both see the same weather."""
    times = [(_timed(one, thing, clock), _timed(other, thing, clock)) for thing in things]
    return min(first for first, _ in times), min(second for _, second in times)


def _timed(act: Callable[[Any], object], thing: object, clock: Clock) -> float:
    started = clock()
    act(thing)
    return clock() - started
