"""The batches that wait for a worker: what the queue is in production."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from random import Random
from typing import Final

from clerk_supabase.queue import Message
from clerk_supabase_cli.simulator.schedules import Batch

_MOST_ATTEMPTS: Final = 20


class Line:
    """The batches that wait for a worker, and what comes back."""

    def __init__(self, batches: Iterable[Batch], chance: Random) -> None:
        self._waiting = deque(batches)
        self._chance = chance
        self._lock = threading.Lock()
        self._attempts: Counter[str] = Counter()
        self.batches = 0
        self.deliveries = 0
        self.redelivered_batches = 0
        self.stuck: list[str] = []

    def take(self) -> Batch | None:
        """The next batch, until none is left."""
        with self._lock:
            if not self._waiting:
                return None
            batch = self._waiting.popleft()
            self.batches += 1
            self.deliveries += len(batch.messages)
            return batch

    def put_back(self, messages: Sequence[Message]) -> None:
        """These were not acknowledged, and come again: at once, or when everything else is done."""
        with self._lock:
            self._attempts.update(message.message_id for message in messages)
            stuck = [each for each in messages if self._attempts[each.message_id] == _MOST_ATTEMPTS]
            self.stuck += [f"{message.message_id}: never applied" for message in stuck]
            if not stuck:
                self.redelivered_batches += 1
                put = self._chance.choice((self._waiting.append, self._waiting.appendleft))
                put(Batch(tuple(messages)))
