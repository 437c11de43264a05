"""Parked events, for an operator: find, read, send again, discard."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Literal, LiteralString, get_args

from psycopg.rows import class_row

from clerk_supabase.aws.queue import Queue
from clerk_supabase.errors import EventTooLarge, QueueUnavailable
from clerk_supabase.model.envelope import Envelope
from clerk_supabase_cli.failure import Failure
from clerk_supabase_cli.operate.database import Connection
from clerk_supabase_cli.printing import printable

State = Literal["parked", "replayed", "settled", "discarded"]
"""parked: waits for a person; replayed: sent again, on its way; settled: was applied after all; discarded: given up."""

STATES: Final[tuple[State, ...]] = get_args(State)

OPEN_STATES: Final[tuple[State, ...]] = ("parked", "replayed")
"""The states of an open event."""

# Bodies of at most 1 MB each are in memory at once.
_BATCH: Final = 50
_CONNECTIONS: Final = 10

_COLUMNS: Final = """
    p.parked_id, p.svix_id, p.event_type, p.entity_id, p.reason_class, p.reason, p.first_reason, p.attempts,
    p.received_at, p.first_parked_at, p.last_parked_at, p.replayed_at, p.discarded_at, p.discarded_by,
    p.body is not null as has_body, d.outcome, d.applied_at,
    case
        when d.svix_id is not null then 'settled'
        when p.discarded_at is not null then 'discarded'
        when p.replayed_at is not null then 'replayed'
        else 'parked'
    end as state
"""
EVENTS: Final[LiteralString] = f"""
    select {_COLUMNS}
    from clerk_sync.parked_events as p
    left join clerk_sync.deliveries as d on d.svix_id = p.svix_id
"""  # noqa: S608 - put together from constants of this file
"""Every parked event without its body, and its state."""

_SELECTED: Final[LiteralString] = f"""
    from ({EVENTS}) as event
    where (%(svix_ids)s::text[] is null or svix_id = any(%(svix_ids)s))
    and (%(event_type)s::text is null or event_type like %(event_type)s)
    and (%(reason_class)s::text is null or reason_class = %(reason_class)s)
    and (%(reason)s::text is null or strpos(lower(reason), lower(%(reason)s)) > 0)
    and (%(entity_id)s::text is null or entity_id = %(entity_id)s)
    and (%(since)s::timestamptz is null or last_parked_at >= %(since)s)
    and (%(before)s::timestamptz is null or last_parked_at < %(before)s)
    and (%(has_body)s::boolean is null or has_body = %(has_body)s)
    and state = any(%(states)s)
"""
_COUNT: Final[LiteralString] = f"select count(*) {_SELECTED}"
_NEWEST: Final[LiteralString] = f"select * {_SELECTED} order by last_parked_at desc, parked_id desc limit %(limit)s"
# By key, not by offset: an event parked again during the replay is not read again.
_NEXT: Final[LiteralString] = f"""
    select event.svix_id, event.last_parked_at, event.received_at, kept.body, kept.parked_id
    from (select * {_SELECTED} and parked_id > %(after)s and parked_id <= %(last)s order by parked_id limit %(limit)s)
        as event
    inner join clerk_sync.parked_events as kept on kept.parked_id = event.parked_id
    order by kept.parked_id
"""  # noqa: S608 - put together from constants of this file
# An event parked again since the read stays parked.
_MARK_REPLAYED: Final = """
    update clerk_sync.parked_events as p set replayed_at = clock_timestamp()
    from unnest(%s::text[], %s::timestamptz[]) as sent (svix_id, last_parked_at)
    where p.svix_id = sent.svix_id and p.last_parked_at = sent.last_parked_at
"""
_DISCARD: Final = """
    update clerk_sync.parked_events as p
    set discarded_at = clock_timestamp(), discarded_by = %s, body = null
    from unnest(%s::text[], %s::timestamptz[]) as given_up (svix_id, last_parked_at)
    where p.svix_id = given_up.svix_id and p.last_parked_at = given_up.last_parked_at and p.discarded_at is null
