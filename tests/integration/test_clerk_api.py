"""The stand-in for Clerk's Backend API behaves like Clerk's, as far as Clerk's is known."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from itertools import pairwise
from random import Random
from typing import Any

import httpx
import msgspec
import pytest

from clerk_supabase_cli.local.clerk_process import running
from clerk_supabase_cli.local.processes import Guard
from clerk_supabase_cli.standin import samples
from clerk_supabase_cli.standin.backend.answers import Answers
from clerk_supabase_cli.standin.backend_api import ClerkApi
from clerk_supabase_cli.standin.faults import Fault
from clerk_supabase_cli.standin.population import BEGINNING
from clerk_supabase_cli.standin.worlds import World
from tests.kit.clerk import KEY, api_with
from tests.kit.clock import Clock
from tests.kit.loopback import NO_TLS
from tests.kit.polling import eventually

Answer = httpx.Response


@pytest.fixture
def api() -> Iterator[ClerkApi]:
    """An instance with 30 users, two of each moment, and two organizations, the first with two members."""
    with api_with(30, same_moment=2) as api:
        for _ in range(2):
            api.world.create_organization({"name": "Z"})
        for user_id in list(api.world.users)[:2]:
            api.world.add_membership(next(iter(api.world.organizations)), user_id, role="org:member")
        yield api


@pytest.fixture
def client(api: ClerkApi) -> Iterator[httpx.Client]:
    """Knows the key."""
    headers = {"authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=api.url, headers=headers, trust_env=False, verify=NO_TLS, timeout=20) as client:
        yield client


def listed(client: httpx.Client, *parameters: tuple[str, Any], path: str = "/users") -> list[str]:
    answer = client.get(path, params=parameters)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    return [each["id"] for each in (found if isinstance(found, list) else found["data"])]


def code(answer: Answer) -> tuple[int, str]:
    [error] = answer.json()["errors"]
    assert {"code", "message", "long_message"} <= error.keys()
    return answer.status_code, error["code"]


# Keys, versions and limits


@pytest.mark.parametrize("value", ["", "Bearer", f"Basic {KEY}", KEY])
def test_without_a_key_nothing_is_answered(client: httpx.Client, value: str) -> None:
    assert code(client.get("/users", headers={"authorization": value})) == (401, "authentication_invalid")


def test_a_wrong_key_is_rejected(client: httpx.Client) -> None:
    assert code(client.get("/users", headers={"authorization": "Bearer sk_test_x"})) == (401, "clerk_key_invalid")


@pytest.mark.parametrize("version", ["2021-02-05", "2024-10-01", "2025-04-10", "2025-11-10", "2026-05-12"])
def test_a_version_is_named_in_the_header_or_the_parameter_but_not_in_both(client: httpx.Client, version: str) -> None:
    header, parameter = {"clerk-api-version": version}, {"__clerk_api_version": version}
    assert client.get("/users", headers=header).status_code == 200
    assert client.get("/users", params=parameter).status_code == 200
    assert client.get("/users", params=parameter, headers=header).status_code == 400


def test_an_unknown_version_is_an_error(client: httpx.Client) -> None:
    assert client.get("/users", headers={"clerk-api-version": "2026-05-13"}).status_code == 400


def test_every_answer_is_dated_by_clerks_clock_in_whole_seconds(api: ClerkApi, client: httpx.Client) -> None:
    api.clock = lambda: 1_700_000_123_999
    for path in ("/users", "/users/nobody"):
        date = client.get(path).headers["date"]
        assert parsedate_to_datetime(date).timestamp() == 1_700_000_123


# Users


def test_users_come_as_a_bare_array_ten_at_a_time_the_newest_first(api: ClerkApi, client: httpx.Client) -> None:
    assert listed(client) == sorted(api.world.users, reverse=True)[:10]


def test_a_cursor_walks_through_all_users_two_of_one_moment_too(api: ClerkApi, client: httpx.Client) -> None:
    for order, everybody in (("+created_at", sorted(api.world.users)), ("-created_at", sorted(api.world.users)[::-1])):
        walked = listed(client, ("order_by", order), ("limit", 7))
        while page := listed(client, ("order_by", order), ("limit", 7), ("starting_after", walked[-1])):
            walked += page
        assert walked == everybody


def test_an_offset_skips(api: ClerkApi, client: httpx.Client) -> None:
    assert listed(client, ("offset", 28), ("limit", 500)) == sorted(api.world.users, reverse=True)[28:]
    assert listed(client, ("offset", 30)) == []


def test_a_plus_that_is_not_encoded_is_a_space_and_no_order(client: httpx.Client) -> None:
    assert client.get("/users?order_by=%2Bcreated_at").status_code == 200
    assert code(client.get("/users?order_by=+created_at")) == (422, "form_param_value_invalid")


@pytest.mark.parametrize(
    "parameters",
    [
        *({"limit": value} for value in ("0", "501", "-1", "x", "1.5")),
        *({"offset": value} for value in ("-1", "x")),
        *({"order_by": value} for value in ("id", "-", "created", "-id")),
        {"created_at_after": "2026-01-01"},
        {"starting_after": "user_1", "order_by": "updated_at"},
        {"starting_after": "user_1", "offset": "1"},
        {"user_id": ["user_1"] * 101},
        {"external_id": ["1"] * 101},
    ],
)
def test_parameters_that_cannot_be_are_422(client: httpx.Client, parameters: dict[str, Any]) -> None:
    answer = client.get("/users", params=parameters)
    assert code(answer) == (422, "form_param_value_invalid")
    assert answer.json()["errors"][0]["meta"]["param_name"] in parameters


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/users", "updated_at_after"),
        ("/users", "emailaddress"),
        ("/users/count", "limit"),
        ("/organizations", "created_at_after"),
        ("/organization_memberships", "user_id"),
        ("/organization_invitations", "organization_id"),
        ("/organization_domains", "user_id"),
        ("/organizations/org_1/invitations", "query"),
        ("/instance", "limit"),
    ],
)
def test_a_parameter_that_an_endpoint_does_not_have_is_rejected_and_not_ignored(
    client: httpx.Client, path: str, name: str
) -> None:
    assert code(client.get(path, params={name: 1})) == (422, "form_param_unknown")


def test_phone_numbers_invitations_and_verified_domains_have_every_field_that_clerk_requires(
    api: ClerkApi, client: httpx.Client
) -> None:
    for happening in (api.world.invite, api.world.add_domain, api.world.verify_domain):
        happening()
    phones = [each for user in client.get("/users?limit=500").json() for each in user["phone_numbers"]]
    assert {"object", "phone_number", "reserved", "verification", "linked_to", "created_at", "updated_at"} <= set.union(
        *map(set, phones)
    )
    [invitation] = client.get("/organization_invitations").json()["data"]
    assert invitation["public_inviter_data"]["user_id"] == invitation["inviter_id"]
    [domain] = client.get("/organization_domains").json()["data"]
    assert 0 < domain["affiliation_verification"]["verified_at"] <= domain["updated_at"]


def test_invitations_are_listed_by_instance_and_organization_and_read_one_by_one(
    api: ClerkApi, client: httpx.Client
) -> None:
    for _ in range(4):
        api.world.invite()
    by_domain, *others = api.world.invitations
    api.answers.made_by_domains.add(by_domain)
    assert set(listed(client, path="/organization_invitations")) == set(api.world.invitations)
    of_organizations = {
        each for org in api.world.organizations for each in listed(client, path=f"/organizations/{org}/invitations")
    }
    assert of_organizations == set(others)
    org_id = api.world.invitations[by_domain]["organization_id"]
    assert client.get(f"/organizations/{org_id}/invitations/{by_domain}").json()["id"] == by_domain
    assert code(client.get(f"/organizations/{org_id}/invitations/orginv_gone")) == (404, "resource_not_found")


def test_an_invitation_beyond_its_time_has_expired_and_stays_listed(api: ClerkApi, client: httpx.Client) -> None:
    api.world.invite()
    [invitation] = api.world.invitations.values()
    assert listed(client, ("status", "pending"), path="/organization_invitations") == [invitation["id"]]
    api.world.now = invitation["expires_at"]
    assert listed(client, ("status", "expired"), path="/organization_invitations") == [invitation["id"]]
    assert listed(client, ("status", "pending"), path="/organization_invitations") == []
    assert client.get("/organization_invitations?status=lost").status_code == 422


def test_domains_are_listed_by_organization_and_verification(api: ClerkApi, client: httpx.Client) -> None:
    for _ in range(4):
        api.world.add_domain()
    api.world.verify_domain()
    verified = {each["id"] for each in api.world.domains.values() if each["affiliation_verification"]}
    assert set(listed(client, ("verified", "true"), path="/organization_domains")) == verified
    for org in api.world.organizations:
        of_org = {each["id"] for each in api.world.domains.values() if each["organization_id"] == org}
        assert set(listed(client, ("organization_id", org), path="/organization_domains")) == of_org


def test_an_instance_without_verified_domains_says_so(api: ClerkApi, client: httpx.Client) -> None:
    api.answers.no_domains = (403, "organization_domains_not_enabled")
    assert code(client.get("/organization_domains")) == (403, "organization_domains_not_enabled")
    assert client.get("/organization_invitations").status_code == 200


def test_users_are_found_by_what_they_are(api: ClerkApi, client: httpx.Client) -> None:
    everybody = sorted(api.world.users, reverse=True)
    users = api.world.users
    assert listed(client, ("user_id", everybody[3]), ("user_id", f"+{everybody[5]}"), ("user_id", "user_x")) == [
        everybody[3],
        everybody[5],
    ]
    assert everybody[0] not in listed(client, ("user_id", f"-{everybody[0]}"), ("limit", 500))
    external = next(each for each in users.values() if each["external_id"])
    assert listed(client, ("external_id", external["external_id"])) == [external["id"]]
    email = users[everybody[0]]["email_addresses"][0]["email_address"]
    assert listed(client, ("email_address", email.upper())) == [everybody[0]]
    assert set(listed(client, ("banned", "true"), ("limit", 500))) == {k for k, each in users.items() if each["banned"]}
    first_org = next(iter(api.world.organizations))
    assert listed(client, ("organization_id", first_org)) == sorted(users)[1::-1]
    assert listed(client, ("query", everybody[4])) == [everybody[4]]


@pytest.mark.parametrize("inclusive", [False, True])
def test_counts_and_lists_agree_about_a_window(api: ClerkApi, client: httpx.Client, inclusive: bool) -> None:
    api.answers.inclusive = inclusive
    window: list[tuple[str, Any]] = [("created_at_after", BEGINNING + 1_000), ("created_at_before", BEGINNING + 4_000)]
    found = listed(client, *window)
    assert len(found) == (8 if inclusive else 4)
    count = client.get("/users/count", params=window).json()
    assert count == {"object": "total_count", "total_count": len(found)}


def test_one_user_and_one_who_is_gone(api: ClerkApi, client: httpx.Client) -> None:
    user_id = next(iter(api.world.users))
    assert client.get(f"/users/{user_id}").json() == api.world.users[user_id]
    assert code(client.get("/users/user_gone")) == (404, "resource_not_found")
    assert client.get("/nothing").status_code == 404


def test_users_come_by_their_last_change_and_by_name(api: ClerkApi, client: httpx.Client) -> None:
    user_id = sorted(api.world.users)[5]
    api.world.update("user", user_id, {"first_name": "Aaron"})
    assert listed(client, ("order_by", "-updated_at"))[0] == user_id
    assert listed(client, ("order_by", "updated_at"), ("limit", 500))[-1] == user_id
    assert listed(client, ("order_by", "first_name"))[0] == user_id
    assert listed(client, ("order_by", "-first_name"), ("limit", 500))[-1] == user_id


# Organizations


def test_every_other_list_comes_with_its_total(api: ClerkApi, client: httpx.Client) -> None:
    org_id, other = api.world.organizations
    members = f"/organizations/{org_id}/memberships"
    first_member = min(api.world.users)
    for path, total in (
        ("/organizations", 2),
        ("/organization_memberships", 2),
        (members, 2),
        (f"/organizations/{other}/memberships", 0),
        (f"/users/{first_member}/organization_memberships", 1),
        ("/organization_invitations", 0),
        ("/organization_domains", 0),
    ):
        found = client.get(path, params={"limit": 1}).json()
        assert (found["total_count"], len(found["data"])) == (total, min(1, total)), path
    assert listed(client, ("user_id", first_member), path=members) == [next(iter(api.world.memberships))]
    assert listed(client, ("order_by", "+created_at"), path="/organizations") == [org_id, other]
    assert listed(client, ("organization_id", other), path="/organizations") == [other]
    assert listed(client, ("user_id", first_member), path="/organizations") == [org_id]
    assert code(client.get(members, params={"limit": 501})) == (422, "form_param_value_invalid")
    assert code(client.get("/organizations", params={"order_by": "updated_at"})) == (422, "form_param_value_invalid")
    assert code(client.get("/organizations/org_gone/memberships")) == (404, "resource_not_found")


def test_an_organization_has_two_names(api: ClerkApi, client: httpx.Client) -> None:
    organization = next(iter(api.world.organizations.values()))
    for name in (organization["id"], organization["slug"]):
        assert client.get(f"/organizations/{name}").json() == organization
    assert code(client.get("/organizations/org_gone")) == (404, "resource_not_found")


def test_an_instance_knows_its_name_and_kind(client: httpx.Client) -> None:
    found = client.get("/instance").json()
    assert (found["id"], found["environment_type"]) == (samples.INSTANCE_ID, "development")


# Writing, and what is told of it


def test_changes_through_the_api_become_webhooks(api: ClerkApi, client: httpx.Client) -> None:
    before = len(api.world.events)
    created = client.post("/users", json={"email_address": ["ada@example.test"], "external_id": "42"}).json()
    assert created["email_addresses"][0]["email_address"] == "ada@example.test"
    changed = client.patch(f"/users/{created['id']}", json={"first_name": "Grace"}).json()
    assert changed == api.world.users[created["id"]]
    assert changed["updated_at"] >= created["updated_at"]
    assert client.delete(f"/users/{created['id']}").json() == samples.deleted("user", created["id"])
    assert created["id"] not in api.world.users
    told = api.world.events[before:]
    assert [each["type"] for each in told] == ["user.created", "user.updated", "user.deleted"]
    assert [each["data"] for each in told] == [created, changed, samples.deleted("user", created["id"])]
    for answer in (client.patch("/users/user_x", json={}), client.delete("/users/user_x")):
        assert code(answer) == (404, "resource_not_found")
    assert client.post("/users", content=b"[]").status_code == 400


def test_from_its_last_version_on_metadata_has_a_way_of_its_own(api: ClerkApi, client: httpx.Client) -> None:
    user_id = next(iter(api.world.users))
    body = {"public_metadata": {"plan": "pro"}}
    newest = {"clerk-api-version": "2026-05-12"}
    assert client.patch(f"/users/{user_id}", json=body, headers=newest).status_code == 422
    assert client.patch(f"/users/{user_id}", json=body, headers={"clerk-api-version": "2025-11-10"}).status_code == 200


def as_written(document: bytes) -> Any:
    """JSON with its numbers as texts: users write numbers that no parser takes."""
    return json.loads(document, parse_int=str, parse_float=str, parse_constant=str)


def test_the_stand_in_serves_the_world_of_the_simulator(client: httpx.Client) -> None:
    world = World(Random(3), "sim")
    world.live(200)
    with ClerkApi(Answers(world, KEY)) as api:
        for path, objects in (("/users", world.users), ("/organizations", world.organizations)):
            found = as_written(client.get(f"{api.url}{path}", params={"limit": 500}).content)
            data = found if isinstance(found, list) else found["data"]
            assert {each["id"]: each for each in data} == as_written(msgspec.json.encode(dict(objects)))
        assert client.get(f"{api.url}/users/count").json()["total_count"] == len(world.users)


# Limits, and how it is to be talked to


def test_beyond_the_limit_an_endpoint_is_blocked_for_the_announced_seconds() -> None:
    clock = Clock()
    with api_with(1, has_rate_limit=True, monotonic=clock) as api:
        headers = {"authorization": f"Bearer {KEY}"}
        with httpx.Client(base_url=api.url, headers=headers, trust_env=False, verify=NO_TLS) as client:
            assert [client.get("/users").status_code for _ in range(100)] == [200] * 100
            clock.now += 4
            rejected = client.get("/users")
            assert code(rejected) == (429, "rate_limit_exceeded")
            assert rejected.headers["retry-after"] == "6"
            clock.now += 6
            assert client.get("/users").status_code == 200


def test_a_connection_serves_many_requests(api: ClerkApi) -> None:
    request = f"GET /v1/instance HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", api.port)) as connection, connection.makefile("rb") as answers:
        for _ in range(3):
            connection.sendall(request)
            assert answers.readline() == b"HTTP/1.1 200 OK\r\n"
            headers = dict(line.decode().strip().split(": ") for line in iter(answers.readline, b"\r\n"))
            assert json.loads(answers.read(int(headers["Content-Length"])))["id"] == samples.INSTANCE_ID


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.test"},
        {"host": "localhost.evil.test"},
        {"host": "127.0.0.1.evil.test"},
        {"host": "localhost."},
        {"origin": "https://evil.test"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-mode": "no-cors"},
    ],
    ids=str,
)
def test_no_web_page_reads_or_changes_anything(api: ClerkApi, client: httpx.Client, headers: dict[str, str]) -> None:
    before = dict(api.world.users)
    for method, path in (
        ("GET", "/users"),
        ("POST", "/users"),
        ("DELETE", "/users/user_1"),
        ("PATCH", "/users/user_1"),
    ):
        answer = client.request(method, path, content=b'{"first_name": "Eve"}', headers=headers)
        assert code(answer) == (403, "not_for_browsers")
        assert not [name for name in answer.headers if name.startswith("access-control-")]
    status = httpx.get(f"http://127.0.0.1:{api.port}/status", headers=headers, trust_env=False, verify=NO_TLS)
    assert status.status_code == 403
    assert dict(api.world.users) == before
    assert not api.requests


def test_a_preflight_of_a_foreign_page_is_rejected(client: httpx.Client) -> None:
    asks = {"origin": "https://evil.test", "access-control-request-method": "DELETE"}
    answer = client.request("OPTIONS", "/users/user_1", headers=asks)
    assert answer.status_code == 501
    assert not [name for name in answer.headers if name.startswith("access-control-")]


def test_requests_are_counted_by_endpoint(api: ClerkApi, client: httpx.Client) -> None:
    for path in ("/users", "/users?offset=1", "/users?offset=0", "/users/user_1", "/users/count", "/x"):
        client.get(path)
    assert api.counts == {"GET /users": 3, "GET /users/{id}": 1, "GET /users/count": 1, "GET ?": 1, "offset > 0": 1}
    assert [each.path for each in api.requests][-2:] == ["/users/count", "/x"]


def test_the_stand_in_ends_although_a_client_keeps_a_connection_or_waits_for_an_answer() -> None:
    started = time.monotonic()
    with api_with() as api:
        api.faults.add(Fault(wire="hang"), path="/hang")
        idle, waiting = (socket.create_connection(("127.0.0.1", api.port)) for _ in range(2))
        idle.sendall(b"GET /v1/instance HTTP/1.1\r\nHost: localhost\r\n\r\n")
        waiting.sendall(b"GET /v1/hang HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert idle.recv(12) == b"HTTP/1.1 401"
        eventually(api.counts.total, lambda total: total == 2)
    with idle, waiting:
        assert waiting.recv(1) == b""
    assert time.monotonic() - started < 20


def test_in_a_process_of_its_own_a_million_users_need_little_memory() -> None:
    with Guard() as guard, running(guard, "--users", "1000000", "--delete", "10", "--change", "10") as api:
        headers = {"authorization": f"Bearer {api.key}"}
        with httpx.Client(base_url=api.url, headers=headers, trust_env=False, verify=NO_TLS, timeout=20) as client:
            assert client.get("/users/count").json()["total_count"] == 999_990
            page = client.get("/users", params={"limit": 500, "order_by": "+created_at"}).json()
            for _ in range(5):
                page = client.get(
                    "/users", params={"limit": 500, "order_by": "+created_at", "starting_after": page[-1]["id"]}
                ).json()
            assert len(page) == 500
            assert all(one["created_at"] < other["created_at"] for one, other in pairwise(page))
            assert client.get("/users", params={"order_by": "-updated_at"}).json()[0]["last_name"] == "Changed"
            status = client.get(api.status_url).json()
    assert status["counts"]["GET /users"] == 7
    assert status["peak_bytes"] < 100_000_000
