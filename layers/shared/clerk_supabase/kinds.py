"""Which of Clerk's event types are synced, and as what. Light on purpose: ingest decides by it at every cold start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Kind = Literal["user"]


@dataclass(frozen=True, slots=True)
class Meaning:
    """What an event type says: the kind of its object, and whether the object is gone."""

    kind: Kind
    is_delete: bool


SYNCED_TYPES: Mapping[str, Meaning] = MappingProxyType(
    {
        "user.created": Meaning("user", is_delete=False),
        "user.updated": Meaning("user", is_delete=False),
        "user.deleted": Meaning("user", is_delete=True),
    }
)
