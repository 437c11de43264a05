"""Kinds of Clerk's objects, and the facts about each. Light on purpose: ingest loads this module at each cold start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal, get_args

ListKind = Literal["organization", "membership", "invitation", "domain"]
"""Kinds that Clerk lists by creation only: neither the latest changes nor a window of time can be asked for."""
ReadKind = Literal["user", ListKind]
"""Kinds that reconcile reads from Clerk's Backend API."""
Kind = Literal[ReadKind, "private_metadata"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

LIST_KINDS: Final[tuple[ListKind, ...]] = get_args(ListKind)
READ_KINDS: Final[tuple[ReadKind, ...]] = get_args(ReadKind)
"""Parents before their children."""


@dataclass(frozen=True, slots=True)
class Facts:
    """Facts about a kind, besides its columns: the model of the kind has the columns."""

    plural: str
    """Name of the objects in reports."""
    table: str
    """Table of its rows, in the schema of the mirror."""
    key: str
    """Column of the table with the id of the object."""
    event: str
    """Type of the events, without the verb."""
    verbs: tuple[str, ...] = ("created", "updated", "deleted")
    """Verbs of Clerk's events about the kind."""
    list_path: str = ""
    """Path of Clerk's Backend API that lists all objects of the instance by creation; empty: there is no such list."""
    parents: Mapping[str, Kind] = field(default_factory=dict)
    """Kinds of its parents, by the columns that name the parents."""
    is_read_by_id: bool = False
    """True: Clerk's Backend API reads an object by its id, or by the ids of its parents."""
    keeps_private_metadata: bool = False
    """True: the stack keeps private metadata of the kind, if its parameter says so."""

    @property
    def whole(self) -> str:
        """Type of an event that carries the whole object, whatever has changed."""
        return f"{self.event}.{'updated' if 'updated' in self.verbs else 'created'}"


FACTS: Final[Mapping[Kind, Facts]] = MappingProxyType(
    {
        "user": Facts(
            plural="users",
            table="users",
            key="clerk_id",
            event="user",
            is_read_by_id=True,
            keeps_private_metadata=True,
        ),
        "organization": Facts(
            plural="organizations",
            table="organizations",
            key="clerk_org_id",
            event="organization",
            list_path="/organizations",
            is_read_by_id=True,
            keeps_private_metadata=True,
        ),
        "membership": Facts(
            plural="memberships",
            table="organization_memberships",
            key="clerk_membership_id",
            event="organizationMembership",
            list_path="/organization_memberships",
            parents={"clerk_org_id": "organization", "clerk_user_id": "user"},
            is_read_by_id=True,
            keeps_private_metadata=True,
        ),
        "invitation": Facts(
            plural="invitations",
            table="organization_invitations",
            key="clerk_invitation_id",
            event="organizationInvitation",
            verbs=("created", "accepted", "revoked"),
            list_path="/organization_invitations",
            parents={"clerk_org_id": "organization"},
        ),
        "domain": Facts(
            plural="domains",
            table="organization_domains",
            key="clerk_domain_id",
            event="organizationDomain",
            list_path="/organization_domains",
            parents={"clerk_org_id": "organization"},
        ),
    }
)
"""Facts about each kind that has events."""

KIND_NAMES: Final[Mapping[ReadKind, str]] = MappingProxyType({kind: FACTS[kind].plural for kind in READ_KINDS})
WITH_PRIVATE_METADATA: Final = frozenset(kind for kind, facts in FACTS.items() if facts.keeps_private_metadata)


@dataclass(frozen=True, slots=True)
class Meaning:
    """Kind of the object of an event, and whether the object is gone."""

    kind: Kind
    is_delete: bool = False


REPAIR_PREFIX: Final = "reconcile."
"""Prefix of the type of an event that reconcile made of an object read from Clerk. No webhook has this prefix."""
_REPAIR_VERBS: Final = ("updated", "deleted")

CANARY_TYPE: Final = "clerk-supabase.canary"
"""Type of an event that `clerk-supabase doctor` signs and sends: sync records the delivery and changes no row."""

SYNCED_TYPES: Mapping[str, Meaning] = MappingProxyType(
    {
        f"{facts.event}.{verb}": Meaning(kind, is_delete=verb == "deleted")
        for kind, facts in FACTS.items()
        for verb in facts.verbs
    }
)
"""Meanings of the event types that are synced."""

REPAIR_TYPES: Mapping[str, Meaning] = MappingProxyType(
    {
        f"{REPAIR_PREFIX}{facts.event}.{verb}": Meaning(kind, is_delete=verb == "deleted")
        for kind, facts in FACTS.items()
        for verb in _REPAIR_VERBS
        if verb not in facts.verbs
    }
)
"""Meanings of the types of repairs that correspond to no webhook."""
