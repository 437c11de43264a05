"""Repairs of what a comparison with Clerk found, on the road of every event or applied at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, Protocol

from clerk_supabase.changes import (
    WITH_PRIVATE_METADATA,
    Changes,
    Delete,
    ReadKind,
    Reconciled,
    Upsert,
    changes_of_object,
)
from clerk_supabase.envelope import Envelope
from clerk_supabase.errors import ChangeRefused, EventTooLarge, Retryable, UnusableEvent
from clerk_supabase.kinds import REPAIR_PREFIX
from clerk_supabase.queue import Queue
from clerk_supabase.store import Outcome, Store
from clerk_supabase.telemetry import logger

_EVENTS: Final[Mapping[ReadKind, str]] = MappingProxyType(
    {
        "user": "user",
        "organization": "organization",
        "membership": "organizationMembership",
        "invitation": "organizationInvitation",
        "domain": "organizationDomain",
    }
)


@dataclass(frozen=True, slots=True)
class Repair:
    """An object as Clerk sent it or, without `json`, the proof that it is gone."""

    run_id: int
    kind: ReadKind
    id: str
    observed_at: int
    """Clerk's clock, milliseconds."""
    json: bytes | None
    counts_as: int = 0
    """Version that the object has at least, whatever it says itself: Clerk's clock, milliseconds."""

    @property
    def name(self) -> str:
        """What logs and the audit log call it."""
        return f"reconcile-{self.run_id}-{self.id}"

    def envelope(self, received_at: int) -> Envelope:
        """The same as a message: an event like Clerk's, of a type that no webhook has.

        All that is to be known is in the body, so it can be sent back, parked and replayed like any other.
        """
        verb, data = ("deleted", b'{"id":"%s","deleted":true}' % self.id.encode())
        if self.json is not None:
            verb, data = "updated", self.json
        event_type = f"{REPAIR_PREFIX}{_EVENTS[self.kind]}.{verb}".encode()
        body = b'{"type":"%s","object":"event","timestamp":%d,"data":%s}' % (event_type, self.observed_at, data)
        return Envelope(self.name, body, received_at)

    def changes(self, received_at: int, *, keep_private_metadata: bool) -> Changes:
        """Raises UnusableEvent."""
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
"""Result of a repair: the outcome in the tables; `sent`, while the repair waits in the queue; or why the tables did
not take it, for good or (Retryable) because something holds on to its row."""


class Repairs(Protocol):
    """Where repairs go."""

    @property
    def are_done_at_once(self) -> bool:
        """Whether the tables have them when `send` returns."""
        ...

    def send(self, store: Store, repairs: Sequence[Repair], received_at: int) -> Sequence[Sent]:
        """Returns what became of each repair, in their order; why the tables did not take one is logged, too.

        `store`: that of the thread that calls. Raises Retryable; sending again is harmless.
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
    """Sends repairs to the sync queue, where they wait their turn among the webhooks."""

    are_done_at_once = False

    def __init__(self, queue: Queue, *, keep_private_metadata: bool = False) -> None:
        self._queue = queue
        self._direct = DirectRepairs(keep_private_metadata=keep_private_metadata)

    def send(self, store: Store, repairs: Sequence[Repair], received_at: int) -> Sequence[Sent]:
        """See Repairs. A repair that no message can hold is applied at once."""
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
    """Ids of repairs, by what became of them."""

    sent: Sequence[str]
    refused: Sequence[str]
    """The tables did not take them, and never will."""
    held_up: Sequence[str]
    """Somebody held a lock on the row, or its trigger took too long."""


def settled(repairs: Sequence[Repair], became: Sequence[Sent]) -> Settled:
    """Sorts repairs by what became of them."""
    ids: tuple[list[str], list[str], list[str]] = ([], [], [])
    for repair, outcome in zip(repairs, became, strict=True):
        place = 2 if isinstance(outcome, Retryable) else int(isinstance(outcome, Exception))
        ids[place].append(repair.id)
    return Settled(*ids)


ClockMs = Callable[[], int]
"""Our own clock, in milliseconds. Never for ordering."""