"""


class NoSuchEvent(Failure):
    """No event with this svix id was ever parked."""


class NotPossible(Failure):
    """The request is impossible for an event in this state; nothing was done."""


@dataclass(frozen=True, slots=True)
class ParkedEvent:
    """An event that could not be applied, and its state. Times as in clerk_sync.parked_events."""

    parked_id: int
    svix_id: str
    event_type: str | None
    entity_id: str | None
    reason_class: str
    reason: str
    first_reason: str
    attempts: int
    received_at: datetime
    first_parked_at: datetime
    last_parked_at: datetime
    replayed_at: datetime | None
    discarded_at: datetime | None
    discarded_by: str | None
    has_body: bool
    outcome: str | None
    """The outcome of the event, once it is settled."""
    applied_at: datetime | None
    state: State


@dataclass(frozen=True, slots=True)
class Selection:
    """A filter of events; fields without a value match all events."""

    svix_ids: tuple[str, ...] = ()
    event_type: str | None = None
    """`*` stands for any characters."""
    reason_class: str | None = None
    reason: str | None = None
    """Part of the last reason, in any case."""
    entity_id: str | None = None
    since: datetime | None = None
    """The earliest time of the last parking; `before`: the end of the period."""
    before: datetime | None = None
    has_body: bool | None = None
    states: tuple[State, ...] = OPEN_STATES

    def parameters(self) -> dict[str, object]:
        """The parameters of the statements in this module."""
        return {
            "svix_ids": list(self.svix_ids) or None,
            "event_type": None if self.event_type is None else _as_like(self.event_type),
            "reason_class": self.reason_class,
            "reason": self.reason,
            "entity_id": self.entity_id,
            "since": self.since,
            "before": self.before,
            "has_body": self.has_body,
            "states": list(self.states),
        }


@dataclass(slots=True)
class Replayed:
    """The progress of a replay."""

    sent: int = 0
    too_large: tuple[str, ...] = ()
    """Events too large for a queue."""
    stopped_by: str = ""
    """The reason why the rest was not sent; empty after a complete replay."""


def count(connection: Connection, selection: Selection) -> int:
    """The number of matching events."""
    [(number,)] = connection.execute(_COUNT, selection.parameters()).fetchall()
    return int(number)


def find(connection: Connection, selection: Selection, *, limit: int | None = None) -> list[ParkedEvent]:
    """The events, last parked first."""
    with connection.cursor(row_factory=class_row(ParkedEvent)) as cursor:
        return cursor.execute(_NEWEST, selection.parameters() | {"limit": limit}).fetchall()


def read(connection: Connection, svix_id: str) -> tuple[ParkedEvent, bytes | None]:
    """An event and its body. Raises NoSuchEvent."""
    [event] = _of_ids(connection, [svix_id])
    [(body,)] = connection.execute("select body from clerk_sync.parked_events where svix_id = %s", [svix_id]).fetchall()
    return event, body


def check_replayable(connection: Connection, svix_ids: Sequence[str]) -> None:
    """Raises NoSuchEvent or NotPossible unless each of the events can be sent again."""
    _raise_if_any(_why_not_replayed(event) for event in _of_ids(connection, svix_ids))


def check_discardable(connection: Connection, svix_ids: Sequence[str]) -> None:
    """Raises NoSuchEvent or NotPossible unless each of the events is still open."""
    _raise_if_any(_why_not_open(event) for event in _of_ids(connection, svix_ids))


def replay(
    connection: Connection, queue: Queue, selection: Selection, progress: Callable[[int], None] = lambda _: None
) -> Replayed:
    """Sends the events to the sync queue like new events; events without a body are left out.

    `progress` gets the number of events just sent. An event is sent before the mark is written, so a crash leaves at
    most a duplicate, which is harmless.
    """
    result = Replayed()
    with ThreadPoolExecutor(_CONNECTIONS) as pool:
        for batch in _batches(connection, selection):
            failures = list(pool.map(lambda each: _send(queue, each.envelope), batch))
            _mark(connection, [each for each, failure in zip(batch, failures, strict=True) if failure is None])
            result.sent += failures.count(None)
            result.too_large += tuple(
                each.envelope.svix_id
                for each, failure in zip(batch, failures, strict=True)
                if isinstance(failure, EventTooLarge)
            )
            progress(len(batch))
            if stop := next((each for each in failures if isinstance(each, QueueUnavailable)), None):
                return replace(result, stopped_by=str(stop))
    return result


def discard(connection: Connection, events: Sequence[ParkedEvent], by: str) -> int:
    """Discards the events in the state just read, and their bodies. Returns their number.

    An event that was parked again meanwhile, or discarded by another operator, is left alone.
    """
    seen = [each.svix_id for each in events], [each.last_parked_at for each in events]
    return connection.execute(_DISCARD, [by, *seen]).rowcount


def body_as_text(body: bytes) -> str:
    """A body for people: JSON on several lines, every other text as it is, with escapes for what a terminal obeys."""
    text = body.decode(errors="backslashreplace")
    with suppress(ValueError, RecursionError):
        text = json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    return "\n".join(map(printable, text.splitlines()))


@dataclass(frozen=True, slots=True)
class _ToSend:
    envelope: Envelope
    last_parked_at: datetime


def _batches(connection: Connection, selection: Selection) -> Iterator[list[_ToSend]]:
    """The events parked at the start of the replay, a part at a time."""
    [(last,)] = connection.execute("select coalesce(max(parked_id), 0) from clerk_sync.parked_events").fetchall()
    after = 0
    # Events without a body are filtered out before the limit is applied: an empty batch is the end.
    parameters = replace(selection, has_body=True).parameters() | {"last": last, "limit": _BATCH}
    while rows := connection.execute(_NEXT, parameters | {"after": after}).fetchall():
        after = rows[-1][-1]
        yield [
            _ToSend(Envelope(svix_id, bytes(body), round(received_at.timestamp() * 1000)), last_parked_at)
            for svix_id, last_parked_at, received_at, body, _ in rows
        ]


def _send(queue: Queue, envelope: Envelope) -> QueueUnavailable | EventTooLarge | None:
    try:
        queue.send(envelope)
    except (QueueUnavailable, EventTooLarge) as error:
        return error
    return None


def _mark(connection: Connection, sent: Sequence[_ToSend]) -> None:
    ids = [each.envelope.svix_id for each in sent]
    connection.execute(_MARK_REPLAYED, [ids, [each.last_parked_at for each in sent]])


def _of_ids(connection: Connection, svix_ids: Sequence[str]) -> list[ParkedEvent]:
    events = find(connection, Selection(svix_ids=tuple(svix_ids), states=STATES))
    unknown = sorted(set(svix_ids) - {event.svix_id for event in events})
    if unknown:
        raise NoSuchEvent(f"no event of this svix id was parked: {', '.join(unknown)}; try: clerk-supabase parked list")
    return events


def _why_not_open(event: ParkedEvent) -> str | None:
    if event.state == "settled":
        return f"{event.svix_id} is settled: it was applied ({event.outcome})"
    if event.state == "discarded":
        return f"{event.svix_id} was discarded, and its body with it"
    return None


def _why_not_replayed(event: ParkedEvent) -> str | None:
    if reason := _why_not_open(event):
        return reason
    if event.has_body:
        return None
    return f"{event.svix_id} has no body any more (its user was deleted, or it is older than 90 days); discard it"


def _raise_if_any(reasons: Iterator[str | None]) -> None:
    if said := [each for each in reasons if each is not None]:
        raise NotPossible("; ".join(said) + "; nothing was done")


def _as_like(pattern: str) -> str:
    escaped = pattern.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return escaped.replace("*", "%")
