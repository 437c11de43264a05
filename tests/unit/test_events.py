"""Clerk's events are read leniently where a field may be missing, and strictly where the field is needed."""

from __future__ import annotations

import json
import traceback
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from clerk_supabase.errors import UnusableEvent
from clerk_supabase.model.changes import changes_of, changes_of_object
from clerk_supabase.model.clerk_object import parse_object
from clerk_supabase.model.events import parse_event
from clerk_supabase.model.user_struct import read_user
from clerk_supabase.model.users import User
from clerk_supabase_cli.standin import samples

MILLISECONDS = 1_716_883_200_000
LISTS = ("email_addresses", "phone_numbers", "web3_wallets", "external_accounts")
LEAST: dict[str, Any] = {"id": "user_1", "updated_at": MILLISECONDS, "banned": False} | {name: [] for name in LISTS}


def event(**changes: Any) -> dict[str, Any]:
    data = samples.user("user_1", created_at=MILLISECONDS, updated_at=MILLISECONDS)
    return samples.event("user.created", data, timestamp=MILLISECONDS) | changes


def user(**changes: Any) -> User:
    return parse_object(User, LEAST | changes)


def reason(body: bytes) -> str:
    with pytest.raises(UnusableEvent) as caught:
        changes_of(parse_event(body), MILLISECONDS)
    return str(caught.value)


def test_an_event_is_read_as_clerk_sends_it() -> None:
    parsed = parse_event(json.dumps(event()).encode())
    assert (parsed.type, parsed.timestamp, parsed.data["id"]) == ("user.created", MILLISECONDS, "user_1")


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        (1_716_883_200_123, 1_716_883_200_123),
        (1_716_883_200, 1_716_883_200_000),
        (1_716_883_200.0, 1_716_883_200_000),
        (99_999_999_999, 99_999_999_999_000),
        (100_000_000_000, 100_000_000_000),
        (0, 0),
    ],
)
def test_a_timestamp_in_seconds_is_read_as_one(sent: float, read: int) -> None:
    assert parse_event(json.dumps(event(timestamp=sent)).encode()).timestamp == read


@pytest.mark.parametrize("timestamp", [None, -1, 1e300, "yesterday", [], {}])
def test_an_event_without_a_usable_timestamp_is_unusable(timestamp: object) -> None:
    assert reason(json.dumps(event(timestamp=timestamp)).encode()).startswith("event.timestamp: ")


def test_fields_that_clerk_adds_later_do_no_harm() -> None:
    new = {"new": {"deep": [1, 2]}}
    data = event()["data"] | {"field_of_tomorrow": new, "email_addresses": [{"email_address": "a", **new}]}
    parsed = parse_object(User, parse_event(json.dumps(event(data=data, more=new)).encode()).data)
    known = parse_object(User, event()["data"] | {"email_addresses": [{"email_address": "a"}]})
    assert parsed == known
    assert parsed.columns() == known.columns()


def test_a_user_needs_no_more_than_an_id_a_version_a_verdict_and_the_lists_that_clerk_always_sends() -> None:
    parsed = user()
    assert parsed.public_metadata == {}
    assert not parsed.locked


def test_a_user_without_the_verdict_that_clerk_always_sends_is_unusable() -> None:
    """Else an answer of Clerk's API that lacks the field would lift the bans of its users."""
    data = {name: value for name, value in LEAST.items() if name != "banned"}
    assert reason(json.dumps(event(data=data)).encode()).startswith("User.banned: ")


@pytest.mark.parametrize(
    "name", sorted(User.model_fields.keys() - LEAST.keys() - {"banned", "locked", "deprovisioned"})
)
def test_any_other_field_of_a_user_may_be_null(name: str) -> None:
    assert getattr(user(**{name: None}), name) == getattr(user(), name)


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("value", ["missing", None, {}, "no list"])
def test_a_user_without_a_list_that_clerk_always_sends_is_unusable(name: str, value: object) -> None:
    data = LEAST | {name: value}
    if value == "missing":
        del data[name]
    assert reason(json.dumps(event(data=data)).encode()).startswith(f"User.{name}: ")


