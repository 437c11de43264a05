"""A delivery on its way from ingest to Postgres."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args

ReasonClass = Literal["unusable", "refused", "exhausted"]
"""Class of the reason for parking: the event is unusable, Postgres refuses it, or all attempts to apply it failed."""

REASON_CLASSES: tuple[ReasonClass, ...] = get_args(ReasonClass)

# SQS takes the characters that XML 1.0 allows and refuses the whole message otherwise; Postgres takes these and more.
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html
# All others are named here: Python compiles a pattern of the allowed characters ten times as long, at each cold start.
_NOT_STORABLE = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


@dataclass(frozen=True, slots=True)
class Envelope:
    """Clerk's body with the facts of its delivery."""

    svix_id: str
    body: bytes
    received_at: int
    """The moment at which ingest accepted the body, in milliseconds since 1970 by our clock: for measuring lag only."""
    attempts: int = 0
    """The number of times retry sent the event back from the dead-letter queue."""


@dataclass(frozen=True, slots=True)
class ParkedEvent:
    """An event put aside for a person, and the reason."""

    envelope: Envelope
    reason_class: ReasonClass
    reason: str


def storable(text: str, limit: int) -> str:
    """The first *limit* characters of a text; U+FFFD replaces each character that SQS or Postgres refuses."""
    return _NOT_STORABLE.sub("\ufffd", text[:limit])
