"""Samples, events and answers of the stand-in have every field that Clerk requires, as Clerk describes it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from random import Random
from typing import Any, Final

import httpx
import pytest

from clerk_supabase.model.found_kinds import FACTS
from clerk_supabase_cli.project import find_root
from clerk_supabase_cli.standin import samples
from clerk_supabase_cli.standin.backend.answers import Answers
from clerk_supabase_cli.standin.backend_api import ClerkApi
from clerk_supabase_cli.standin.population import Population
from clerk_supabase_cli.standin.samples import Json
from clerk_supabase_cli.standin.worlds import World
from tests.kit.clerk_schema import FAMILIES, LISTED, SCHEMA, faults
from tests.kit.kinds import OURS
from tests.kit.loopback import NO_TLS

AT: Final = 1_700_000_000_000
TIMES: Final = {"created_at": AT, "updated_at": AT}
EVENTS: Final = find_root(Path(__file__).parent) / "events" / "clerk"
LISTS: Final[Mapping[str, str]] = {
    "/users": "User",
    "/organizations": "Organization",
    "/organization_memberships": "OrganizationMembership",
    "/organization_invitations": "OrganizationInvitation",
    "/organization_domains": "OrganizationDomain",
    "/organization_permissions": "Permission",
    "/organization_roles": "Role",
    "/waitlist_entries": "WaitlistEntry",
    "/billing/subscription_items": "CommerceSubscriptionItem",
    "/billing/plans": "CommercePlan",
}
# These show on purpose what Clerk does not describe.
ODD: Final = {"user.unknown-type", "user.created.google-before-2025"}


def object_of(event_type: str) -> str:
    family, _, verb = event_type.partition(".")
    # The event of a deleted membership has all of it.
    return "DeletedObject" if verb == "deleted" and family != "organizationMembership" else FAMILIES[family]


@pytest.mark.parametrize("name", sorted({file.stem for file in EVENTS.glob("*.json")} - ODD))
def test_a_sample_event_is_as_clerk_describes_it(name: str) -> None:
    event = json.loads((EVENTS / f"{name}.json").read_text())
    assert list(faults(event["data"], object_of(event["type"]))) == []


def made_up() -> Iterator[tuple[str, Json]]:
    user = samples.user("user_1", **TIMES)
    organization = samples.organization("org_1", **TIMES)
    yield "User", user
    yield "EmailAddress", samples.email_address("idn_1", "ada@example.test", AT)
    yield "PhoneNumber", samples.phone_number("idn_1", "+15550100", AT)
    yield "ExternalAccountWithVerification", samples.google_account(1, "ada@example.test", AT)
    yield "Organization", organization
    yield "OrganizationMembership", samples.membership("orgmem_1", organization, user, **TIMES)
    yield "OrganizationInvitation", samples.invitation("orginv_1", "org_1", **TIMES)
    yield "OrganizationDomain", samples.domain("orgdmn_1", "org_1", **TIMES)
    yield "OrganizationDomainVerification", samples.domain_verification(AT)
    yield "DeletedObject", samples.deleted("user", "user_1")


def test_objects_that_are_made_up_are_as_clerk_describes_them() -> None:
    assert {name: found for name, sample in made_up() if (found := list(faults(sample, name)))} == {}


def test_the_made_up_users_of_a_large_instance_are_as_clerk_describes_them() -> None:
    population = Population(7)
    old_shape = {f".external_accounts.0.{name}" for name in ("provider", "identification_id", "provider_user_id")}
    old_shape |= {".external_accounts.0.first_name", ".external_accounts.0.last_name"}
    found = {fault.removesuffix(": missing") for user in population.values() for fault in faults(user, "User")}
    assert found <= old_shape


def lived() -> World:
    """A world after every possible change with objects of every kind, in which users wrote only storable text."""
    for seed in count():
        world = World(Random(seed), "1", odd_values=("odd",))
        world.live(600)
        if all(world.objects().values()):
            return world
    raise AssertionError


def test_every_event_of_the_simulator_is_as_clerk_describes_it() -> None:
    events = lived().events
    kinds = (kind for kind in World(Random(1), "1").objects() if kind in OURS and FACTS[kind].verbs)
    assert {object_of(event["type"]) for event in events} == {
        *(FAMILIES[FACTS[kind].event] for kind in kinds),
        "DeletedObject",
    }
    found = {fault for event in events for fault in faults(event["data"], object_of(event["type"]))}
    assert found == set()


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    """A reader of the API of an instance with objects of every kind."""
    answers = Answers(lived())
    with ExitStack() as undo:
        api = undo.enter_context(ClerkApi(answers))
        headers = {"authorization": f"Bearer {answers.key}"}
        yield undo.enter_context(
            httpx.Client(base_url=api.url, headers=headers, trust_env=False, verify=NO_TLS, timeout=20)
        )


def listed(client: httpx.Client, path: str) -> list[Json]:
    answer: Any = client.get(path, params={"limit": 500}).raise_for_status().json()
    return list(answer if path == "/users" else answer["data"])


@pytest.mark.parametrize("path", LISTS)
def test_every_object_that_the_api_lists_is_as_clerk_describes_it(client: httpx.Client, path: str) -> None:
    objects = listed(client, path)
    assert objects
    assert {fault for each in objects for fault in faults(each, LISTS[path])} == set()


@pytest.mark.parametrize("path", ["/users", "/organizations", "/organization_roles", "/organization_permissions"])
def test_an_object_that_the_api_answers_by_id_is_as_clerk_describes_it(client: httpx.Client, path: str) -> None:
    [first, *_] = listed(client, path)
    answer = client.get(f"{path}/{first['id']}").raise_for_status().json()
    assert list(faults(answer, LISTS[path])) == []


def test_missing_fields_of_an_object_are_found_at_any_depth() -> None:
    user = samples.user("user_1", **TIMES, phone_numbers=[samples.phone_number("idn_1", "+15550100", AT)])
    del user["phone_numbers"][0]["linked_to"]
    user["phone_numbers"][0]["reserved"] = None
    user["email_addresses"][0]["created_at"] = "2026"
    assert list(faults(user, "User")) == [
        ".email_addresses.0.created_at: no int64",
        ".phone_numbers.0.reserved: null",
        ".phone_numbers.0.linked_to: missing",
    ]


def test_every_object_that_is_synced_is_described() -> None:
    assert {*FAMILIES.values(), *LISTED.values()} <= SCHEMA.keys()
    assert LISTED.keys() == {kind for kind in OURS if not FACTS[kind].verbs}
