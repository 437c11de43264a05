"""Which of Clerk's event types are synced, and as what. Light on purpose: ingest decides by it at every cold start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

Kind = Literal["user", "organization", "membership", "invitation", "domain", "private_metadata"]


@dataclass(frozen=True, slots=True)
class Meaning:
    """What an event type says: the kind of its object, and whether the object is gone."""

    kind: Kind
    is_delete: bool = False


REPAIR_PREFIX: Final = "reconcile."
"""Before the type of an event that reconcile made out of what it read from Clerk. No webhook has it."""

CANARY_TYPE: Final = "clerk-supabase.canary"
"""Of an event that `clerk-supabase doctor` signs and sends: it is recorded as a delivery and changes nothing."""

SYNCED_TYPES: Mapping[str, Meaning] = MappingProxyType(
    {
        "user.created": Meaning("user"),
        "user.updated": Meaning("user"),
        "user.deleted": Meaning("user", is_delete=True),
        "organization.created": Meaning("organization"),
        "organization.updated": Meaning("organization"),
        "organization.deleted": Meaning("organization", is_delete=True),
        "organizationMembership.created": Meaning("membership"),
        "organizationMembership.updated": Meaning("membership"),
        "organizationMembership.deleted": Meaning("membership", is_delete=True),
        "organizationInvitation.created": Meaning("invitation"),
        "organizationInvitation.accepted": Meaning("invitation"),
        "organizationInvitation.revoked": Meaning("invitation"),
        "organizationDomain.created": Meaning("domain"),
        "organizationDomain.updated": Meaning("domain"),
        "organizationDomain.deleted": Meaning("domain", is_delete=True),
    }
)

REPAIR_TYPES: Mapping[str, Meaning] = MappingProxyType(
    {
        f"{REPAIR_PREFIX}organizationInvitation.updated": Meaning("invitation"),
        f"{REPAIR_PREFIX}organizationInvitation.deleted": Meaning("invitation", is_delete=True),
    }
)
"""Types of repairs to which no webhook corresponds."""
