"""Parking of events that cannot be applied: in a table, or in a queue while the table is unavailable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from clerk_supabase.aws.queue import Queue
from clerk_supabase.errors import ClerkSupabaseError, QueueUnavailable, Retryable
from clerk_supabase.model.envelope import ParkedEvent
from clerk_supabase.postgres.store import Store
from clerk_supabase.telemetry import count, logger

_UNAVAILABLE: Final = Retryable("the table of parked events took nothing")


class Parking:
    """Parks events in clerk_sync.parked_events, or in the parked queue, from which retry moves them to the table."""

    def __init__(self, store: Store, overflow: Queue | None = None) -> None:
        """Without `overflow`, the queue, an event that the table does not take is not parked."""
        self._store = store
        self._overflow = overflow

    def park(
        self, events: Sequence[ParkedEvent], *, table_is_unavailable: bool = False
    ) -> list[ClerkSupabaseError | None]:
        """An answer for each event, in their order: None, or the reason why neither table nor queue took the event.

        `table_is_unavailable`: the caller has just found the database unavailable, so nothing waits for the table.
        """
        if not events:
            return []
        of_table = [_UNAVAILABLE] * len(events) if table_is_unavailable else self._in_table(events)
        left = [event for event, answer in zip(events, of_table, strict=True) if answer is not None]
        in_queue = iter(self._in_queue(left))
        answers = [None if answer is None else next(in_queue) for answer in of_table]
        for event, answer in zip(events, answers, strict=True):
            svix_id = event.envelope.svix_id
            if answer is None:
                count("Parked")
                logger.error("event parked", svix_id=svix_id, reason=event.reason, reason_class=event.reason_class)
            else:
                count("NotParked")
                logger.error("not parked, SQS delivers again", svix_id=svix_id, reason=str(answer))
        return answers

    def _in_table(self, events: Sequence[ParkedEvent]) -> Sequence[ClerkSupabaseError | None]:
        try:
            answers: Sequence[ClerkSupabaseError | None] = self._store.park(events)
        except Retryable as error:
            answers = [error] * len(events)
        failed = {
            event.envelope.svix_id: error for event, error in zip(events, answers, strict=True) if error is not None
        }
        if failed:
            reason = str(next(iter(failed.values())))
            logger.error("not taken by the table of parked events", reason=reason, svix_ids=[*failed])
        return answers

    def _in_queue(self, events: Sequence[ParkedEvent]) -> Sequence[ClerkSupabaseError | None]:
        """An answer for each event. After an event that did not reach SQS, no other is sent: each takes seconds."""
        answers: list[ClerkSupabaseError | None] = []
        unreachable: ClerkSupabaseError | None = _UNAVAILABLE if self._overflow is None else None
        for event in events:
            answer = unreachable
            if self._overflow is not None and answer is None:
                try:
                    self._overflow.park(event)
                except QueueUnavailable as error:
                    answer = unreachable = error
                except ClerkSupabaseError as error:
                    answer = error
            answers.append(answer)
        return answers
