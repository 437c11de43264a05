"""Two measurements taken in turns, so that both meet the same load of the machine; their ratio, and its spread."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tests.bench.results import Result, Target, duration

Clock = Callable[[], float]

_GROUPS: Final = 4
_MOST_REPEATS: Final = 3


@dataclass(frozen=True)
class Turns:
    """Seconds of a baseline and of ours, turn by turn."""

    baseline: list[float] = field(default_factory=list)
    ours: list[float] = field(default_factory=list)

    def add(self, baseline: float, ours: float) -> None:
        self.baseline.append(baseline)
        self.ours.append(ours)

    def extend(self, other: Turns) -> None:
        """Adds the turns of another measurement."""
        self.baseline.extend(other.baseline)
        self.ours.extend(other.ours)

    def copy_into(self, other: Turns) -> None:
        """Adds these turns to another measurement that has none yet."""
        if not other.ours:
            other.extend(self)

    @property
    def least(self) -> tuple[float, float]:
        """The shortest time of each: other work of the machine makes times longer, never shorter."""
        return min(self.baseline), min(self.ours)

    def ratios(self) -> list[float]:
        """Ours as a multiple of the baseline, once for each of four groups of turns, which met different loads."""
        groups = min(_GROUPS, len(self.ours))
        return [min(self.ours[group::groups]) / min(self.baseline[group::groups]) for group in range(groups)]


def until_clear(take: Callable[[Turns], object], target: Target | None, *, inverse: bool = False) -> Turns:
    """Takes turns, and more of them while the target lies within the spread of the ratio.

    `take` adds turns to its argument. `inverse`: the target is about the baseline as a multiple of ours.
    """
    turns = Turns()
    take(turns)
    for _ in range(_MOST_REPEATS):
        if target is None or target.verdict_on(spread_of(turns, inverse=inverse)) != "unclear":
            break
        take(turns)
    return turns


def spread_of(turns: Turns, *, inverse: bool = False) -> tuple[float, float]:
    """The smallest and the largest ratio of the groups."""
    ratios = [1 / ratio for ratio in turns.ratios()] if inverse else turns.ratios()
    return min(ratios), max(ratios)


def in_turns(
    one: Callable[[Any], object],
    other: Callable[[Any], object],
    things: Sequence[Any],
    clock: Clock = time.perf_counter,
) -> Callable[[Turns], None]:
    """Takes a turn of both actions with each thing, the other first in every second turn."""

    def take(turns: Turns) -> None:
        for number, thing in enumerate(things):
            if number % 2:
                ours = _timed(other, thing, clock)
                turns.add(_timed(one, thing, clock), ours)
            else:
                baseline = _timed(one, thing, clock)
                turns.add(baseline, _timed(other, thing, clock))

    return take


def cost(
    name: str, baseline: str, take: Callable[[Turns], object], *, at_most: float | None = None, of: float = 1
) -> Result:
    """Our time as a multiple of the baseline, which does less. `of`: how many things one turn does."""
    target = None if at_most is None else Target(at_most)
    turns = until_clear(take, target)
    theirs, ours = turns.least
    return Result(
        name, f"{baseline}: {duration(theirs / of)}", duration(ours / of), ours / theirs, "x", target,
        spread=spread_of(turns),
    )  # fmt: skip


def gain(
    name: str, baseline: str, take: Callable[[Turns], object], *, at_least: float | None = None, of: float = 1
) -> Result:
    """Our speed as a multiple of the baseline, which does the same. `of`: how many things one turn does."""
    target = None if at_least is None else Target(at_least, at_least=True)
    turns = until_clear(take, target, inverse=True)
    theirs, ours = turns.least
    return Result(
        name, f"{baseline}: {duration(theirs / of)}", duration(ours / of), theirs / ours, "x faster", target,
        spread=spread_of(turns, inverse=True),
    )  # fmt: skip


def _timed(act: Callable[[Any], object], thing: object, clock: Clock) -> float:
    started = clock()
    act(thing)
    return clock() - started
