"""Two small pictures of the last hour: the number of events, and their lag."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from clerk_supabase_cli.console.minutes import SHOWN, Minute
from clerk_supabase_cli.printing import counted, how_long

WIDTH: Final = 360
HEIGHT: Final = 72
MARGIN: Final = 34
"""For the words of the axis."""
_STEP: Final = WIDTH / SHOWN
_GAP: Final = 1.5
# The axis of the lag is logarithmic: a replay is applied days after its event.
_SHORTEST: Final = 0.1
_LEAST_TOP: Final = 10.0
_MOST_TOP: Final = 86_400.0
_MARKS: Final = ((0.1, "0.1 s"), (1.0, "1 s"), (10.0, "10 s"), (60.0, "1 min"), (3600.0, "1 h"), (86_400.0, "1 d"))
_UNKNOWN: Final = "not known yet"
"""Before the first look."""
_LINE: Final = 12.0
"""The least distance between two words of the axis."""


@dataclass(frozen=True, slots=True)
class Bar:
    """The bar of a minute."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Mark:
    """A line of the axis with its word."""

    y: float
    word: str


@dataclass(frozen=True, slots=True)
class Plot:
    """A picture, and the same in words."""

    words: str
    bars: Sequence[Bar]
    marks: Sequence[Mark]


def volume(minutes: Sequence[Minute]) -> Plot:
    """A bar for each minute, as high as its number of events."""
    most = max((each.events for each in minutes), default=0)
    bars = [_bar(number, 0, each.events / most) for number, each in enumerate(minutes) if each.events]
    if not minutes:
        return Plot(_UNKNOWN, bars, ())
    if not most:
        return Plot("no event in the last hour", bars, ())
    busiest = max(minutes, key=lambda each: each.events)
    total = counted(sum(each.events for each in minutes))
    words = f"{total} in the last hour; most, {most:,}, at {busiest.minute:%H:%M}"
    return Plot(words, bars, (Mark(0, f"{most:,}"),))


def lag(minutes: Sequence[Minute]) -> Plot:
    """A bar for each minute, from the median of its lags to the 95th percentile."""
    with_lag = [(number, each.p50, each.p95) for number, each in enumerate(minutes) if each.p95 is not None]
    top = min(_MOST_TOP, max([_LEAST_TOP, *(p95 for _, _, p95 in with_lag)]))
    bars = [_bar(number, _level(p50 or 0, top), max(_level(p95, top), 0.03)) for number, p50, p95 in with_lag]
    marks = _apart([Mark(_y(_level(seconds, top)), word) for seconds, word in _MARKS if seconds <= top])
    if not with_lag:
        return Plot("no event in the last hour" if minutes else _UNKNOWN, bars, marks)
    _, p50, p95 = with_lag[-1]
    slowest = max(p95 for _, _, p95 in with_lag)
    words = (
        f"in the last minute with events half were applied within {how_long(p50 or 0)} after they happened, 95 % "
        f"within {how_long(p95)}; the slowest minute: {how_long(slowest)}"
    )
    return Plot(words, bars, marks)


def _bar(number: int, low: float, high: float) -> Bar:
    low = min(low, high - 0.03)
    return Bar(round(number * _STEP, 2), _y(high), _STEP - _GAP, round((high - low) * HEIGHT, 2))


def _apart(marks: Sequence[Mark]) -> list[Mark]:
    """The marks without those that are too close to the one before, from the bottom upwards."""
    kept: list[Mark] = []
    for mark in marks:
        if not kept or kept[-1].y - mark.y >= _LINE:
            kept.append(mark)
    return kept


def _level(seconds: float, top: float) -> float:
    """The height of a lag, from 0 to 1."""
    return min(1.0, math.log(max(seconds, _SHORTEST) / _SHORTEST) / math.log(top / _SHORTEST))


def _y(level: float) -> float:
    return round((1 - level) * HEIGHT, 2)
