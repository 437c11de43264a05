"""The events of the folder `events`: the first trials of a reader must work as the documents say."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from clerk_supabase.aws.queue import messages_of
from clerk_supabase.errors import SignatureRejected, UnusableEvent
from clerk_supabase.ingest import Request
from clerk_supabase.model.changes import Change, Delete, Upsert, changes_of
from clerk_supabase.model.events import parse_event
from clerk_supabase.model.found_kinds import SYNCED_TYPES
from clerk_supabase.signature import Verifier
from clerk_supabase_cli.event_types import CLERKS_TYPES
from clerk_supabase_cli.project import find_root
from clerk_supabase_cli.standin.deliveries import SignedRequest, api_gateway_event, generate_secret
from clerk_supabase_cli.standin.sample_events import NoSuchSample, UnusableId, sample_event, sample_names
from tests.kit.kinds import OUR_TYPES
from tests.kit.parked import Command

EVENTS = find_root(Path(__file__).parent) / "events"
BODIES = sorted((EVENTS / "clerk").glob("*.json"))
SYNCED = [file for file in BODIES if json.loads(file.read_bytes())["type"] in SYNCED_TYPES]
NOT_SYNCED = [file for file in BODIES if file not in SYNCED]
RECEIVED_AT = 1_763_800_000_000


def change(name: str) -> Change:
    return changes_of(parse_event((EVENTS / "clerk" / name).read_bytes()), RECEIVED_AT).main


def content(name: str) -> dict[str, Any]:
    result = change(name)
    assert isinstance(result, Upsert)
    return dict(result.content)


@pytest.mark.parametrize("file", SYNCED, ids=lambda file: file.stem)
def test_a_sample_of_a_synced_type_means_a_change_of_its_object(file: Path) -> None:
    sample = json.loads(file.read_bytes())
    result = change(file.name)
    assert result.id == sample["data"]["id"]
    assert isinstance(result, Delete) is sample["type"].endswith(".deleted")


@pytest.mark.parametrize("file", NOT_SYNCED, ids=lambda file: file.stem)
def test_a_sample_of_another_type_means_no_change(file: Path) -> None:
    with pytest.raises(UnusableEvent, match="not a type that is synced"):
        change(file.name)


def test_there_is_a_sample_of_every_type_that_is_synced() -> None:
    assert {json.loads(file.read_bytes())["type"] for file in SYNCED} >= OUR_TYPES


def test_in_the_sample_with_several_addresses_the_primary_one_is_not_the_first() -> None:
    result = content("user.updated.primary-email-not-first.json")
    assert result["email"] is not None
    assert result["email"] != result["email_addresses"][0]["email_address"]


def test_the_sample_of_a_user_with_a_phone_only_has_no_email() -> None:
    result = content("user.created.phone-only.json")
    assert result["email"] is None
    assert result["phone"] is not None


def test_the_samples_of_both_shapes_of_a_google_account_name_the_same_account() -> None:
    [today] = content("user.created.google.json")["external_accounts"]
    [before] = content("user.created.google-before-2025.json")["external_accounts"]
    assert before == today | {"external_account_id": None}
    assert (today["provider"], today["provider_user_id"]) == ("oauth_google", "10000000000000000001")


def test_the_sample_of_a_user_of_a_company_has_one_account_in_both_lists() -> None:
    [account] = content("user.created.enterprise.json")["enterprise_accounts"]
    assert (account["id"], account["protocol"], account["verified"]) == ("entacc_2SampleE", "saml", True)


def test_the_sample_with_a_timestamp_in_seconds_is_dated_like_the_others() -> None:
    result = change("user.updated.timestamp-in-seconds.json")
    assert isinstance(result, Upsert)
    assert result.version.observed_at > 1_000_000_000_000


def test_the_sample_of_ingest_has_the_shape_of_a_signed_request() -> None:
    event = json.loads((EVENTS / "ingest.json").read_bytes())
    request = Request.from_api_gateway(event)
    assert api_gateway_event(SignedRequest(event["headers"], request.body)).keys() == event.keys()
    assert parse_event(request.body).type in SYNCED_TYPES


def test_the_sample_of_ingest_is_refused_because_a_stored_signature_is_soon_too_old() -> None:
    request = Request.from_api_gateway(json.loads((EVENTS / "ingest.json").read_bytes()))
    with pytest.raises(SignatureRejected, match="too old"):
        Verifier([generate_secret()]).verify(request.body, request.headers)


def test_every_message_of_the_sample_of_sync_can_be_applied() -> None:
    messages = messages_of(json.loads((EVENTS / "sync.json").read_bytes()))
    assert len(messages) > 1
    for message in messages:
        assert changes_of(parse_event(message.envelope.body), RECEIVED_AT).main.kind == "user"
        assert message.envelope.svix_id.startswith("msg_")


@pytest.mark.parametrize(
    "name", ["../env", "../clerk/user.created", "/etc/passwd", "..", ".", "", "user.*", "user.created.json"]
)
def test_a_name_that_leads_elsewhere_is_no_sample(name: str) -> None:
    with pytest.raises(NoSuchSample, match=r"there are: .*user\.created"):
        sample_event(EVENTS.parent, name)


def test_every_sample_that_is_named_can_be_had() -> None:
    names = sample_names(EVENTS.parent)
    assert names == sorted(file.stem for file in BODIES)
    assert all(sample_event(EVENTS.parent, name)["type"] for name in names)


def test_the_command_lists_each_type_with_its_table_or_the_reason_why_there_is_none() -> None:
    lines = Command({}).run("event", "--list").stdout.splitlines()
    assert [line.split()[0] for line in lines if line.split()[0] in CLERKS_TYPES] == list(CLERKS_TYPES)
    assert "user.created                      sample  clerk.users" in lines
    assert [line for line in lines if line.endswith(("None", "  "))] == []
    assert "name the TYPE" in Command({}).run("event", status=2).stderr


def test_the_list_of_types_is_json_on_demand_with_the_types_of_a_family_together() -> None:
    listed = json.loads(Command({}).run("event", "--list", "--json").stdout)
    assert {"type": "user.created", "has_sample": True, "becomes": "clerk.users"} in listed
    families = [family for family, _ in itertools.groupby(each["type"].partition(".")[0] for each in listed)]
    assert len(families) == len(set(families))


def addresses(event: dict[str, Any]) -> list[str]:
    """The e-mail addresses of a user, and the username if there is one."""
    data = event["data"]
    lists = [data[name] for name in data if name.endswith(("_accounts", "email_addresses"))]
    return [*(each["email_address"] for listed in lists for each in listed), *filter(None, [data["username"]])]


@pytest.mark.parametrize("name", [file.stem for file in BODIES if file.stem.startswith(("user.created", "user.upd"))])
def test_two_users_of_one_sample_share_neither_an_address_nor_a_username(name: str) -> None:
    own, one, two = (addresses(sample_event(EVENTS.parent, name, each)) for each in (None, "user_1", "user_2"))
    assert len({*own, *one, *two}) == 3 * len(set(own))


def test_the_user_of_the_samples_keeps_the_addresses_when_named() -> None:
    plain = sample_event(EVENTS.parent, "user.created")
    assert addresses(sample_event(EVENTS.parent, "user.created", plain["data"]["id"])) == addresses(plain)


@pytest.mark.parametrize("wrong", ["bad id", "", "user_", "org_1", "user_1\n", "USER_1", "user_\u00e4", "../user_1"])
def test_an_id_that_clerk_never_makes_is_refused(wrong: str) -> None:
    with pytest.raises(UnusableId, match="it begins with user_"):
        sample_event(EVENTS.parent, "user.created", wrong)


def test_an_id_is_one_of_the_kind_that_the_sample_is_about() -> None:
    assert sample_event(EVENTS.parent, "subscriptionItem.active", "csub_item_7")["data"]["id"] == "csub_item_7"
    with pytest.raises(UnusableId, match="it begins with org_"):
        sample_event(EVENTS.parent, "organization.deleted", "user_1")
