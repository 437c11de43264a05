"""From an event to a change: versions, and the mirrored fields of a user."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clerk_supabase.errors import UnusableEvent
from clerk_supabase.model.changes import Change, Delete, Upsert, Version, changes_of
from clerk_supabase.model.clerk_object import parse_object
from clerk_supabase.model.events import parse_event
from clerk_supabase.model.user_struct import read_user
from clerk_supabase.model.users import User
from clerk_supabase_cli.standin import samples

CREATED_AT = 1_600_000_000_000
UPDATED_AT = 1_600_000_000_777
HAPPENED_AT = 1_600_000_001_234


def user(**changes: Any) -> dict[str, Any]:
    return samples.user("user_1", created_at=CREATED_AT, updated_at=UPDATED_AT) | changes


def change(data: dict[str, Any], event_type: str = "user.updated") -> Change:
    event = samples.event(event_type, data, timestamp=HAPPENED_AT)
    return changes_of(parse_event(json.dumps(event).encode()), HAPPENED_AT).main


def content(**changes: Any) -> dict[str, Any]:
    result = change(user(**changes))
    assert isinstance(result, Upsert)
    return dict(result.content)


def email(identifier: str, status: str = "verified") -> dict[str, Any]:
    return samples.email_address(identifier, f"{identifier}@example.test", CREATED_AT, status=status)


# Versions


@pytest.mark.parametrize("event_type", ["user.created", "user.updated"])
def test_clerks_clock_versions_a_change_first_by_the_users_then_by_the_events_time(event_type: str) -> None:
    result = change(user(), event_type)
    assert isinstance(result, Upsert)
    assert (result.kind, result.id) == ("user", "user_1")
    assert result.version == Version(UPDATED_AT, HAPPENED_AT)


def test_created_and_updated_mean_the_same_change() -> None:
    assert change(user(), "user.created") == change(user(), "user.updated")


def test_a_delete_is_dated_by_its_event_because_it_has_no_other_time() -> None:
    assert change(samples.deleted("user", "user_1"), "user.deleted") == Delete("user", "user_1", HAPPENED_AT)


def test_an_external_id_in_a_delete_does_no_harm() -> None:
    data = samples.deleted("user", "user_1") | {"external_id": "42"}
    assert change(data, "user.deleted") == Delete("user", "user_1", HAPPENED_AT)


def test_a_type_that_is_not_synced_has_no_meaning() -> None:
    with pytest.raises(UnusableEvent):
        change(user(), "user.unheardOf")


# Primary identifiers


def test_the_primary_email_is_the_one_clerk_names_not_the_first() -> None:
    result = content(
        email_addresses=[email("idn_old"), email("idn_primary"), email("idn_new")],
        primary_email_address_id="idn_primary",
    )
    assert result["email"] == "idn_primary@example.test"
    assert result["email_verified"] is True


def test_a_primary_email_that_is_not_verified_is_marked_so() -> None:
    result = content(email_addresses=[email("idn_1"), email("idn_2", "unverified")], primary_email_address_id="idn_2")
    assert result["email"] == "idn_2@example.test"
    assert result["email_verified"] is False


@pytest.mark.parametrize("primary", [None, "", "idn_gone"])
def test_without_a_primary_email_there_is_none_whatever_addresses_there_are(primary: str | None) -> None:
    result = content(email_addresses=[email("idn_1")], primary_email_address_id=primary)
    assert result["email"] is None
    assert result["email_verified"] is False
    assert len(result["email_addresses"]) == 1


def test_an_address_without_an_id_is_not_mistaken_for_the_primary_one() -> None:
    address = {**email("idn_1"), "id": None}
    assert content(email_addresses=[address], primary_email_address_id=None)["email"] is None


def test_a_user_without_any_address_has_no_email() -> None:
    assert content(email_addresses=[], primary_email_address_id=None)["email"] is None


def test_the_primary_phone_number_is_the_one_clerk_names() -> None:
    phones = [
        {"id": "idn_a", "phone_number": "+15550100", "verification": {"status": "verified"}},
        {"id": "idn_b", "phone_number": "+15550199", "verification": None},
    ]
    result = content(phone_numbers=phones, primary_phone_number_id="idn_b")
    assert result["phone"] == "+15550199"
    assert result["phone_verified"] is False


# Mirrored fields


def test_times_are_written_with_their_milliseconds_in_utc() -> None:
    assert content(created_at=1_600_000_000_007)["created_at"] == "2020-09-13T12:26:40.007000+00:00"
    assert content(legal_accepted_at=None)["legal_accepted_at"] is None


@given(st.integers(0, 253_402_300_799_999))
def test_every_time_that_clerk_can_send_keeps_its_millisecond(milliseconds: int) -> None:
    written = datetime.fromisoformat(content(created_at=milliseconds)["created_at"])
    assert written - datetime(1970, 1, 1, tzinfo=UTC) == timedelta(milliseconds=milliseconds)


def test_a_sign_in_changes_no_content() -> None:
    signed_in = {"last_sign_in_at": UPDATED_AT, "last_active_at": UPDATED_AT, "updated_at": UPDATED_AT}
    assert content(**signed_in) == content()


def test_private_metadata_and_backup_codes_are_never_mirrored() -> None:
    private = "a private value"
    result = content(
        private_metadata={"note": private},
        phone_numbers=[{"id": "idn_1", "phone_number": "+15550100", "backup_codes": [private]}],
        passkeys=[{"id": "pk_1", "name": private}],
        scim={"directory_id": private},
        totp_secret=private,
        external_accounts=[
            {"id": "eac_1", "provider": "oauth_google", "public_metadata": {"note": private}, "label": private}
        ],
        email_addresses=[{**email("idn_1"), "linked_to": [{"id": private}]}],
    )
    assert private not in json.dumps(result)


def test_everything_an_app_shows_of_a_user_is_mirrored() -> None:
    result = content(
        external_id="42",
        username="ada",
        locale="de-CH",
        has_image=True,
        banned=True,
        locked=True,
        deprovisioned=True,
        two_factor_enabled=True,
        public_metadata={"plan": "pro"},
        unsafe_metadata={"theme": "dark"},
        legal_accepted_at=CREATED_AT,
        email_addresses=[email("idn_1")],
        primary_email_address_id="idn_1",
        primary_web3_wallet_id="idn_w",
        web3_wallets=[{"id": "idn_w", "web3_wallet": "0x0", "verification": {"status": "verified"}}],
        external_accounts=[
            {
                "id": "idn_g",
                "external_account_id": "eac_1",
                "provider": "oauth_google",
                "provider_user_id": "1",
                "email_address": "ada@example.test",
                "username": None,
                "verification": {"status": "verified"},
            }
        ],
    )
    assert result == {
        "clerk_id": "user_1",
        "external_id": "42",
        "username": "ada",
        "first_name": "Ada",
        "last_name": "Example",
        "email": "idn_1@example.test",
        "email_verified": True,
        "phone": None,
        "phone_verified": False,
        "image_url": "https://img.example.test/1",
        "has_image": True,
        "locale": "de-CH",
        "public_metadata": {"plan": "pro"},
        "unsafe_metadata": {"theme": "dark"},
        "email_addresses": [
            {"id": "idn_1", "email_address": "idn_1@example.test", "verified": True},
        ],
        "phone_numbers": [],
        "web3_wallets": [{"id": "idn_w", "web3_wallet": "0x0", "verified": True}],
        "external_accounts": [
            {
                "id": "idn_g",
                "external_account_id": "eac_1",
                "provider": "oauth_google",
                "provider_user_id": "1",
                "email_address": "ada@example.test",
                "username": None,
                "verified": True,
            }
        ],
        "primary_web3_wallet_id": "idn_w",
        "enterprise_accounts": [],
        "password_enabled": True,
        "two_factor_enabled": True,
        "banned": True,
        "locked": True,
        "deprovisioned": True,
        "legal_accepted_at": "2020-09-13T12:26:40+00:00",
        "created_at": "2020-09-13T12:26:40+00:00",
    }


def account(**changes: Any) -> Any:
    """The mirrored account of an event; the same as in Clerk's list of users."""
    fast = read_user(json.dumps(user(external_accounts=[changes])).encode())
    assert fast is not None
    [mirrored] = content(external_accounts=[changes])["external_accounts"]
    assert fast.columns()["external_accounts"] == [mirrored]
    return mirrored