# Elements that Clerk never sends, and the field of a user that they are unusable for; None: for any.
ODD_ELEMENTS: dict[str, tuple[object, str | None]] = {
    "null": (None, None),
    "an id instead of the object": ("idn_1", None),
    "a number": (7, None),
    "a list": ([{"id": "idn_1"}], None),
    "an address without its address": ({"id": "idn_1"}, "email_addresses"),
    "an address that is null": ({"id": "idn_1", "email_address": None}, "email_addresses"),
    "a phone number without its number": ({"id": "idn_1"}, "phone_numbers"),
    "a phone number that is null": ({"id": "idn_1", "phone_number": None}, "phone_numbers"),
    "a wallet without its address": ({"id": "idn_1"}, "web3_wallets"),
    "a wallet that is null": ({"id": "idn_1", "web3_wallet": None}, "web3_wallets"),
}
GOOD_ELEMENTS = {
    "email_addresses": {"id": "idn_0", "email_address": "ada@example.test"},
    "phone_numbers": {"id": "idn_0", "phone_number": "+15550100"},
    "web3_wallets": {"id": "idn_0", "web3_wallet": "0x0"},
    "external_accounts": {"id": "idn_0", "provider": "oauth_google"},
}


@pytest.mark.parametrize("beside", [True, False], ids=["beside a good one", "alone"])
@pytest.mark.parametrize(
    ("name", "element"),
    [
        pytest.param(name, element, id=f"{what} in {name}")
        for what, (element, only) in ODD_ELEMENTS.items()
        for name in LISTS
        if only in (None, name)
    ],
)
def test_a_user_with_a_list_of_what_clerk_never_sends_is_unusable_and_never_loses_the_list(
    name: str, element: object, beside: bool
) -> None:
    data = LEAST | {name: [*([GOOD_ELEMENTS[name]] if beside else []), element]}
    assert reason(json.dumps(event(data=data)).encode()).startswith(f"User.{name}.{int(beside)}")
    # A part that cannot be stored, elsewhere, makes no difference.
    hostile = json.dumps(event(data=data | {"first_name": "\0", "unsafe_metadata": {"a": "\0"}}))
    assert reason(hostile.encode()).startswith(f"User.{name}.{int(beside)}")
    listed = json.dumps(data).encode()
    assert read_user(listed) is None
    with pytest.raises(UnusableEvent, match=rf"User\.{name}\.{int(beside)}"):
        changes_of_object("user", listed, MILLISECONDS, MILLISECONDS)


@pytest.mark.parametrize("body", ["[]", "null", "7", '"user_1"', "{", '{"\\ud800":}'])
def test_an_element_among_users_that_is_no_object_is_unusable(body: str) -> None:
    with pytest.raises(UnusableEvent, match=r"^User"):
        changes_of_object("user", body.encode(), MILLISECONDS, MILLISECONDS)


@pytest.mark.parametrize("name", LISTS)
def test_an_element_may_lack_its_id_and_is_kept(name: str) -> None:
    element = {key: value for key, value in GOOD_ELEMENTS[name].items() if key != "id"}
    for sent in (element, element | {"id": None}):
        [kept] = user(**{name: [sent]}).columns()[name]
        assert kept["id"] is None
        fast = read_user(json.dumps(LEAST | {name: [sent]}).encode())
        assert fast is not None
        assert fast.columns()[name] == [kept]


def test_an_address_without_a_verification_is_not_verified() -> None:
    parsed = user(email_addresses=[{"id": "idn_1", "email_address": "ada@example.test", "verification": None}])
    assert not parsed.email_addresses[0].verified


