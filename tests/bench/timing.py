"""The shortest of many times: other work of the machine only makes times longer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

Clock = Callable[[], float]


def shortest(act: Callable[[Any], object], things: Iterable[Any], clock: Clock = time.perf_counter) -> float:
    """Does the action with each thing in turn; returns the seconds of the fastest turn."""
    return min(_timed(act, thing, clock) for thing in things)


def shortest_in_turns(
    one: Callable[[Any], object],
    other: Callable[[Any], object],
    things: Iterable[Any],
    clock: Clock = time.perf_counter,
) -> tuple[float, float]:
    """Measures two actions in turns, so that both meet the same load of the machine."""
    times = [(_timed(one, thing, clock), _timed(other, thing, clock)) for thing in things]
    return min(first for first, _ in times), min(second for _, second in times)


def _timed(act: Callable[[Any], object], thing: object, clock: Clock) -> float:
    started = clock()
    act(thing)
    return clock() - started
