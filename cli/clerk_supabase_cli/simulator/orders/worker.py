"""A worker with accidents: runs the sync function or the retry function, as each job of the line demands."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from clerk_supabase.aws.queue import Message, Queue
from clerk_supabase.parking import Parking
from clerk_supabase.postgres.store import Store
from clerk_supabase.retry import Retry
from clerk_supabase.sync import Sync
from clerk_supabase_cli.simulator.line import Job, Killed, Line, QueueName
from clerk_supabase_cli.simulator.orders.schedules import Fate
from clerk_supabase_cli.simulator.orders.scissors import Scissors

Function = Callable[[Sequence[Message]], Sequence[str]]
"""Returns the ids of the messages to keep in their queue."""


class Worker:
    """The real functions, with their own store; the batch and the line decide about accidents."""

    def __init__(self, store: Store, line: Line, scissors: Scissors, *, keep_private_metadata: bool) -> None:
        sync = Sync(store, Parking(store, Queue(line.client, "parked")), keep_private_metadata=keep_private_metadata)
        last_try = Sync(store, Parking(store), keep_private_metadata=keep_private_metadata)
        retry = Retry(store, last_try, Queue(line.client, "sync"), line.draw)
        self._functions: Mapping[QueueName, Function] = {
            "sync": lambda messages: [failure.message_id for failure in sync.process(messages)],
            "dead letters": retry.process,
            "parked": retry.process,
        }
        self._line = line
        self._scissors = scissors

    def work_off(self) -> None:
        """Does jobs until the line is empty."""
        while job := self._line.take():
            try:
                with suppress(Killed):
                    self._do(job)
            finally:
                self._line.end()

    def _do(self, job: Job) -> None:
        if job.fate is Fate.cut_off:
            self._scissors.cut()
        staying = self._functions[job.queue](job.messages)
        if job.fate is not Fate.forgotten:
            self._line.acknowledge(job, staying)
