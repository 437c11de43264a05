"""The world as a lagging Backend API shows it: as of some seconds ago."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from clerk_supabase_cli.standin.instance.live_world import LiveWorld
from clerk_supabase_cli.standin.samples import Json


@dataclass(slots=True)
class LaggingView:
    """An older copy of a world, which catches up event by event; no copy while nothing lags."""

    clock: Callable[[], float] = time.monotonic
    lag: float = 0.0
    """Seconds until the answers show the next changes."""
    _older: LiveWorld | None = None
    _waiting: deque[tuple[float, Json]] = field(default_factory=deque)
    """Events with the moment from which each is seen, in order."""

    def begin(self, world: LiveWorld, lag: float) -> None:
        """Delays the next changes of *world* by *lag* seconds."""
        self.lag = lag
        if lag > 0 and self._older is None:
            self._older = world.copy()

    def note(self, event: Json) -> None:
        """Takes the event of a change that just happened."""
        if self._older is not None:
            # No change is seen before an earlier change.
            latest = self._waiting[-1][0] if self._waiting else 0.0
            self._waiting.append((max(latest, self.clock() + self.lag), event))

    def seen(self, world: LiveWorld) -> LiveWorld:
        """The world of the answers: *world* itself, once all its changes are shown."""
        if self._older is None:
            return world
        while self._waiting and self._waiting[0][0] <= self.clock():
            self._older.learn(self._waiting.popleft()[1])
        if not self._waiting and self.lag == 0:
            self._older = None
            return world
        return self._older
