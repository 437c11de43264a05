"""Drains the sync queue: a batch of messages becomes one call of the database."""

from __future__ import annotations

from collections.abc import Sequence

from clerk_supabase.changes import Change, Delivery, change_of
from clerk_supabase.errors import ChangeRefused, Permanent, QueueUnavailable, Retryable, UnusableEvent
from clerk_supabase.events import parse_event
from clerk_supabase.queue import Message, Queue
from clerk_supabase.store import Store
from clerk_supabase.telemetry import count, logger


class Sync:
    """Applies what ingest accepted."""

    def __init__(self, store: Store, parked_queue: Queue) -> None:
        self._store = store
        self._parked_queue = parked_queue

    def process(self, messages: Sequence[Message]) -> list[str]:
        """Applies or parks every message; returns the ids of those that must come again.

        One message that can never be applied is parked and does not touch the others. When the database is
        away, all that would need it come again.
        """
        usable: list[tuple[Message, Change, Delivery]] = []
        unprocessed: list[str] = []
        for message in messages:
            try:
                usable.append((message, *_read(message)))
            except UnusableEvent as error:
                unprocessed += self._park(message, error)
        try:
            answers = self._store.apply([(change, delivery) for _, change, delivery in usable])
        except Retryable as error:
            count("Postponed", len(usable))
            logger.error("not applied, SQS delivers again", reason=str(error), messages=len(usable))
            return unprocessed + [message.message_id for message, _, _ in usable]
        for (message, change, delivery), answer in zip(usable, answers, strict=True):
            if isinstance(answer, ChangeRefused):
                unprocessed += self._park(message, answer)
                continue
            count(answer.capitalize())
            logger.info(answer, svix_id=delivery.svix_id, event_type=delivery.event_type, object_id=change.id)
        return unprocessed

    def _park(self, message: Message, error: Permanent) -> list[str]:
        """Returns the message's id when it could not be parked: then it must come again."""
        svix_id = message.envelope.svix_id
        try:
            self._parked_queue.send(message.envelope, str(error))
        except QueueUnavailable as unavailable:
            logger.error("not parked, SQS delivers again", svix_id=svix_id, reason=str(unavailable))
            return [message.message_id]
        count("Parked")
        logger.error("event parked", svix_id=svix_id, reason=str(error))
        return []


def _read(message: Message) -> tuple[Change, Delivery]:
    event = parse_event(message.envelope.body)
    delivery = Delivery(message.envelope.svix_id, event.type, message.envelope.received_at)
    return change_of(event), delivery
