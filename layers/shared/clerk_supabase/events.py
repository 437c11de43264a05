"""The envelope of Clerk's webhooks."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, ValidationError

from clerk_supabase.clerk_object import Lenient, Milliseconds, what_is_wrong
from clerk_supabase.errors import UnusableEvent

# Clerk's own examples show seconds where its deliveries carry milliseconds; 1e11 ms is 1973.
_SECONDS_BELOW = 100_000_000_000


def _to_milliseconds(timestamp: object) -> object:
    if isinstance(timestamp, int | float) and timestamp < _SECONDS_BELOW:
        return timestamp * 1000
    return timestamp


class Event(Lenient):
    """The envelope of a webhook. `timestamp` is when it happened, always in milliseconds here."""

    type: str
    timestamp: Annotated[Milliseconds, BeforeValidator(_to_milliseconds)]
    data: dict[str, Any]


def parse_event(body: bytes) -> Event:
    """The event in a webhook's body. Raises UnusableEvent with what is wrong, never with the data itself."""
    try:
        return Event.model_validate_json(body)
    except ValidationError as error:
        raise UnusableEvent(what_is_wrong(error, "event")) from None
