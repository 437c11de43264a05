"""Webhooks, read as sync reads them, short to write. `at`: milliseconds after the beginning, by Clerk's clock."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from clerk_supabase.model.changes import Delivery, changes_of
from clerk_supabase.model.events import parse_event
from clerk_supabase.model.facts import Kind
from clerk_supabase.model.found_kinds import FACTS
from clerk_supabase_cli.project import find_root
from clerk_supabase_cli.standin import samples
from tests.kit.histories import CREATED_AT, RECEIVED_AT, Applied

_SAMPLES = find_root(Path(__file__).parent) / "events" / "clerk"


def told(
    event_type: str, data: dict[str, Any], *, at: int, svix_id: str = "", keep_private_metadata: bool = False
) -> Applied:
    """An event of Clerk; with an svix id, its delivery is recorded."""
    event = parse_event(json.dumps(samples.event(event_type, data, timestamp=CREATED_AT + at)).encode())
    changes = changes_of(event, RECEIVED_AT, keep_private_metadata=keep_private_metadata)
    return changes, Delivery(svix_id, event_type, RECEIVED_AT) if svix_id else None


def user(user_id: str = "user_1", *, at: int, svix_id: str = "", **fields: Any) -> Applied:
    """A user as seen at a time; *fields* replaces whole fields of Clerk's object, here and below."""
    data = samples.user(user_id, created_at=CREATED_AT, updated_at=CREATED_AT + at, **fields)
    return told("user.updated", data, at=at, svix_id=svix_id)


def organization(org_id: str = "org_1", *, at: int, svix_id: str = "", **fields: Any) -> Applied:
    """An organization as seen at a time."""
    data = samples.organization(org_id, created_at=CREATED_AT, updated_at=CREATED_AT + at, **fields)
    return told("organization.updated", data, at=at, svix_id=svix_id)


def membership(
    membership_id: str = "orgmem_1",
    *,
    at: int,
    org_id: str = "org_1",
    user_id: str = "user_1",
    svix_id: str = "",
    **fields: Any,
) -> Applied:
    """A membership as seen at a time, with its organization and its user as they were at the beginning."""
    org = samples.organization(org_id, created_at=CREATED_AT, updated_at=CREATED_AT)
    member = samples.user(user_id, created_at=CREATED_AT, updated_at=CREATED_AT)
    times = {"created_at": CREATED_AT, "updated_at": CREATED_AT + at}
    data = samples.membership(membership_id, org, member, **times, **fields)
    return told("organizationMembership.updated", data, at=at, svix_id=svix_id)


def invitation(
    invitation_id: str = "orginv_1", *, at: int, org_id: str = "org_1", svix_id: str = "", **fields: Any
) -> Applied:
    """An invitation as seen at a time."""
    data = samples.invitation(invitation_id, org_id, created_at=CREATED_AT, updated_at=CREATED_AT + at, **fields)
    return told("organizationInvitation.created", data, at=at, svix_id=svix_id)


def domain(domain_id: str = "orgdmn_1", *, at: int, org_id: str = "org_1", svix_id: str = "", **fields: Any) -> Applied:
    """A domain as seen at a time."""
    data = samples.domain(domain_id, org_id, created_at=CREATED_AT, updated_at=CREATED_AT + at, **fields)
    return told("organizationDomain.updated", data, at=at, svix_id=svix_id)


def sample(kind: Kind, object_id: str, *, at: int, svix_id: str = "", **fields: Any) -> Applied:
    """An object of any kind as seen at a time: the sample of an event about the kind, with another id."""
    times = {"created_at": CREATED_AT, "updated_at": CREATED_AT + at}
    return told(FACTS[kind].whole, sample_data(kind, object_id, **times, **fields), at=at, svix_id=svix_id)


def sample_data(kind: Kind, object_id: str, **fields: Any) -> dict[str, Any]:
    """The object in the sample of an event about a kind, with this id and these fields."""
    event: dict[str, Any] = json.loads((_SAMPLES / f"{FACTS[kind].whole}.json").read_bytes())
    return {**event["data"], "id": object_id, **fields}


def deleted(kind: str, object_id: str, *, at: int, svix_id: str = "") -> Applied:
    """The end of an object; *kind* as in the event's type, such as `organizationMembership`."""
    return told(f"{kind}.deleted", {"id": object_id, "deleted": True}, at=at, svix_id=svix_id)
