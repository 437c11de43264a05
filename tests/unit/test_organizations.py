"""Organizations, memberships, invitations and domains: their mirrored fields, and their references to each other."""

from __future__ import annotations

import json
from collections.abc import Callable
from inspect import signature
from typing import Any

import pytest

from clerk_supabase.errors import UnusableEvent
from clerk_supabase.model.changes import Change, Changes, Delete, Upsert, Version, changes_of, changes_of_object
from clerk_supabase.model.events import parse_event
from clerk_supabase.reconcile.corrections.repairs import DirectRepairs, QueueRepairs
from clerk_supabase.reconcile.pages import ReconcileSettings
from clerk_supabase.sync import Sync
from clerk_supabase_cli.standin import samples
from clerk_supabase_cli.standin.samples import Json

BEGINNING = 1_600_000_000_000
HAPPENED_AT = BEGINNING + 9
SECRET = "a secret value"

TIMES = {"created_at": BEGINNING, "updated_at": BEGINNING}
USER = samples.user("user_1", **TIMES)
VERIFIED = {"status": "verified", "strategy": "affiliation_email_code", "attempts": 1, "expire_at": BEGINNING}


def organization(org_id: str = "org_1", **fields: Any) -> Json:
    return samples.organization(org_id, **TIMES) | fields


def membership(**fields: Any) -> Json:
    return samples.membership("orgmem_1", organization(), USER, **TIMES) | fields


def public_user_data(user_id: str = "user_1", **fields: Any) -> Json:
    known: Json = membership()["public_user_data"]
    return known | {"user_id": user_id} | fields


def invitation(**fields: Any) -> Json:
    return samples.invitation("orginv_1", "org_1", **TIMES) | fields


def domain(**fields: Any) -> Json:
    return samples.domain("orgdmn_1", "org_1", **TIMES) | fields


EVERY_KIND = [
    ("organization.updated", organization()),
    ("organizationMembership.updated", membership()),
    ("organizationInvitation.accepted", invitation()),
    ("organizationDomain.updated", domain()),
]


def changes(event_type: str, data: Json, *, keep_private_metadata: bool = False) -> Changes:
    body = json.dumps(samples.event(event_type, data, timestamp=HAPPENED_AT)).encode()
    return changes_of(parse_event(body), HAPPENED_AT, keep_private_metadata=keep_private_metadata)


def content(change: Change) -> Json:
    assert isinstance(change, Upsert)
    return dict(change.content)


def row(event_type: str, data: Json) -> Json:
    return content(changes(event_type, data).main)


def reason(event_type: str, data: Json) -> str:
    with pytest.raises(UnusableEvent) as caught:
        changes(event_type, data)
    return str(caught.value)


# Every field a user would ask for


def test_everything_an_app_shows_of_an_organization_is_mirrored() -> None:
    assert row("organization.created", organization(public_metadata={"plan": "pro"}, has_image=True)) == {
        "clerk_org_id": "org_1",
        "name": "Example Labs",
        "slug": "org-1",
        "image_url": "https://img.example.test/organization",
        "has_image": True,
        "public_metadata": {"plan": "pro"},
        "max_allowed_memberships": 5,
        "admin_delete_enabled": True,
        "created_by": "user_founder",
        "created_at": "2020-09-13T12:26:40+00:00",
    }


def test_everything_an_app_shows_of_a_membership_is_mirrored() -> None:
    assert row("organizationMembership.created", membership(public_metadata={"desk": 7})) == {
        "clerk_membership_id": "orgmem_1",
        "clerk_org_id": "org_1",
        "clerk_user_id": "user_1",
        "role": "org:member",
        "role_name": "Member",
        "permissions": ["org:sys_memberships:read"],
        "public_metadata": {"desk": 7},
        "created_at": "2020-09-13T12:26:40+00:00",
    }


def test_everything_an_app_shows_of_an_invitation_is_mirrored_but_its_secret_link() -> None:
    accepted = invitation(status="accepted", user_id="user_2", public_metadata={"team": "a"})
    assert row("organizationInvitation.accepted", accepted) == {
        "clerk_invitation_id": "orginv_1",
        "clerk_org_id": "org_1",
        "email_address": "guest@example.test",
        "role": "org:member",
        "role_name": "Member",
        "status": "accepted",
        "inviter_id": "user_founder",
        "accepted_by": "user_2",
        "public_metadata": {"team": "a"},
        "expires_at": "2020-10-13T12:26:40+00:00",
        "created_at": "2020-09-13T12:26:40+00:00",
    }


