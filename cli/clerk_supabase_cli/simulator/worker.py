"""One worker of the sync function: takes batches from the line, and has accidents."""

from __future__ import annotations

from collections.abc import Sequence

from clerk_supabase.envelope import ParkedEvent
from clerk_supabase.errors import ClerkSupabaseError
from clerk_supabase.parking import Parking
from clerk_supabase.store import Store
from clerk_supabase.sync import Sync
from clerk_supabase_cli.simulator.line import Line
from clerk_supabase_cli.simulator.schedules import Batch, Fate
from clerk_supabase_cli.simulator.scissors import Scissors


class NoParking(Parking):
    """Nothing of a schedule may ever be parked."""

    def __init__(self) -> None:
        self._reasons: list[str] = []

    def park(
        self,
        events: Sequence[ParkedEvent],
        *,
        table_is_away: bool = False,  # noqa: ARG002 - as its base
    ) -> list[ClerkSupabaseError | None]:
        self._reasons += [f"{event.envelope.svix_id}: parked: {event.reason}" for event in events]
        return [None] * len(events)

    def taken(self) -> list[str]:
        """What was parked since the last look."""
        reasons, self._reasons = self._reasons, []
        return reasons


class Worker:
    """The real sync function, with a store of its own; what may befall it is said by the batch's fate."""

    def __init__(self, store: Store, parking: NoParking, scissors: Scissors, *, keep_private_metadata: bool) -> None:
        self._sync = Sync(store, parking, keep_private_metadata=keep_private_metadata)
        self._scissors = scissors

    def work_off(self, line: Line) -> None:
        """Until the line is empty."""
        while batch := line.take():
            self._receive(batch, line)

    def _receive(self, batch: Batch, line: Line) -> None:
        """One batch: applied, then acknowledged or not."""
        if batch.fate is Fate.cut_off:
            self._scissors.cut()
        failed = {failure.message_id for failure in self._sync.process(batch.messages)}
        if batch.fate is Fate.forgotten:
            line.put_back(batch.messages)
        elif failed:
            line.put_back([message for message in batch.messages if message.message_id in failed])
