"""The envelope of Clerk's webhooks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, NamedTuple

from pydantic import BeforeValidator, ValidationError
from pydantic_core import from_json

from clerk_supabase.errors import UnusableEvent
from clerk_supabase.model.clerk_object import LONGEST_ID, Lenient, Milliseconds, may_hold_nul, what_is_wrong
from clerk_supabase.model.envelope import storable
from clerk_supabase.model.found_kinds import REPAIR_PREFIX

# Clerk's documented examples have seconds, its deliveries have milliseconds; 1e11 ms is in 1973.
_SECONDS_BELOW = 100_000_000_000
LARGEST_ODD: Final = 256 * 1024
"""Bytes of the largest event whose parts are read one by one. A megabyte of small parts would take longer than the time
of a whole batch. No user can make an event so large by metadata, of which Clerk takes 8 kB."""
# The envelope, the object, and the member's data in the object; for a large event, the envelope and the object.
_LEVELS_OF_SUBJECT: Final = 3
_LEVELS_OF_LARGE_SUBJECT: Final = 2


def _to_milliseconds(timestamp: object) -> object:
    if isinstance(timestamp, int | float) and timestamp < _SECONDS_BELOW:
        return timestamp * 1000
    return timestamp


def _text_or_nothing(value: object) -> str:
    # As in ingest: an event that names no instance is of the mirrored instance.
    return storable(value, LONGEST_ID) if isinstance(value, str) else ""


class _Envelope(Lenient):
    type: str
    timestamp: Annotated[Milliseconds, BeforeValidator(_to_milliseconds)]
    data: dict[str, Any]
    instance_id: Annotated[str, BeforeValidator(_text_or_nothing)] = ""


class Event(NamedTuple):
    """The envelope of a webhook."""

    type: str
    timestamp: int
    """Moment at which the event happened, always in milliseconds."""
    data: Mapping[str, Any]
    """The object. A placeholder that every model refuses stands for each part that no parser takes."""
    is_odd: bool
    """Tells whether a part of the object may have to be left out; False for nearly every event."""
    is_large: bool
    """Tells whether the event is too large to search for the parts to leave out."""
    instance_id: str = ""
    """The Clerk instance; empty in messages from before February 2025."""


def parse_event(body: bytes) -> Event:
    """The event in a webhook's body. Raises UnusableEvent, which names the fault and never quotes the data."""
    try:
        envelope, is_odd = _Envelope.model_validate_json(body), may_hold_nul(body)
    except ValidationError as error:
        envelope, is_odd = _envelope_of_parts(body, what_is_wrong(error, "event")), True
    is_large = len(body) > LARGEST_ODD
    return Event(envelope.type, envelope.timestamp, envelope.data, is_odd, is_large, envelope.instance_id)


def _envelope_of_parts(body: bytes, reason: str) -> _Envelope:
    if len(body) > LARGEST_ODD:
        raise UnusableEvent(reason)
    from clerk_supabase.model.storable import LEVELS, read_parts  # noqa: PLC0415 - most environments never need it

    try:
        # One level more than for the object alone, which Clerk's Backend API sends.
        return _Envelope.model_validate(read_parts(body, LEVELS + 1))
    except ValidationError:
        raise UnusableEvent(reason) from None


@dataclass(frozen=True, slots=True)
class Subject:
    """Type, object and user named in a body; None for each that is missing."""

    event_type: str | None = None
    object_id: str | None = None
    user_id: str | None = None
    """The user whose personal data is in the body."""


def subject_of(body: bytes) -> Subject:
    """Reads the subject of any body, even of a body that is no event; never raises."""
    try:
        event = _object(from_json(body))
    except ValueError:
        from clerk_supabase.model.storable import read_parts  # noqa: PLC0415 - as above

        levels = _LEVELS_OF_SUBJECT if len(body) <= LARGEST_ODD else _LEVELS_OF_LARGE_SUBJECT
        event = _object(read_parts(body, levels, LARGEST_ODD))
    data = _object(event.get("data"))
    event_type, object_id = _short_text(event.get("type")), _short_text(data.get("id"))
    if event_type is not None and event_type.removeprefix(REPAIR_PREFIX).startswith("user."):
        return Subject(event_type, object_id, object_id)
    # Of a membership, of a billing object, of an accepted invitation or a session, and of a session without that field.
    named = (
        *(_object(data.get(name)).get("user_id") for name in ("public_user_data", "payer")),
        data.get("user_id"),
        _object(data.get("user")).get("id"),
    )
    return Subject(event_type, object_id, next(filter(None, map(_short_text, named)), None))


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _short_text(value: object) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= LONGEST_ID else None
