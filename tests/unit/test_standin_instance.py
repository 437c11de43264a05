"""The made-up Clerk instance over real HTTP: the Backend API knows each change, and a signed webhook tells of it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest

from clerk_supabase_cli.standin.backend.answers import Answers
from clerk_supabase_cli.standin.backend.rejections import Rejection
from clerk_supabase_cli.standin.backend_api import ClerkApi
from clerk_supabase_cli.standin.deliveries import generate_secret
from clerk_supabase_cli.standin.instance.beginning import ADA, LABS, begin
from clerk_supabase_cli.standin.instance.control import Control
from clerk_supabase_cli.standin.instance.instance import DELETED_BEFORE, Instance
from clerk_supabase_cli.standin.instance.lagging_view import LaggingView
from clerk_supabase_cli.standin.instance.play import Play
from clerk_supabase_cli.standin.instance.webhooks import DeliveryFaults, Webhooks
from clerk_supabase_cli.standin.sample_events import sample_event, sample_names
from tests.kit.loopback import NO_TLS
from tests.kit.polling import eventually

NEVER = 3600.0


@dataclass
class Endpoint:
    """An app's webhook endpoint: verifies each signature, and answers the next of the given statuses, then 200."""

    secret: str = field(default_factory=generate_secret)
    statuses: list[int] = field(default_factory=list)
    received: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    """Ids and events, in order of arrival."""
    url: str = ""

    def types(self, count: int) -> list[str]:
        """The types of the events, when as many have arrived."""
        found = eventually(lambda: list(self.received), lambda each: len(each) >= count)
        return [event["type"] for _, event in found]

    def take(self, body: bytes, headers: dict[str, str]) -> int:
        # The import takes half a second, which a process without these tests need not spend.
        from svix.webhooks import Webhook  # noqa: PLC0415

        Webhook(self.secret).verify(body, headers)
        self.received.append((headers["svix-id"], json.loads(body)))
        return self.statuses.pop(0) if self.statuses else 200


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    endpoint = Endpoint()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            status = endpoint.take(body, {name.lower(): value for name, value in self.headers.items()})
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class calls it so
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        endpoint.url = f"http://127.0.0.1:{server.server_port}/webhooks/clerk"
        yield endpoint
        server.shutdown()
        thread.join()


@dataclass
class Clerk:
    """An instance with its Backend API and an endpoint."""

    instance: Instance
    api: ClerkApi
    http: httpx.Client

    def get(self, path: str) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.api.answers.key}"}
        return self.http.get(f"{self.api.url}{path}", headers=headers)


@pytest.fixture(scope="module")
def http() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False, verify=NO_TLS) as client:
        yield client


@pytest.fixture
def clerk(endpoint: Endpoint, http: httpx.Client) -> Iterator[Clerk]:
    webhooks = Webhooks(retries=(0.0, 0.0), longest_held=NEVER)
    webhooks.deliver_to(endpoint.url, endpoint.secret)
    instance = Instance(webhooks=webhooks)
    answers = Answers(instance.world, lock=instance.lock, seen=instance.seen)
    with webhooks, ClerkApi(answers, control=Control(instance)) as api:
        yield Clerk(instance, api, http)


def events_of(endpoint: Endpoint, count: int) -> Sequence[dict[str, Any]]:
    endpoint.types(count)
    return [event for _, event in endpoint.received]


def test_each_operation_changes_the_api_and_sends_the_events_that_clerk_would_send(
    clerk: Clerk, endpoint: Endpoint
) -> None:
    play = clerk.instance
    ada = play.create_user(first_name="Ada", email_address="ada@example.test")["id"]
    guest = play.create_user()["id"]
    org = play.create_organization("Example Labs", created_by=ada)["id"]
    invitation = play.invite(org, "guest@example.test", role="org:editor")["id"]
    play.accept_invitation(invitation, guest)
    play.change_role(org, guest, "org:admin")
    play.ban_user(ada)

    assert clerk.get(f"/users/{ada}").json()["banned"] is True
    members = clerk.get(f"/organizations/{org}/memberships").json()["data"]
    assert {each["public_user_data"]["user_id"]: each["role"] for each in members} == {
        ada: "org:admin",
        guest: "org:admin",
    }
    play.remove_member(org, guest)
    play.delete_organization(org)
    play.delete_user(ada)
    assert clerk.get(f"/users/{ada}").status_code == 404
    assert clerk.get("/organization_memberships").json()["total_count"] == 0
    assert sorted(endpoint.types(12)) == sorted(
        [
            "user.created",
            "user.created",
            "organization.created",
            "organizationMembership.created",
            "organizationInvitation.created",
            "organizationInvitation.accepted",
            "organizationMembership.created",
            "organizationMembership.updated",
            "user.updated",
            "organizationMembership.deleted",
            "organization.deleted",
            "user.deleted",
        ]
    )


