"""The main job on the deployed template: a signed webhook becomes a row, in spite of failures on the way."""

from __future__ import annotations

import json
import secrets
import time
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from clerk_supabase_cli.local.stack import LocalStack
from clerk_supabase_cli.standin.deliveries import generate_secret, sign, sign_body
from clerk_supabase_cli.standin.samples import Json, deleted, event, new_user_id
from tests.kit.deployed_webhooks import created, now, policy_taken_away, post, redeliver_quickly, send
from tests.kit.kinds import ALWAYS_SYNCED
from tests.kit.loopback import NO_TLS
from tests.kit.polling import eventually


@pytest.fixture(scope="session", autouse=True)
def _redeliver_quickly(stack: LocalStack) -> None:
    redeliver_quickly(stack)


def row(stack: LocalStack, user_id: str) -> tuple[Any, ...] | None:
    with psycopg.connect(stack.database_url) as database:
        return database.execute(
            "select first_name, deleted_at is not null from clerk.users where clerk_id = %s", [user_id]
        ).fetchone()


def outcome(stack: LocalStack, svix_id: str) -> str | None:
    with psycopg.connect(stack.database_url) as database:
        found = database.execute("select outcome from clerk_sync.deliveries where svix_id = %s", [svix_id]).fetchone()
        return found[0] if found else None


def parked(stack: LocalStack, contains: str) -> list[tuple[str, str]]:
    """Body and reason of the parked event that contains the text."""
    with psycopg.connect(stack.database_url) as database:
        return database.execute(
            """
            select convert_from(body, 'UTF8'), reason from clerk_sync.parked_events
            where position(convert_to(%s, 'UTF8') in body) > 0
            """,
            [contains],
        ).fetchall()


def test_a_rotated_signing_secret_is_accepted_without_a_deploy(stack: LocalStack) -> None:
    secrets_manager = stack.ministack.client("secretsmanager")
    new_secret = generate_secret()
    send(stack, created(new_user_id(), now()))

    secrets_manager.put_secret_value(
        SecretId=stack.webhook_secret_arn, SecretString=f"{stack.webhook_secret} {new_secret}"
    )
    try:
        # A function looks for a newer secret at most once a minute: behind a test that was rejected, this takes longer.
        answer = eventually(
            lambda: post(stack, sign(created(new_user_id(), now()), new_secret)),
            lambda answer: answer.status_code != 401,
            seconds=90,
        )
    finally:
        secrets_manager.put_secret_value(SecretId=stack.webhook_secret_arn, SecretString=stack.webhook_secret)
    assert answer.status_code == 202


def test_a_signed_webhook_becomes_a_row_and_a_public_profile(stack: LocalStack) -> None:
    user_id = new_user_id()

    answer = send(stack, created(user_id, now(), first_name="Grace"))

    assert (answer.status_code, answer.text) == (202, "accepted")
    assert eventually(lambda: row(stack, user_id), bool) == ("Grace", False)
    with psycopg.connect(stack.database_url) as database:
        profile = database.execute(
            "select first_name from clerk.users_public where clerk_id = %s", [user_id]
        ).fetchone()
    assert profile == ("Grace",)


def test_a_late_update_does_not_restore_a_deleted_user(stack: LocalStack) -> None:
    user_id, at = new_user_id(), now()
    gone = sign(event("user.deleted", deleted("user", user_id), timestamp=at + 1000), stack.webhook_secret)
    late = sign(created(user_id, at), stack.webhook_secret)

    post(stack, gone)
    eventually(lambda: outcome(stack, gone.headers["svix-id"]), bool)
    post(stack, late)

    assert eventually(lambda: outcome(stack, late.headers["svix-id"]), bool) == "deleted_before"
    assert row(stack, user_id) == ("Ada", True)


def test_a_webhook_that_is_not_signed_by_clerk_is_rejected_without_a_reason(stack: LocalStack) -> None:
    happening = created(new_user_id(), now())
    forged = post(stack, sign(happening, generate_secret()))
    stale = post(stack, sign(happening, stack.webhook_secret, at=time.time() - 600))
    unsigned = httpx.post(stack.webhook_url, json=happening, timeout=60, trust_env=False, verify=NO_TLS)

    assert [answer.status_code for answer in (forged, stale, unsigned)] == [401, 401, 401]
    assert {answer.text for answer in (forged, stale, unsigned)} == {"unauthorized"}