def test_an_account_of_google_is_the_same_in_the_shape_before_2025_except_for_its_id_to_delete_it_by() -> None:
    today = account(**samples.google_account(7, "ada@example.test", CREATED_AT))
    before = account(**samples.google_account_before_2025(7, "ada@example.test", CREATED_AT))
    assert today["external_account_id"] == "eac_google_7"
    assert (today["provider"], today["provider_user_id"], today["verified"]) == ("oauth_google", "7", True)
    assert before == today | {"external_account_id": None}


@pytest.mark.parametrize(
    ("sent", "provider", "provider_user_id"),
    [
        ({"object": "google_account", "google_id": "7"}, "oauth_google", "7"),
        ({"object": "facebook_account", "facebook_id": "8"}, "oauth_facebook", "8"),
        ({"object": "google_account", "google_id": "7", "provider": None, "provider_user_id": ""}, "oauth_google", "7"),
        (
            {"object": "google_account", "google_id": "7", "provider": "oauth_x", "provider_user_id": "9"},
            "oauth_x",
            "9",
        ),
        ({"object": "google_account"}, "oauth_google", None),
        ({"object": "external_account", "provider": "oauth_github", "provider_user_id": "9"}, "oauth_github", "9"),
        ({"object": "tiktok_account", "tiktok_id": "9"}, None, None),
        ({}, None, None),
    ],
)
def test_the_provider_of_an_account_and_its_id_there_are_known_in_every_shape(
    sent: dict[str, Any], provider: str | None, provider_user_id: str | None
) -> None:
    mirrored = account(**sent)
    assert (mirrored["provider"], mirrored["provider_user_id"]) == (provider, provider_user_id)


