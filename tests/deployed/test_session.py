"""`POST /session` on the deployed template: the row of a user who signs in exists before any webhook."""

from __future__ import annotations

import json
from typing import Any

import httpx
import psycopg

from clerk_supabase_cli.local.stack import APP_ORIGIN, LocalStack
from clerk_supabase_cli.standin.faults import answering
from clerk_supabase_cli.standin.samples import new_user_id, user
from tests.kit.deployed_webhooks import created as created_event
from tests.kit.deployed_webhooks import now, send
from tests.kit.loopback import NO_TLS
from tests.kit.polling import eventually


def sign_in(stack: LocalStack, user_id: str, **changes: Any) -> httpx.Response:
    return post(stack, {"Authorization": f"Bearer {stack.mint.session(user_id, **changes)}", "Origin": APP_ORIGIN})


def post(stack: LocalStack, headers: dict[str, str]) -> httpx.Response:
    return httpx.post(stack.session_url, headers=headers, timeout=60, trust_env=False, verify=NO_TLS)


def sign_up(stack: LocalStack, user_id: str) -> None:
    """Clerk knows them; its webhook has not been sent."""
    with stack.clerk.writing() as world:
        world.users[user_id] = user(user_id, created_at=now(), updated_at=now(), first_name="Ada")


def causes(stack: LocalStack, user_id: str) -> list[str]:
    with psycopg.connect(stack.database_url) as database:
        query = "select cause from clerk_sync.audit_log where entity_id = %s order by audit_id"
        return [cause for (cause,) in database.execute(query, [user_id])]


def test_a_user_who_signs_in_has_a_row_before_the_webhook_arrives(stack: LocalStack) -> None:
    user_id = new_user_id()
    sign_up(stack, user_id)
    answer = sign_in(stack, user_id)
    assert (answer.status_code, answer.json()["first_name"]) == (200, "Ada")
    assert answer.headers["access-control-allow-origin"] == APP_ORIGIN
    assert causes(stack, user_id) == ["session"]
    assert sign_in(stack, user_id).json() == answer.json()


def test_the_row_that_a_webhook_brought_is_answered_too(stack: LocalStack) -> None:
    user_id = new_user_id()
    assert send(stack, created_event(user_id, now(), first_name="Augusta")).status_code == 202
    eventually(lambda: causes(stack, user_id), lambda found: found == ["delivery"])
    assert sign_in(stack, user_id).json()["first_name"] == "Augusta"


def test_while_clerk_is_unavailable_the_answer_is_a_stub(stack: LocalStack) -> None:
    user_id = new_user_id()
    stack.clerk.faults.add(answering(500), path=f"/users/{user_id}", times=99)
    try:
        answer = sign_in(stack, user_id)
    finally:
        stack.clerk.faults.clear()
    assert (answer.status_code, answer.json()["clerk_id"], answer.json()["created_at"]) == (202, user_id, None)


def test_without_a_valid_token_the_answer_reveals_nothing(stack: LocalStack) -> None:
    user_id = new_user_id()
    sign_up(stack, user_id)
    for answer in (post(stack, {}), sign_in(stack, user_id, exp=1), sign_in(stack, user_id, azp="https://evil.test")):
        assert (answer.status_code, answer.text) == (401, "unauthorized")
    assert causes(stack, user_id) == []


def test_the_browser_may_send_a_preflight(stack: LocalStack) -> None:
    headers = {"Origin": APP_ORIGIN, "Access-Control-Request-Method": "POST"}
    answer = httpx.options(stack.session_url, headers=headers, timeout=60, trust_env=False, verify=NO_TLS)
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (204, APP_ORIGIN)


def test_no_log_of_the_function_names_a_person_or_a_token(stack: LocalStack) -> None:
    user_id = new_user_id()
    sign_up(stack, user_id)
    token = stack.mint.session(user_id)
    post(stack, {"Authorization": f"Bearer {token}"})
    log = "\n".join(eventually(lambda: stack.function_log("SessionFunction"), lambda lines: user_id in str(lines)))
    assert json.dumps("fetched") in log
    for secret in (token, "Ada", "@", stack.clerk.answers.key):
        assert secret not in log
