"""Clerk's rate limit: a number of requests in ten seconds for the instance, and a block of an endpoint above it.

Source: https://clerk.com/docs/guides/how-clerk-works/system-limits
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Final

WINDOW_SECONDS: Final = 10.0


class RateWindows:
    """Counts the requests of an instance in consecutive windows. Thread-safe."""

    def __init__(self, limit: int, clock: Callable[[], float]) -> None:
        self._limit = limit
        self._clock = clock
        self._lock = threading.Lock()
        self._began_at = -math.inf
        self._count = 0
        self._blocked: dict[str, float] = {}
        self.most = 0
        """The largest number of allowed requests in a window."""

    def retry_after(self, endpoint: str) -> int:
        """The seconds until this endpoint answers again; 0 if the request may pass."""
        with self._lock:
            now = self._clock()
            if now >= self._began_at + WINDOW_SECONDS:
                self._began_at, self._count = now, 0
            blocked_for = self._blocked.get(endpoint, now) - now
            if blocked_for <= 0 and self._count >= self._limit:
                blocked_for = self._began_at + WINDOW_SECONDS - now
                self._blocked[endpoint] = now + blocked_for
            if blocked_for > 0:
                return math.ceil(blocked_for)
            self._count += 1
            self.most = max(self.most, self._count)
            return 0