def test_the_id_for_deleting_an_account_is_known_although_the_field_external_account_id_is_missing() -> None:
    assert account(id="eac_1", identification_id="idn_1")["external_account_id"] == "eac_1"
    assert account(id="idn_1", identification_id="idn_1")["external_account_id"] is None


TODAY = samples.enterprise_account(7, "ada@example.test", CREATED_AT)
OLDER = samples.saml_account(7, "ada@example.test", CREATED_AT)
MIRRORED_ACCOUNT = {
    "id": "entacc_7",
    "protocol": "saml",
    "provider": "saml_custom",
    "provider_user_id": "7",
    "email_address": "ada@example.test",
    "active": True,
    "enterprise_connection_id": "entconn_1",
    "verified": True,
}
OAUTH = {"id": "entacc_8", "protocol": "oauth", "provider": "oauth_custom"}
AT_OTHERS = {"id": "samlacc_9", "email_address": "ada@other.test"}


@pytest.mark.parametrize(
    ("sent", "mirrored"),
    [
        ({"enterprise_accounts": [TODAY], "saml_accounts": []}, [{}]),
        ({"enterprise_accounts": [TODAY], "saml_accounts": None}, [{}]),
        ({"enterprise_accounts": [TODAY]}, [{}]),
        ({"enterprise_accounts": [], "saml_accounts": [OLDER]}, [{}]),
        ({"enterprise_accounts": None, "saml_accounts": [OLDER]}, [{}]),
        ({"saml_accounts": [OLDER]}, [{}]),
        ({}, []),
        # One account in both lists, by its id or by its address.
        ({"enterprise_accounts": [TODAY], "saml_accounts": [OLDER]}, [{}]),
        (
            {
                "enterprise_accounts": [TODAY],
                "saml_accounts": [OLDER | {"id": "samlacc_7", "email_address": "Ada@example.test"}],
            },
            [{}],
        ),
        # Different accounts.
        ({"enterprise_accounts": [TODAY | OAUTH], "saml_accounts": [OLDER]}, [OAUTH, {}]),
        ({"enterprise_accounts": [TODAY], "saml_accounts": [OLDER | AT_OTHERS]}, [{}, AT_OTHERS]),
        # Without a verification or a connection.
        ({"enterprise_accounts": [TODAY | {"verification": None}]}, [{"verified": False}]),
        ({"enterprise_accounts": [TODAY | {"enterprise_connection": None}]}, [{}]),
        ({"enterprise_accounts": [TODAY | {"enterprise_connection_id": None}]}, [{}]),
        ({"saml_accounts": [OLDER | {"saml_connection": None}]}, [{"enterprise_connection_id": None}]),
    ],
)
def test_the_accounts_at_companies_are_mirrored_from_the_newer_and_the_older_list(
    sent: dict[str, Any], mirrored: list[dict[str, Any]]
) -> None:
    others = {name: each for name, each in user().items() if name not in {"enterprise_accounts", "saml_accounts"}}
    found = parse_object(User, others | sent).columns()["enterprise_accounts"]
    assert found == [MIRRORED_ACCOUNT | each for each in mirrored]
    fast = read_user(json.dumps(others | sent).encode())
    assert (fast is None) is (None in sent.values())
    assert fast is None or fast.columns()["enterprise_accounts"] == found


def test_nulls_where_clerk_sends_objects_leave_empty_ones() -> None:
    result = content(public_metadata=None, unsafe_metadata=None)
    assert (result["public_metadata"], result["unsafe_metadata"]) == ({}, {})