def test_every_sample_is_answered_and_what_is_not_synced_is_not_stored(stack: LocalStack, root: Path) -> None:
    answers, wanted = {}, {}
    for file in sorted((root / "events" / "clerk").glob("*.json")):
        event = json.loads(file.read_text())
        answers[file.stem] = send(stack, event).status_code
        wanted[file.stem] = 202 if event["type"] in ALWAYS_SYNCED else 200
    assert answers == wanted
    assert {*wanted.values()} == {200, 202}


def test_an_event_that_cannot_be_used_is_parked_with_its_reason(stack: LocalStack) -> None:
    marker = new_user_id()

    answer = post(stack, sign_body(f'["{marker}"]', stack.webhook_secret))
    assert (answer.status_code, answer.text) == (202, "parked")
    found = eventually(lambda: parked(stack, marker), bool)
    assert found[0] == (f'["{marker}"]', "the body is not a JSON object")


def test_an_event_that_postgres_rejects_is_parked_and_the_others_are_applied(stack: LocalStack) -> None:
    poison, healthy = new_user_id(), new_user_id()

    # Longer than its index takes, and not to be compressed.
    send(stack, created(poison, now(), external_id=secrets.token_hex(5_000)))
    send(stack, created(healthy, now()))

    eventually(lambda: row(stack, healthy), bool)
    ((_, reason),) = eventually(lambda: parked(stack, poison), bool)
    assert "Postgres refuses the data" in reason
    assert row(stack, poison) is None


def test_a_ban_is_applied_whatever_the_user_has_written(stack: LocalStack) -> None:
    user_id = new_user_id()

    for value in ("a\u0000b", float("inf")):
        send(stack, created(user_id, now(), banned=True, first_name="Eve", unsafe_metadata={"note": value}))

    assert eventually(lambda: row(stack, user_id), bool) == ("Eve", False)
    with psycopg.connect(stack.database_url) as database:
        query = "select banned, unsafe_metadata from clerk.users where clerk_id = %s"
        assert database.execute(query, [user_id]).fetchall() == [(True, {})]
    assert parked(stack, user_id) == []


def test_without_the_right_to_send_ingest_answers_503_and_nothing_is_lost(stack: LocalStack) -> None:
    user_id = new_user_id()
    request = sign(created(user_id, now()), stack.webhook_secret)

    with policy_taken_away(stack, role="IngestRole", policy="send-events"):
        rejected = post(stack, request)
    accepted = post(stack, request)

    assert rejected.status_code == 503
    assert accepted.status_code == 202
    assert eventually(lambda: row(stack, user_id), bool) == ("Ada", False)


def test_while_postgres_is_unavailable_events_are_accepted_and_afterwards_applied(stack: LocalStack) -> None:
    ids = [new_user_id() for _ in range(5)]
    stack.postgres.stop()
    try:
        answers = [send(stack, created(user_id, now())).status_code for user_id in ids]
    finally:
        stack.postgres.start()

    assert answers == [202] * len(ids)
    for user_id in ids:
        assert eventually(partial(row, stack, user_id), bool) == ("Ada", False)


def test_no_personal_data_appears_in_any_log_line(stack: LocalStack) -> None:
    user_id = new_user_id()
    fields: Json = {"first_name": "Wilhelmina", "public_metadata": {"plan": "platinum"}, "username": "wilma77"}
    request = sign(created(user_id, now(), **fields), stack.webhook_secret)

    post(stack, request)
    eventually(lambda: row(stack, user_id), bool)

    svix_id = request.headers["svix-id"]
    lines = eventually(
        lambda: stack.function_log("IngestFunction") + stack.function_log("SyncFunction"),
        lambda lines: sum(svix_id in line for line in lines) >= 2,
    )
    address = f"{user_id.removeprefix('user_').lower()}@example.test"
    leaked = [word for word in ("Wilhelmina", "platinum", "wilma77", address, "whsec_") if word in "\n".join(lines)]
    assert leaked == []
