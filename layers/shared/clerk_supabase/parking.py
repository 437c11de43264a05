"""Where events go that nobody can apply as they are: a table, or a queue while the table takes nothing."""

from __future__ import annotations

from collections.abc import Sequence

from clerk_supabase.envelope import ParkedEvent
from clerk_supabase.errors import ChangeRefused, ClerkSupabaseError, Retryable
from clerk_supabase.queue import Queue
from clerk_supabase.store import Store
from clerk_supabase.telemetry import count, logger


class Parking:
    """Parks in clerk_sync.parked_events. What it does not take waits in the parked queue until retry moves it."""

    def __init__(self, store: Store, overflow: Queue | None = None) -> None:
        """Without `overflow`, what the table does not take is not parked."""
        self._store = store
        self._overflow = overflow

    def park(self, events: Sequence[ParkedEvent], *, table_is_away: bool = False) -> list[ClerkSupabaseError | None]:
        """One answer for each event, in their order: None, or why neither table nor queue took it.

        `table_is_away`: somebody has just tried, so do not wait for the database once more.
        """
        if not events:
            return []
        answers: list[ClerkSupabaseError | None] = [None] * len(events)
        if table_is_away or not self._in_table(events):
            answers = [self._in_queue(event) for event in events]
        for event, answer in zip(events, answers, strict=True):
            svix_id = event.envelope.svix_id
            if answer is None:
                count("Parked")
                logger.error("event parked", svix_id=svix_id, reason=event.reason, reason_class=event.reason_class)
            else:
                count("NotParked")
                logger.error("not parked, SQS delivers again", svix_id=svix_id, reason=str(answer))
        return answers

    def _in_table(self, events: Sequence[ParkedEvent]) -> bool:
        try:
            self._store.park(events)
        except (Retryable, ChangeRefused) as error:
            svix_ids = [event.envelope.svix_id for event in events]
            logger.error("the table of parked events took nothing", reason=str(error), svix_ids=svix_ids)
            return False
        return True

    def _in_queue(self, event: ParkedEvent) -> ClerkSupabaseError | None:
        if self._overflow is None:
            return Retryable("the table of parked events took nothing")
        try:
            self._overflow.park(event)
        except ClerkSupabaseError as error:
            return error
        return None
