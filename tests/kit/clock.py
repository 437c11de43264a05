"""A clock that stands still."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Clock:
    """Seconds, which pass when a test says so."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now

    def pass_by(self, seconds: float) -> None:
        """Lets seconds pass, in place of a sleep."""
        self.now += seconds
