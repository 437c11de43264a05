"""Waits without blind sleeps: looks until a condition holds, and fails with the last value seen."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")


def eventually(look: Callable[[], Value], wanted: Callable[[Value], object], *, seconds: float = 45) -> Value:
    """The value of `look`, as soon as `wanted` accepts it. Fails with the last value after `seconds`."""
    deadline = time.monotonic() + seconds
    while not wanted(value := look()):
        assert time.monotonic() < deadline, f"not within {seconds} s; last seen: {value!r}"
        time.sleep(0.05)
    return value
