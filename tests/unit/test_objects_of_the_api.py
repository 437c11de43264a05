"""What is read from Clerk's Backend API means the same as what its webhooks bring."""

from __future__ import annotations

import json
from typing import Any

import pytest

from clerk_supabase.changes import Changes, ReadKind, Upsert, Version, changes_of, changes_of_object
from clerk_supabase.errors import UnusableEvent
from clerk_supabase.events import parse_event
from clerk_supabase_cli import samples

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
}


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


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{}", b"not json", USER | {"updated_at": None}, USER | {"id": ""}, USER | {"banned": "??"}]
)
def test_an_unusable_object_is_refused_without_telling_its_data(data: Any) -> None:
    with pytest.raises(UnusableEvent) as refused:
        read("user", data)
    assert "example.test" not in str(refused.value)
    assert "??" not in str(refused.value)


def test_a_verification_nobody_has_heard_of_and_one_without_object_are_read() -> None:
    odd = [{"id": "idn_1", "email_address": "a@example.test", "verification": each} for each in ({}, {"object": "new"})]
    main = read("user", USER | {"email_addresses": odd, "new_field": 1}).main
    assert isinstance(main, Upsert)
    assert [each["verified"] for each in main.content["email_addresses"]] == [False, False]


def test_a_read_from_the_future_is_refused() -> None:
    with pytest.raises(UnusableEvent, match="ahead"):
        read("user", USER, received_at=OBSERVED_AT - 86_400_001)