def test_everything_an_app_shows_of_a_domain_is_mirrored() -> None:
    sent = domain(
        affiliation_email_address="ada@example.test",
        affiliation_verification=VERIFIED,
        ownership_verification={"status": "unverified"},
    )
    assert row("organizationDomain.created", sent) == {
        "clerk_domain_id": "orgdmn_1",
        "clerk_org_id": "org_1",
        "name": "example.test",
        "enrollment_mode": "manual_invitation",
        "affiliation_email_address": "ada@example.test",
        "affiliation_verified": True,
        "ownership_verified": False,
        "created_at": "2020-09-13T12:26:40+00:00",
    }


def test_fields_that_clerk_did_not_send_stay_unknown() -> None:
    least: Json = {
        "id": "orgmem_1",
        "updated_at": BEGINNING,
        "role": "org:member",
        "organization": {"id": "org_1"},
        "public_user_data": {"user_id": "user_2"},
    }
    found = changes("organizationMembership.updated", least)
    unknown = {
        each.id: {name for name, value in content(each).items() if value} for each in (found.main, *found.companions)
    }
    assert unknown == {
        "orgmem_1": {"clerk_membership_id", "clerk_org_id", "clerk_user_id", "role"},
        "org_1": {"clerk_org_id"},
        "user_2": {"clerk_id"},
    }


@pytest.mark.parametrize(("event_type", "data"), EVERY_KIND)
def test_times_are_read_as_milliseconds(event_type: str, data: Json) -> None:
    sent = data | {"created_at": 1_600_000_000_007, "updated_at": 1_600_000_000_008}
    result = changes(event_type, sent).main
    assert content(result)["created_at"] == "2020-09-13T12:26:40.007000+00:00"
    assert isinstance(result, Upsert)
    assert result.version == Version(1_600_000_000_008, HAPPENED_AT)


def test_counts_that_move_without_an_event_change_no_content() -> None:
    moved: dict[str, Any] = {
        "members_count": 7,
        "pending_invitations_count": 3,
        "last_active_at": HAPPENED_AT,
        "updated_at": 5,
    }
    assert row("organization.updated", organization(**moved)) == row("organization.updated", organization())


@pytest.mark.parametrize(("event_type", "data"), EVERY_KIND)
def test_secret_fields_are_never_mirrored(event_type: str, data: Json) -> None:
    secret = {"note": SECRET}
    sent = data | {"url": f"https://clerk.example.test/{SECRET}", "private_metadata": secret}
    sent |= {"public_inviter_data": secret, "public_organization_data": secret, "ticket": SECRET}
    if "organization" in sent:
        sent["organization"] = organization(private_metadata=secret)
        sent["public_user_data"] = public_user_data(identifier=SECRET)
    result = changes(event_type, sent)
    for each in (result.main, *result.companions):
        assert SECRET not in json.dumps(content(each))


# Roles


@pytest.mark.parametrize(
    ("sent", "mirrored"),
    [
        ("org:admin", "org:admin"),
        ("org:member", "org:member"),
        ("org:billing_manager", "org:billing_manager"),
        ("admin", "org:admin"),
        ("basic_member", "org:member"),
        ("billing_manager", "org:billing_manager"),
        ("org:basic_member", "org:basic_member"),
    ],
)
def test_a_role_is_always_spelled_with_its_prefix(sent: str, mirrored: str) -> None:
    assert row("organizationMembership.created", membership(role=sent))["role"] == mirrored
    assert row("organizationInvitation.created", invitation(role=sent))["role"] == mirrored


# Lenient


NEEDED = {
    "organization.updated": {"id", "updated_at"},
    "organizationMembership.updated": {"id", "updated_at", "role", "organization", "public_user_data"},
    "organizationInvitation.accepted": {"id", "updated_at", "role", "organization_id"},
    "organizationDomain.updated": {"id", "updated_at", "organization_id"},
}


