"""A delivery on its way from ingest to Postgres."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args

ReasonClass = Literal["unusable", "refused", "exhausted"]
"""Why an event is parked: nobody can read it, Postgres does not take it, or it failed too often."""

REASON_CLASSES: tuple[ReasonClass, ...] = get_args(ReasonClass)

# SQS takes the characters that XML 1.0 allows and refuses the whole message otherwise; Postgres takes these and more.
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html
_NOT_STORABLE = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Envelope:
    """Clerk's body with the facts of its delivery."""

    svix_id: str
    body: bytes
    received_at: int
    """The moment at which ingest accepted the body, in milliseconds since 1970 by our clock. It measures lag only."""
    attempts: int = 0
    """The number of times retry sent the event back from the dead-letter queue."""


@dataclass(frozen=True, slots=True)
class ParkedEvent:
    """An event that waits for a person, and the reason."""

    envelope: Envelope
    reason_class: ReasonClass
    reason: str


def storable(text: str, limit: int) -> str:
    """The first *limit* characters of a text, without characters that SQS or Postgres refuse."""
    return _NOT_STORABLE.sub("\ufffd", text[:limit])