def test_what_is_wrong_changes_nothing_and_is_said(clerk: Clerk) -> None:
    play = clerk.instance
    ada = play.create_user(email_address="ada@example.test")["id"]
    play.delete_user(ada)
    with pytest.raises(Rejection, match="was deleted"):
        play.update_user(ada, first_name="Ada")
    with pytest.raises(Rejection, match="uses no id again"):
        play.create_user(user_id=ada)
    with pytest.raises(Rejection, match="no field of a user"):
        play.create_user(frist_name="Ada")
    assert len(clerk.get("/users").json()) == 0


def test_versions_rise_with_each_change(clerk: Clerk, endpoint: Endpoint) -> None:
    ada = clerk.instance.create_user()["id"]
    for name in ("Grace", "Alan"):
        clerk.instance.update_user(ada, first_name=name)
    versions = {event["data"]["updated_at"]: event["data"]["first_name"] for event in events_of(endpoint, 3)}
    assert [versions[each] for each in sorted(versions)] == ["Ada", "Grace", "Alan"]


def test_a_webhook_is_sent_again_with_the_same_id_until_it_is_accepted(clerk: Clerk, endpoint: Endpoint) -> None:
    endpoint.statuses = [503, 500]
    clerk.instance.create_user()
    endpoint.types(3)
    [message] = clerk.instance.webhooks.messages
    eventually(lambda: message.state, lambda state: state == "delivered")
    assert message.answers == ["503", "500", "200"]
    assert {svix_id for svix_id, _ in endpoint.received} == {message.svix_id}


def test_a_lost_webhook_never_arrives_but_the_api_knows_the_change(clerk: Clerk, endpoint: Endpoint) -> None:
    with clerk.instance.operating(DeliveryFaults(lose=1, duplicate=1, delay=1)) as sent:
        lost = clerk.instance.create_user()["id"]
    clerk.instance.create_user()
    endpoint.types(1)
    assert [(message.state, message.faults) for message in sent] == [("lost", ["lose"])]
    assert lost not in str(endpoint.received)
    assert clerk.get(f"/users/{lost}").status_code == 200


def test_a_duplicated_webhook_arrives_twice(clerk: Clerk, endpoint: Endpoint) -> None:
    with clerk.instance.operating(DeliveryFaults(duplicate=1)):
        clerk.instance.create_user()
    endpoint.types(2)
    [one, other] = endpoint.received
    assert one == other


def test_a_reordered_webhook_arrives_after_the_next(clerk: Clerk, endpoint: Endpoint) -> None:
    with clerk.instance.operating(DeliveryFaults(reorder=1)):
        ada = clerk.instance.create_user()["id"]
    clerk.instance.delete_user(ada)
    assert endpoint.types(2) == ["user.deleted", "user.created"]


# Over HTTP, as the command asks


def ask(clerk: Clerk, request: Any, **headers: str) -> httpx.Response:
    url = clerk.api.url.replace("/v1", "/control")
    sent = {"Authorization": f"Bearer {clerk.api.answers.key}"} | headers
    return clerk.http.post(url, content=json.dumps(request), headers=sent)


def test_a_command_plays_over_http_with_the_key_only_and_no_browser_can(clerk: Clerk, endpoint: Endpoint) -> None:
    asked = {"operation": "create_user", "arguments": {"first_name": "Ada"}, "faults": {"lose": 1}}
    done = ask(clerk, asked).json()
    assert clerk.get(f"/users/{done['object']['id']}").json()["first_name"] == "Ada"
    assert [(each["type"], each["state"]) for each in done["webhooks"]] == [("user.created", "lost")]
    assert ask(clerk, asked, Authorization="Bearer sk_test_guessed").status_code == 401
    assert ask(clerk, asked, Origin="https://evil.test").status_code == 403
    assert ask(clerk, asked, Host="evil.test").status_code == 403
    assert len(clerk.get("/users").json()) == 1
    assert endpoint.received == []


@pytest.mark.parametrize(
    "asked",
    [
        [],
        {},
        {"operation": "deliver_to"},
        {"operation": "__init__"},
        {"operation": "ban_user", "arguments": {"user": "user_1"}},
        {"operation": "ban_user", "arguments": {"user_id": ["user_1"]}},
        {"operation": "create_user", "arguments": {"email_address": 1}},
        {"operation": "update_user", "arguments": {"user_id": "user_1", "banned": "yes"}},
        {"operation": "create_user", "faults": {"lose": "x"}},
        {"operation": "create_user", "api_lag": -1},
        {"operation": "learn", "arguments": {"event": {"type": "user.created", "data": {}}}},
        {"operation": "learn", "arguments": {"event": {"type": 1, "data": {"id": []}}}},
        {
            "operation": "learn",
            "arguments": {
                "event": {"type": "organizationMembership.created", "timestamp": 1, "data": {"id": "orgmem_1"}}
            },
        },
    ],
)
def test_garbage_is_answered_in_clerks_form_and_changes_nothing(clerk: Clerk, asked: Any) -> None:
    answer = ask(clerk, asked)
    assert 400 <= answer.status_code < 500
    assert answer.json()["errors"][0]["code"]
    assert clerk.get("/users").json() == []