@pytest.mark.parametrize(("event_type", "data"), EVERY_KIND)
def test_fields_that_are_not_needed_may_be_missing_or_null(event_type: str, data: Json) -> None:
    optional = data.keys() - NEEDED[event_type]
    missing = {name: data[name] for name in data.keys() - optional}
    assert row(event_type, missing) == row(event_type, missing | dict.fromkeys(optional))


@pytest.mark.parametrize(
    ("event_type", "data", "name"),
    [(event_type, data, name) for event_type, data in EVERY_KIND for name in sorted(NEEDED[event_type])],
)
def test_the_reason_names_what_is_missing(event_type: str, data: Json, name: str) -> None:
    without = {key: each for key, each in data.items() if key != name}
    assert reason(event_type, without).endswith(f".{name}: Field required")


@pytest.mark.parametrize(("event_type", "data"), EVERY_KIND)
def test_fields_that_clerk_adds_later_do_no_harm(event_type: str, data: Json) -> None:
    assert row(event_type, data | {"field_of_tomorrow": {"deep": [1]}}) == row(event_type, data)


@pytest.mark.parametrize("status", ["verified", "unverified", "failed", "expired", "transferable", None])
def test_a_domain_is_verified_only_when_clerk_says_so(status: Any) -> None:
    result = row(
        "organizationDomain.created",
        domain(affiliation_verification={"status": status}, ownership_verification={"status": status}),
    )
    assert (result["affiliation_verified"], result["ownership_verified"]) == ((status == "verified"),) * 2


def test_the_older_name_of_a_domains_verification_is_understood() -> None:
    old = domain(verification=VERIFIED)
    del old["affiliation_verification"]
    assert row("organizationDomain.created", old)["affiliation_verified"]


def test_the_newer_name_of_a_domains_verification_wins_over_the_older() -> None:
    both = domain(affiliation_verification={"status": "expired"}, verification={"status": "verified"})
    assert not row("organizationDomain.created", both)["affiliation_verified"]


def test_a_domain_without_any_verification_is_not_verified() -> None:
    none = domain(affiliation_verification=None, ownership_verification=None, verification=None)
    result = row("organizationDomain.created", none)
    assert (result["affiliation_verified"], result["ownership_verified"]) == (False, False)


# Deletes


@pytest.mark.parametrize(
    ("event_type", "data", "kind"),
    [
        ("organization.deleted", {"object": "organization", "id": "org_1", "deleted": True}, "organization"),
        ("organization.deleted", {"id": "org_1", "slug": "example", "deleted": True}, "organization"),
        ("organizationMembership.deleted", membership(id="org_1", updated_at=BEGINNING - 1), "membership"),
        ("organizationDomain.deleted", {"id": "org_1", "deleted": True}, "domain"),
    ],
)
def test_a_delete_is_dated_by_its_event_and_brings_nothing_along(event_type: str, data: Json, kind: Any) -> None:
    # A deleted membership comes whole, with an updated_at that is older than what is known.
    assert changes(event_type, data) == Changes(Delete(kind, "org_1", HAPPENED_AT))


# Parents that may not have arrived


def stubs(event_type: str, data: Json) -> dict[str, Json]:
    """The companions of a change, by kind; all of them must be older than any object of Clerk."""
    found = changes(event_type, data).companions
    assert all(isinstance(each, Upsert) and each.version.source_updated_at == 0 for each in found)
    return {each.kind: content(each) for each in found}


def test_a_membership_brings_its_organization_as_it_is_embedded() -> None:
    embedded = organization("org_7", name="Embedded", public_metadata={"plan": "pro"})
    brought = stubs("organizationMembership.created", membership(organization=embedded))
    assert brought["organization"] == row("organization.created", embedded)


def test_a_membership_brings_its_user_with_all_that_is_known_and_nothing_more() -> None:
    flags = {"has_image": True, "banned": True, "deprovisioned": True}
    known = public_user_data("user_7", username="ada", first_name="Ada", **flags)
    user = stubs("organizationMembership.created", membership(public_user_data=known))["user"]
    assert user["clerk_id"] == "user_7"
    assert (user["username"], user["first_name"], user["last_name"]) == ("ada", "Ada", "Example")
    assert {name: user[name] for name in flags} == flags
    assert (user["email"], user["email_addresses"], user["created_at"]) == (None, [], None)


