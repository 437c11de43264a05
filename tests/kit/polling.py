"""Waits without blind sleeps: looks until a condition holds, and fails with the last value seen."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeVar

Value = TypeVar("Value")

# A look may start a session or ask the emulator: in a long wait, one every 50 ms would take a tenth of a processor.
_SHORTEST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 0.25


def eventually(look: Callable[[], Value], wanted: Callable[[Value], object], *, seconds: float = 45) -> Value:
    """The value of `look`, as soon as `wanted` accepts it. Fails with the last value after `seconds`.

    The pauses grow to a tenth of the wait until then.
    """
    began = time.monotonic()
    while not wanted(value := look()):
        waited = time.monotonic() - began
        assert waited < seconds, f"not within {seconds} s; last seen: {value!r}"
        time.sleep(min(max(_SHORTEST_PAUSE, waited / 10), _LONGEST_PAUSE))
    return value
