"""Drains the sync queue: a batch of messages becomes one call of the database."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from clerk_supabase.aws.queue import Message
from clerk_supabase.errors import (
    ChangeRefused,
    ClerkSupabaseError,
    DeleteUnfinished,
    Retryable,
    SetUpWrong,
    UnusableEvent,
)
from clerk_supabase.model.changes import Changes, Delivery, Reconciled, Source, changes_of
from clerk_supabase.model.envelope import ParkedEvent
from clerk_supabase.model.events import Event, parse_event
from clerk_supabase.model.found_kinds import CANARY_TYPE, REPAIR_PREFIX
from clerk_supabase.parking import Parking
from clerk_supabase.postgres.store import Outcome, Store
from clerk_supabase.telemetry import count, logger, took

# Outcomes of events newer than the row. The age of a duplicate or of an outdated event is no lag of the tables.
_NEW = frozenset({"created", "updated", "unchanged", "deleted", "altered"})


@dataclass(frozen=True, slots=True)
class Failure:
    """A message to be delivered again, and the reason."""

    message_id: str
    error: ClerkSupabaseError


@dataclass(frozen=True, slots=True)
class _Read:
    message: Message
    event_type: str
    changes: Changes
    source: Source
    happened_at: int
    """Milliseconds, Clerk's clock."""


class Sync:
    """Applies the events that ingest accepted."""

    def __init__(
        self,
        store: Store,
        parking: Parking,
        *,
        keep_private_metadata: bool = False,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        """`keep_private_metadata`: store private metadata in clerk_sync.private_metadata; otherwise drop it here.

        `clock_ms`: our own clock, for measuring lag, never for ordering.
        """
        self._keep_private_metadata = keep_private_metadata
        self._clock_ms = clock_ms
        self._store = store
        self._parking = parking

    def process(self, messages: Sequence[Message]) -> list[Failure]:
        """Applies or parks every message; returns the messages to be delivered again.

        A message that can never be applied is parked; after a passing failure, a message is delivered again; all other
        messages are applied. While the database is unavailable, all readable messages are delivered again.
        """
        readable: list[_Read] = []
        canaries: list[tuple[Message, Event]] = []
        hopeless: list[tuple[Message, ParkedEvent]] = []
        for message in messages:
            try:
                event = parse_event(message.envelope.body)
                if event.type == CANARY_TYPE:
                    canaries.append((message, event))
                else:
                    readable.append(self._read(message, event))
            except UnusableEvent as error:
                hopeless.append((message, ParkedEvent(message.envelope, "unusable", str(error))))
        try:
            answers = self._store.apply([(each.changes, each.source) for each in readable])
        except Retryable as error:
            # A wrong set-up, reported by the store, is no outage.
            if not isinstance(error, SetUpWrong):
                count("Postponed", len(readable))
            svix_ids = [each.message.envelope.svix_id for each in readable]
            _log_postponed(error, svix_ids)
            postponed = [Failure(each.message.message_id, error) for each in readable]
            postponed += [Failure(message.message_id, error) for message, _ in canaries]
            return self._park(hopeless, table_is_unavailable=True) + postponed
        committed_at = self._clock_ms()
        postponed = []
        for each, answer in zip(readable, answers, strict=True):
            if isinstance(answer, ChangeRefused):
                hopeless.append((each.message, ParkedEvent(each.message.envelope, "refused", str(answer))))
                continue
            if isinstance(answer, Retryable):
                postponed.append(_postponed(each, answer))
                continue
            count(answer.title().replace("_", ""))
            if isinstance(each.source, Delivery) and answer in _NEW:
                took("Lag", committed_at - each.happened_at)
            _log(each, answer)
        return self._record(canaries) + self._park(hopeless) + postponed

    def _record(self, canaries: Sequence[tuple[Message, Event]]) -> list[Failure]:
        """Record each canary in a call of its own, so that no canary can ever delay an event of Clerk's."""
        failures: list[Failure] = []
        for message, event in canaries:
            envelope = message.envelope
            moments = {"occurred_at": event.timestamp, "received_at": envelope.received_at}
            try:
                self._store.call("record_canary", {"svix_id": envelope.svix_id, **moments})
            except Retryable as error:
                _log_postponed(error, [envelope.svix_id])
                failures.append(Failure(message.message_id, error))
            except ChangeRefused as error:
                failures += self._park([(message, ParkedEvent(envelope, "refused", str(error)))])
            else:
                count("Canary")
                logger.info("canary", svix_id=envelope.svix_id)
        return failures

    def _park(
        self, hopeless: Sequence[tuple[Message, ParkedEvent]], *, table_is_unavailable: bool = False
    ) -> list[Failure]:
        answers = self._parking.park([event for _, event in hopeless], table_is_unavailable=table_is_unavailable)
        return [
            Failure(message.message_id, answer)
            for (message, _), answer in zip(hopeless, answers, strict=True)
            if answer is not None
        ]

    def _read(self, message: Message, event: Event) -> _Read:
        envelope = message.envelope
        changes = changes_of(event, envelope.received_at, keep_private_metadata=self._keep_private_metadata)
        source: Source = Delivery(envelope.svix_id, event.type, envelope.received_at, event.instance_id)
        if event.type.startswith(REPAIR_PREFIX):
            source = Reconciled(envelope.svix_id)
        return _Read(message, event.type, changes, source, event.timestamp)


def _log(read: _Read, outcome: Outcome) -> None:
    svix_id = read.message.envelope.svix_id
    if outcome == "wrong_instance":
        # With the words of ingest, so that one search finds both. A repair of an old run names no instance.
        instance_id = read.source.instance_id if isinstance(read.source, Delivery) else None
        logger.error("event of another Clerk instance", svix_id=svix_id, instance_id=instance_id)
    else:
        logger.info(outcome, svix_id=svix_id, event_type=read.event_type, object_id=read.changes.main.id)


def _postponed(read: _Read, error: Retryable) -> Failure:
    """Count and log a message to be delivered again although the other messages of its batch were applied."""
    svix_id = read.message.envelope.svix_id
    if isinstance(error, DeleteUnfinished):
        logger.info(
            "a part of a delete is applied, SQS delivers again", svix_id=svix_id, object_id=read.changes.main.id
        )
    else:
        count("Postponed")
        _log_postponed(error, [svix_id])
    return Failure(read.message.message_id, error)


def _log_postponed(error: Retryable, svix_ids: Sequence[str]) -> None:
    """Log events that stay in the queue. `status` tells an outage by the class of the error, `failure`."""
    failure = type(error).__name__
    logger.error("not applied, SQS delivers again", reason=str(error), failure=failure, svix_ids=svix_ids)