@pytest.mark.parametrize(
    ("event_type", "data"),
    [
        ("organizationInvitation.created", invitation(organization_id="org_7")),
        ("organizationDomain.created", domain(organization_id="org_7")),
    ],
)
def test_an_invitation_or_a_domain_brings_an_organization_of_which_only_the_id_is_known(
    event_type: str, data: Json
) -> None:
    [(kind, brought)] = stubs(event_type, data).items()
    assert (kind, brought["clerk_org_id"], brought["name"]) == ("organization", "org_7", None)


def test_among_stubs_the_one_seen_later_is_newer_and_a_bare_one_is_oldest() -> None:
    embedded = organization(updated_at=BEGINNING + 5)
    organization_stub, user_stub = changes(
        "organizationMembership.updated", membership(organization=embedded, updated_at=BEGINNING + 7)
    ).companions
    [bare_stub] = changes("organizationInvitation.created", invitation()).companions
    assert isinstance(organization_stub, Upsert)
    assert isinstance(user_stub, Upsert)
    assert isinstance(bare_stub, Upsert)
    assert organization_stub.version == Version(0, BEGINNING + 5)
    assert user_stub.version == Version(0, BEGINNING + 7)
    assert bare_stub.version == Version(0, 0)


def test_a_user_and_an_organization_bring_nobody() -> None:
    assert stubs("organization.created", organization()) == {}
    assert stubs("user.created", USER) == {}


@pytest.mark.parametrize("name", ["name", "slug", "updated_at", "created_at", "image_url"])
def test_of_an_embedded_organization_only_the_id_is_needed(name: str) -> None:
    embedded = {key: each for key, each in organization().items() if key != name}
    assert "organization" in stubs("organizationMembership.created", membership(organization=embedded))


# Private metadata


@pytest.mark.parametrize(
    ("event_type", "data"),
    [
        ("user.updated", USER),
        ("organization.updated", organization()),
        ("organizationMembership.updated", membership()),
    ],
)
def test_private_metadata_comes_along_only_when_it_is_to_be_kept(event_type: str, data: Json) -> None:
    sent = data | {"private_metadata": {"note": SECRET}}
    assert "private_metadata" not in {each.kind for each in changes(event_type, sent).companions}

    kept = changes(event_type, sent, keep_private_metadata=True)
    expected = {"entity_id": data["id"], "private_metadata": {"note": SECRET}}
    assert kept.companions[-1] == Upsert("private_metadata", data["id"], Version(BEGINNING, HAPPENED_AT), expected)
    assert SECRET not in json.dumps(content(kept.main))


def test_private_metadata_is_deleted_with_its_object() -> None:
    gone = changes("organization.deleted", {"id": "org_1", "deleted": True}, keep_private_metadata=True)
    assert gone.companions == (Delete("private_metadata", "org_1", HAPPENED_AT),)


@pytest.mark.parametrize(("event_type", "data"), EVERY_KIND[2:])
def test_private_metadata_of_invitations_is_not_kept(event_type: str, data: Json) -> None:
    result = changes(event_type, data | {"private_metadata": {"note": SECRET}}, keep_private_metadata=True)
    assert [each.kind for each in result.companions] == ["organization"]


# Clocks


def test_an_event_more_than_a_day_ahead_is_unusable_and_one_less_ahead_is_not() -> None:
    day = 86_400_000
    event = samples.event("organization.updated", organization(), timestamp=HAPPENED_AT)
    parsed = parse_event(json.dumps(event).encode())
    assert changes_of(parsed, HAPPENED_AT - day).main.id == "org_1"
    with pytest.raises(UnusableEvent, match="more than a day ahead"):
        changes_of(parsed, HAPPENED_AT - day - 1)


@pytest.mark.parametrize("updated_at", [32_503_680_000_000, 253_402_300_799_999])
def test_an_object_from_the_year_2999_is_unusable_so_that_true_events_still_win(updated_at: int) -> None:
    assert "ahead" in reason("organization.updated", organization(updated_at=updated_at))


@pytest.mark.parametrize(
    "keeper", [changes_of, changes_of_object, Sync, DirectRepairs, QueueRepairs, ReconcileSettings]
)
def test_private_metadata_is_kept_nowhere_without_the_setting(keeper: Callable[..., object]) -> None:
    assert signature(keeper).parameters["keep_private_metadata"].default is False
