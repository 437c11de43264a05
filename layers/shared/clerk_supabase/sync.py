"""Drains the sync queue: a batch of messages becomes one call of the database."""

from __future__ import annotations

from collections.abc import Sequence

from clerk_supabase.changes import Changes, Delivery, changes_of
from clerk_supabase.errors import ChangeRefused, Permanent, QueueUnavailable, Retryable, UnusableEvent
from clerk_supabase.events import parse_event
from clerk_supabase.queue import Message, Queue
from clerk_supabase.store import Store
from clerk_supabase.telemetry import count, logger


class Sync:
    """Applies what ingest accepted."""

    def __init__(self, store: Store, parked_queue: Queue, *, keep_private_metadata: bool = False) -> None:
        """`keep_private_metadata`: store it in clerk_sync.private_metadata; otherwise it is dropped here."""
        self._keep_private_metadata = keep_private_metadata
        self._store = store
        self._parked_queue = parked_queue

    def process(self, messages: Sequence[Message]) -> list[str]:
        """Applies or parks every message; returns the ids of those that must come again.

        One message that can never be applied is parked and does not touch the others. When the database is
        away, all that would need it come again.
        """
        usable: list[tuple[Message, Changes, Delivery]] = []
        unprocessed: list[str] = []
        for message in messages:
            try:
                usable.append((message, *self._read(message)))
            except UnusableEvent as error:
                unprocessed += self._park(message, error)
        try:
            answers = self._store.apply([(changes, delivery) for _, changes, delivery in usable])
        except Retryable as error:
            count("Postponed", len(usable))
            logger.error("not applied, SQS delivers again", reason=str(error), messages=len(usable))
            return unprocessed + [message.message_id for message, _, _ in usable]
        for (message, changes, delivery), answer in zip(usable, answers, strict=True):
            if isinstance(answer, ChangeRefused):
                unprocessed += self._park(message, answer)
                continue
            count(answer.capitalize())
            logger.info(answer, svix_id=delivery.svix_id, event_type=delivery.event_type, object_id=changes.main.id)
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

    def _read(self, message: Message) -> tuple[Changes, Delivery]:
        envelope = message.envelope
        event = parse_event(envelope.body)
        delivery = Delivery(envelope.svix_id, event.type, envelope.received_at)
        changes = changes_of(event, envelope.received_at, keep_private_metadata=self._keep_private_metadata)
        return changes, delivery