def test_a_verification_without_its_object_is_read_by_its_status() -> None:
    # Older deliveries lack `object`; the SDK then refuses the whole page.
    parsed = user(
        email_addresses=[
            {"email_address": "a@example.test", "verification": {"status": "verified", "strategy": "anything"}},
            {"email_address": "b@example.test", "verification": {"status": "unverified"}},
            {"email_address": "c@example.test", "verification": {}},
        ]
    )
    assert [each.verified for each in parsed.email_addresses] == [True, False, False]


@pytest.mark.parametrize("object_name", ["user", "User", None, 5])
def test_the_field_with_the_type_of_an_object_is_not_read(object_name: object) -> None:
    assert user(object=object_name).id == "user_1"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", None),
        ("id", ""),
        ("id", 5),
        ("updated_at", None),
        ("updated_at", -1),
        ("updated_at", 10**18),
        ("created_at", "long ago"),
        ("external_id", ["42"]),
        ("public_metadata", "text"),
        ("banned", "perhaps"),
        ("banned", None),
        ("banned", 0),
        ("locked", "false"),
    ],
)
def test_the_reason_names_the_field_that_is_wrong(field: str, value: object) -> None:
    data = event()["data"] | {field: value}
    assert reason(json.dumps(event(data=data)).encode()).startswith(f"User.{field}: ")


def test_the_reason_names_the_place_in_a_list() -> None:
    organization = samples.organization("org_1", created_at=1, updated_at=1)
    member = samples.user("user_1", created_at=1, updated_at=1)
    data = samples.membership("orgmem_1", organization, member, created_at=1, updated_at=1, permissions=["a", None])
    body = json.dumps(event(type="organizationMembership.updated", data=data)).encode()
    assert reason(body).startswith("Membership.permissions.1: ")


def test_the_reason_says_how_much_more_is_wrong() -> None:
    data = event()["data"] | {"id": None, "updated_at": None, "banned": "perhaps"}
    assert reason(json.dumps(event(data=data)).encode()).endswith("(and 2 more)")


def test_a_deleted_user_without_an_id_is_unusable() -> None:
    body = json.dumps(event(type="user.deleted", data={"deleted": True, "object": "user"})).encode()
    assert reason(body) == "DeletedObject.id: Field required"


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[]", b"null", b'"secret"', b"[" * 1000])
def test_a_body_that_is_no_event_is_unusable(body: bytes) -> None:
    assert reason(body).startswith("event: ")


def test_a_type_that_is_not_synced_is_unusable_here() -> None:
    assert "not a type that is synced" in reason(json.dumps(event(type="email.created")).encode())


PRIVATE = "a private value"

hostile = st.recursive(
    st.sampled_from([PRIVATE, None, True, -1, 1.5, 10**20]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["id", "verification"]), inner),
    max_leaves=4,
)


@given(
    envelope=st.dictionaries(st.sampled_from(["type", "timestamp", "data"]), hostile, min_size=1),
    data=st.dictionaries(st.sampled_from([*User.model_fields]), hostile, min_size=1),
    cut=st.none() | st.integers(0, 500),
)
@example(envelope={"type": PRIVATE}, data={}, cut=None)
@example(envelope={"timestamp": PRIVATE}, data={}, cut=None)
@example(envelope={"data": PRIVATE}, data={}, cut=None)
@example(envelope={}, data={"email_addresses": [PRIVATE]}, cut=None)
def test_the_reason_never_holds_what_was_sent(envelope: dict[str, Any], data: dict[str, Any], cut: int | None) -> None:
    sent = {**event(), **envelope}
    if isinstance(sent["data"], dict):
        sent["data"] = {**event()["data"], **sent["data"], **data}
    body = json.dumps(sent).encode()[:cut]
    refusal: UnusableEvent | None = None
    try:
        changes_of(parse_event(body), MILLISECONDS)
    except UnusableEvent as unusable:
        refusal = unusable
    # A traceback shows what an error was raised from, too.
    said = "".join(traceback.format_exception(refusal)) if refusal else ""
    assert PRIVATE not in said
    assert "example.test" not in said
    assert str(10**20) not in said
