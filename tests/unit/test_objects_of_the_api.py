"""An object read from Clerk's Backend API means the same as the object in a webhook."""

from __future__ import annotations

import json
from typing import Any

import pytest

from clerk_supabase.errors import UnusableEvent
from clerk_supabase.model.changes import Changes, Upsert, Version, changes_of, changes_of_object
from clerk_supabase.model.events import parse_event
from clerk_supabase.model.facts import ReadKind
from clerk_supabase.reconcile.corrections.repairs import Repair
from clerk_supabase_cli.standin import samples

CREATED_AT, UPDATED_AT, OBSERVED_AT = 1_600_000_000_000, 1_600_000_000_777, 1_600_000_060_000
TIMES = {"created_at": CREATED_AT, "updated_at": UPDATED_AT}
USER = samples.user(
    "user_1",
    **TIMES,
    phone_numbers=[{"id": "idn_2", "phone_number": "+15550100", "verification": None}],
    public_metadata={"plan": 1.0, "large": 2**70},
    private_metadata={"note": "x"},
)
ORGANIZATION = samples.organization("org_1", **TIMES)
OBJECTS: dict[ReadKind, tuple[str, dict[str, Any]]] = {
    "user": ("user.updated", USER),
    "organization": ("organization.updated", ORGANIZATION),
    "membership": (
        "organizationMembership.updated",
        samples.membership("orgmem_1", ORGANIZATION, USER, **TIMES, role="admin"),
    ),
    "invitation": ("organizationInvitation.created", samples.invitation("orginv_1", "org_1", **TIMES)),
    "domain": ("organizationDomain.updated", samples.domain("orgdmn_1", "org_1", **TIMES)),
}
EXPIRES_AT = OBJECTS["invitation"][1]["expires_at"]


def read(kind: ReadKind, data: Any, *, received_at: int = OBSERVED_AT, private: bool = False) -> Changes:
    body = data if isinstance(data, bytes) else json.dumps(data).encode()
    return changes_of_object(kind, body, OBSERVED_AT, received_at, keep_private_metadata=private)


@pytest.mark.parametrize("private", [False, True])
@pytest.mark.parametrize("kind", list(OBJECTS))
def test_a_read_means_what_a_webhook_with_the_same_object_and_moment_means(kind: ReadKind, private: bool) -> None:
    event_type, data = OBJECTS[kind]
    event = parse_event(json.dumps(samples.event(event_type, data, timestamp=OBSERVED_AT)).encode())
    assert read(kind, data, private=private) == changes_of(event, OBSERVED_AT, keep_private_metadata=private)


def test_a_read_is_dated_by_the_object_and_then_by_clerks_answer() -> None:
    main = read("user", USER).main
    assert isinstance(main, Upsert)
    assert main.version == Version(UPDATED_AT, OBSERVED_AT)


def test_scim_which_only_webhooks_carry_is_no_column_that_a_read_could_empty() -> None:
    with_scim, without = (read("user", USER | extra).main for extra in ({"scim": {"directory_id": "d"}}, {}))
    assert with_scim == without


def invitation(observed_at: int, **changes: Any) -> Upsert:
    """An invitation as it is read at that moment; a repair through the queue has to mean the same."""
    body = json.dumps(OBJECTS["invitation"][1] | changes).encode()
    read_at_once = changes_of_object("invitation", body, observed_at, observed_at)
    repair = Repair(1, "invitation", "orginv_1", observed_at, body)
    event = parse_event(repair.envelope(observed_at).body)
    assert changes_of(event, observed_at) == read_at_once
    assert isinstance(read_at_once.main, Upsert)
    return read_at_once.main


def test_an_invitation_that_is_read_after_its_end_has_expired_whatever_clerk_calls_it() -> None:
    assert invitation(EXPIRES_AT - 1).content["status"] == "pending"
    assert invitation(EXPIRES_AT).content["status"] == "expired"
    for status in ("accepted", "revoked", "expired"):
        assert invitation(EXPIRES_AT, status=status).content["status"] == status
    assert invitation(EXPIRES_AT, expires_at=None).content["status"] == "pending"


def test_a_read_of_an_accepted_invitation_yields_to_the_webhook_that_says_who_accepted() -> None:
    told = OBJECTS["invitation"][1] | {"status": "accepted", "user_id": "user_2"}
    event = samples.event("organizationInvitation.accepted", told, timestamp=UPDATED_AT)
    webhook = changes_of(parse_event(json.dumps(event).encode()), UPDATED_AT).main
    assert isinstance(webhook, Upsert)
    assert webhook.content["accepted_by"] == "user_2"
    assert invitation(OBSERVED_AT, status="accepted").version < webhook.version
    assert invitation(OBSERVED_AT, status="accepted", updated_at=UPDATED_AT + 1).version > webhook.version
    assert invitation(OBSERVED_AT, status="revoked").version > webhook.version


def test_the_inviting_user_is_read_from_either_field() -> None:
    inviter = {"user_id": "user_9"}
    assert invitation(OBSERVED_AT, inviter_id=None, public_inviter_data=inviter).content["inviter_id"] == "user_9"
    assert invitation(OBSERVED_AT, public_inviter_data=None).content["inviter_id"] == "user_founder"


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{}", b"not json", USER | {"updated_at": None}, USER | {"id": ""}, USER | {"banned": "??"}]
)
def test_an_unusable_object_is_refused_without_telling_its_data(data: Any) -> None:
    with pytest.raises(UnusableEvent) as refused:
        read("user", data)
    assert "example.test" not in str(refused.value)
    assert "??" not in str(refused.value)


def test_an_unknown_verification_and_one_without_an_object_are_read() -> None:
    odd = [{"id": "idn_1", "email_address": "a@example.test", "verification": each} for each in ({}, {"object": "new"})]
    main = read("user", USER | {"email_addresses": odd, "new_field": 1}).main
    assert isinstance(main, Upsert)
    assert [each["verified"] for each in main.content["email_addresses"]] == [False, False]


def test_a_read_from_the_future_is_refused() -> None:
    with pytest.raises(UnusableEvent, match="ahead"):
        read("user", USER, received_at=OBSERVED_AT - 86_400_001)