@pytest.mark.parametrize("path", ["/control", "/v1/users"])
def test_a_body_nested_too_deeply_is_answered_in_clerks_form(clerk: Clerk, path: str) -> None:
    sent = {"Authorization": f"Bearer {clerk.api.answers.key}"}
    answer = clerk.http.post(clerk.api.url.replace("/v1", path), content=b"[" * 20_000, headers=sent)
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (400, "request_body_invalid")


def test_the_api_knows_the_object_of_a_sample_that_another_program_sends(clerk: Clerk, root: Path) -> None:
    for name in sample_names(root):
        event = sample_event(root, name)
        if not event["type"].endswith(".deleted"):
            assert ask(clerk, {"operation": "learn", "arguments": {"event": event}}).status_code == 200
    assert [each["id"] for each in clerk.get("/users").json()]
    for listed in ("organizations", "organization_memberships", "organization_invitations", "organization_domains"):
        assert clerk.get(f"/{listed}").json()["total_count"] >= 1


def test_a_user_of_a_sample_joins_an_organization(root: Path) -> None:
    for name in sample_names(root):
        event = sample_event(root, name)
        if event["type"] in {"user.created", "user.updated"}:
            instance = Instance()
            org = instance.create_organization("Labs", created_by=instance.create_user()["id"])["id"]
            assert instance.learn(event)
            joined = instance.add_member(org, event["data"]["id"])["public_user_data"]
            assert joined["deprovisioned"] is event["data"].get("deprovisioned", False)


def test_the_id_of_a_deleted_sample_is_never_used_again(clerk: Clerk, root: Path) -> None:
    for name, status, users in (("user.created", 200, 1), ("user.deleted", 200, 0), ("user.updated", 409, 0)):
        answer = ask(clerk, {"operation": "learn", "arguments": {"event": sample_event(root, name)}})
        assert (answer.status_code, len(clerk.get("/users").json())) == (status, users)
    assert answer.json()["errors"][0]["code"] == DELETED_BEFORE


def test_a_lagging_api_shows_a_change_later_and_the_changes_in_order() -> None:
    moment = [0.0]
    instance = Instance(view=LaggingView(clock=lambda: moment[0]))
    ada = instance.create_user(first_name="Ada")["id"]
    with instance.operating(api_lag=5):
        instance.update_user(ada, first_name="Grace")
    instance.update_user(ada, last_name="Example")
    for now, seen in ((4, ("Ada", "Ada")), (5, ("Grace", "Example"))):
        moment[0] = now
        assert (instance.seen().users[ada]["first_name"], instance.world.users[ada]["first_name"]) == (seen[0], "Grace")
    assert instance.seen() is instance.world


def test_a_first_population_is_the_same_at_each_start() -> None:
    def population() -> dict[str, list[tuple[str, Any, Any]]]:
        instance = Instance()
        begin(instance)
        return {
            kind: [(key, each.get("first_name"), each.get("role")) for key, each in objects.items()]
            for kind, objects in instance.world.objects().items()
        }

    found = population()
    assert {kind: len(objects) for kind, objects in found.items() if objects} == {
        "user": 6,
        "organization": 2,
        "membership": 6,
        "invitation": 1,
        "plan": 4,
    }
    assert found == population()


def test_play_neither_bans_nor_deletes_the_user_and_the_organization_that_dev_names() -> None:
    """Their ids are in the commands that dev and the documents print."""
    instance = Instance()
    begin(instance)
    play = Play(instance, Random(7))
    done = [play.once() for _ in range(2_000)]
    assert {"ban_user", "delete_user", "delete_organization"} <= {name for name, _ in done}
    assert ADA in {user["id"] for name, user in done if name == "update_user"}
    banned_or_deleted = {
        each["id"] for name, each in done if name in {"ban_user", "delete_user", "delete_organization"}
    }
    assert banned_or_deleted & {ADA, LABS} == set()


def test_play_leaves_an_api_that_agrees_with_the_events(root: Path) -> None:
    instance = Instance()
    begin(instance)
    # Objects of older events lack fields.
    for name in sample_names(root):
        if not (event := sample_event(root, name))["type"].endswith(".deleted"):
            instance.learn(event)
    mirror = instance.world.copy()
    instance.world.on_event = mirror.learn
    play = Play(instance, Random(7))
    names = {play.once()[0] for _ in range(300)}
    assert len(names) == 14, "each kind of change"
    assert {kind: dict(each) for kind, each in mirror.objects().items()} == {
        kind: dict(each) for kind, each in instance.world.objects().items()
    }
