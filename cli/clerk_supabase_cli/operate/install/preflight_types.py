"""The missing migrations, as the preflight sees them, and its findings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

MIRROR: Final = "clerk"
"""The schema of the mirror."""


@dataclass(frozen=True, slots=True)
class InTheWay:
    """A fact that stops the migrations, or may stop them, and the safe remedy."""

    found: str
    todo: str
    stops: bool = True
    """False for a fact that only may matter."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The migrations of the checkout by name, in order: those that a database has, and those that are missing."""

    applied: Mapping[str, str]
    missing: Mapping[str, str]
    mirror: str = MIRROR

    @property
    def begins(self) -> bool:
        """Tells whether no migration was applied."""
        return not self.applied
