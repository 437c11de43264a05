"""Roles, permissions, the waitlist and sessions in the stand-in for Clerk's Backend API."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from clerk_supabase.model.found_kinds import FACTS
from clerk_supabase_cli.project import find_root
from clerk_supabase_cli.standin.backend.answers import Answers
from clerk_supabase_cli.standin.backend_api import ClerkApi
from clerk_supabase_cli.standin.instance.live_world import LiveWorld
from clerk_supabase_cli.standin.sample_events import sample_event
from tests.kit.loopback import NO_TLS

NAMES = ("permission.created", "role.created", "waitlistEntry.updated", "session.created", "session.revoked")


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    """A reader of the API of an instance that has learned the samples."""
    world = LiveWorld()
    for name in NAMES:
        assert world.learn(sample_event(find_root(), name))
    answers = Answers(world)
    with ExitStack() as undo:
        api = undo.enter_context(ClerkApi(answers))
        headers = {"authorization": f"Bearer {answers.key}"}
        yield undo.enter_context(
            httpx.Client(base_url=api.url, headers=headers, trust_env=False, verify=NO_TLS, timeout=20)
        )


def ids(answer: httpx.Response) -> list[str]:
    found: Any = answer.raise_for_status().json()
    return [each["id"][:9] for each in (found if isinstance(found, list) else found["data"])]


def test_the_lists_filter_and_order_as_clerk_does(client: httpx.Client) -> None:
    assert ids(client.get("/organization_roles", params={"query": "EDIT", "order_by": "+key"})) == ["role_2Sam"]
    assert ids(client.get("/organization_permissions", params={"query": "nothing"})) == []
    assert ids(client.get("/waitlist_entries", params={"status": "invited", "order_by": "email_address"})) == [
        "wle_2Samp"
    ]
    assert ids(client.get("/waitlist_entries", params={"query": "carol@", "status": "pending"})) == []
    user = "user_2Sample000000000000000000A"
    assert ids(client.get("/sessions", params={"user_id": user})) == ["sess_2Sam"] * 2
    [active] = client.get("/sessions", params={"user_id": user, "status": "active"}).json()
    assert "user" not in active
    assert client.get(f"/sessions/{active['id']}").json() == active


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/organization_roles?status=pending", 422),
        ("/organization_roles?order_by=email_address", 422),
        ("/organization_permissions?organization_id=org_1", 422),
        ("/waitlist_entries?status=accepted", 422),
        ("/waitlist_entries?email_address=a", 422),
        ("/sessions", 422),
        ("/sessions?user_id=a&query=b", 422),
        ("/organization_roles/role_0", 404),
        ("/sessions/sess_0", 404),
        # Clerk reads no single entry.
        ("/waitlist_entries/wle_2Sample000000000000000000W", 404),
    ],
)
def test_what_clerk_does_not_know_is_rejected(client: httpx.Client, path: str, status: int) -> None:
    assert client.get(path).status_code == status


def test_a_delete_of_a_user_is_learned_with_the_sessions_of_the_user() -> None:
    world = LiveWorld()
    world.learn(sample_event(find_root(), "session.revoked"))
    [session] = world.others["session"].values()
    assert list(world.users) == [session["user_id"]]
    deleted = sample_event(find_root(), "user.deleted", session["user_id"])
    world.learn(deleted)
    assert world.others["session"] == {}
    for name in ("role.created", "role.deleted"):
        world.learn(sample_event(find_root(), name))
    assert world.others["role"] == {}
    assert FACTS["role"].again_path == "/organization_roles/{id}"
