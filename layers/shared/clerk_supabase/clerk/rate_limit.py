"""A share of the rate limit of an API, for all threads together."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Final

# The part that may be spent at once; the rest flows in during the window. A full bucket and the inflow together are
# the limit, so no window exceeds it, wherever the window begins.
_BURST: Final = 0.1
# A computed wait must be long enough in spite of rounding.
_ALMOST_ONE: Final = 1 - 1e-6


class TokenBucket:
    """Gives out tokens at an even pace. Thread-safe."""

    def __init__(self, tokens: float, window_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        """At most `tokens`, but at least two, are given out in any `window_seconds`."""
        tokens = max(2.0, tokens)
        self._capacity = max(1.0, tokens * _BURST)
        self._per_second = (tokens - self._capacity) / window_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._tokens = self._capacity
        self._counted_at = clock()
        self._paused_until = -math.inf

    def take(self) -> float:
        """Take a token and return 0; without a token, return the seconds after which to ask again."""
        with self._lock:
            now = self._clock()
            if now < self._paused_until:
                return self._paused_until - now
            self._tokens = min(self._capacity, self._tokens + (now - self._counted_at) * self._per_second)
            self._counted_at = now
            if self._tokens < _ALMOST_ONE:
                return (1 - self._tokens) / self._per_second
            self._tokens -= 1
            return 0.0

    def pause(self, seconds: float) -> None:
        """Give out no token before a moment; afterwards tokens flow in evenly, not in a burst."""
        with self._lock:
            self._paused_until = max(self._paused_until, self._clock() + seconds)
            self._counted_at = self._paused_until
            self._tokens = min(self._tokens, 1.0)
