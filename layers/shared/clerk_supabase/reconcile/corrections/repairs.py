"""Repairs of the differences that a comparison found: sent through the sync queue like events, or applied at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from clerk_supabase.aws.queue import Queue
from clerk_supabase.errors import ChangeRefused, EventTooLarge, Retryable, UnusableEvent
from clerk_supabase.model.changes import Changes, Delete, Reconciled, Upsert, changes_of_object
from clerk_supabase.model.envelope import Envelope
from clerk_supabase.model.facts import ReadKind
from clerk_supabase.model.found_kinds import FACTS, REPAIR_PREFIX, WITH_PRIVATE_METADATA
from clerk_supabase.postgres.store import Outcome, Store
from clerk_supabase.telemetry import logger


@dataclass(frozen=True, slots=True)
class Repair:
    """An object as Clerk sent it or, without `json`, the proof of its deletion."""

    run_id: int
    kind: ReadKind
    id: str
    observed_at: int
    """Clerk's clock, milliseconds."""
    json: bytes | None
    counts_as: int = 0
    """The lowest version of the object, even if its own fields name a lower one: Clerk's clock, milliseconds."""
    brings: tuple[str, ...] = ()
    """Ids of the objects inside the object that are to be repaired, instead of the object itself."""

    @property
    def name(self) -> str:
        """The name of the repair in logs and in the audit log."""
        return f"reconcile-{self.run_id}-{self.id}"

    def envelope(self, received_at: int) -> Envelope:
        """The repair as a message: an event like Clerk's, of a type that no webhook has.

        The body holds everything about the repair, so the message can be sent back, parked and replayed like an event.
        """
        verb, data = ("deleted", b'{"id":"%s","deleted":true}' % self.id.encode())
        if self.json is not None:
            verb, data = "updated", self.json
        event_type = f"{REPAIR_PREFIX}{FACTS[self.kind].event}.{verb}".encode()
        body = b'{"type":"%s","object":"event","timestamp":%d,"data":%s}' % (event_type, self.observed_at, data)
        return Envelope(self.name, body, received_at)

    def changes(self, received_at: int, *, keep_private_metadata: bool) -> Changes:
        """The changes of the tables for this repair. Raises UnusableEvent."""
        if self.json is not None:
            changes = changes_of_object(
                self.kind, self.json, self.observed_at, received_at, keep_private_metadata=keep_private_metadata
            )
            return self._raised(changes) if self.counts_as else changes
        gone = Delete(self.kind, self.id, self.observed_at)
        if not keep_private_metadata or self.kind not in WITH_PRIVATE_METADATA:
            return Changes(gone)
        return Changes(gone, (Delete("private_metadata", self.id, self.observed_at),))

    def _raised(self, changes: Changes) -> Changes:
        raised = [
            change._replace(version=max(change.version, change.version._replace(source_updated_at=self.counts_as)))
            if isinstance(change, Upsert) and change.id == self.id
            else change
            for change in (changes.main, *changes.companions)
        ]
        return changes._replace(main=raised[0], companions=tuple(raised[1:]))


Sent = Outcome | Literal["sent"] | ChangeRefused | UnusableEvent | Retryable
"""Result of a repair: the outcome in the tables; `sent`, while the repair waits in the queue; or the error with which
the tables refused the repair, for good or (Retryable) because of a lock on its row."""


class Repairs(Protocol):
    """A way to apply repairs."""

    @property
    def are_done_at_once(self) -> bool:
        """Tells whether the tables have the repairs when `send` returns."""
        ...

    def send(self, store: Store, repairs: Sequence[Repair], received_at: int) -> Sequence[Sent]:
        """Returns the result of each repair, in the order of the repairs; refusals of the tables are logged, too.

        `store`: the store of the calling thread. Raises Retryable; a second call is harmless.
        """
        ...


class DirectRepairs:
    """Applies repairs at once."""

    are_done_at_once = True

    def __init__(self, *, keep_private_metadata: bool = False) -> None:
        self._keep_private_metadata = keep_private_metadata

    def send(self, store: Store, repairs: Sequence[Repair], received_at: int) -> Sequence[Sent]:
        """See Repairs."""
        usable: list[tuple[Changes, Reconciled]] = []
        unusable: dict[int, UnusableEvent] = {}
        for place, repair in enumerate(repairs):
            try:
                changes = repair.changes(received_at, keep_private_metadata=self._keep_private_metadata)
            except UnusableEvent as error:
                unusable[place] = error
            else:
                usable.append((changes, Reconciled(repair.name)))
        applied = iter(store.apply(usable))
        became: list[Sent] = [unusable[place] if place in unusable else next(applied) for place in range(len(repairs))]
        for repair, outcome in zip(repairs, became, strict=True):
            if isinstance(outcome, Exception):
                logger.error("not repaired", repair=repair.name, reason=str(outcome))
        return became


class QueueRepairs:
    """Sends repairs to the sync queue, to be applied in turn with the webhooks."""

    are_done_at_once = False

    def __init__(self, queue: Queue, *, keep_private_metadata: bool = False) -> None:
        self._queue = queue
        self._direct = DirectRepairs(keep_private_metadata=keep_private_metadata)

    def send(self, store: Store, repairs: Sequence[Repair], received_at: int) -> Sequence[Sent]:
        """See Repairs. A repair too large for a message is applied at once."""
        became: list[Sent] = []
        for repair in repairs:
            try:
                self._queue.send(repair.envelope(received_at))
            except EventTooLarge:
                became += self._direct.send(store, [repair], received_at)
            else:
                became.append("sent")
        return became


@dataclass(frozen=True, slots=True)
class Settled:
    """Ids of repairs, by result."""

    sent: Sequence[str]
    refused: Sequence[str]
    """Repairs refused by the tables for good."""
    held_up: Sequence[str]
    """Repairs stopped by a lock on the row, or by a slow trigger."""


def settled(repairs: Sequence[Repair], became: Sequence[Sent]) -> Settled:
    """Sorts the repaired objects by result."""
    ids: tuple[list[str], list[str], list[str]] = ([], [], [])
    for repair, outcome in zip(repairs, became, strict=True):
        place = 2 if isinstance(outcome, Retryable) else int(isinstance(outcome, Exception))
        ids[place].extend(repair.brings or (repair.id,))
    return Settled(*ids)


ClockMs = Callable[[], int]
"""Our own clock, in milliseconds. Never for ordering."""
