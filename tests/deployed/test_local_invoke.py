"""`sam local invoke` with the files in `events`, with this machine's Python in place of the container."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest

from clerk_supabase.tokens.verifiers import SessionVerifier, keys_in_pem
from clerk_supabase_cli.local.stack import LocalStack
from clerk_supabase_cli.standin import samples
from clerk_supabase_cli.standin.deliveries import session_event
from clerk_supabase_cli.standin.token_mint import LOCAL_ISSUER, public_key_file
from tests.kit.environments import environment_of
from tests.kit.polling import eventually

# Runs a handler the way Lambda does: its folder on the path, the event from outside. Delays are drawn by lot; this seed
# draws one of a second or so first.
_INVOKE = """
import json, random, sys
sys.path.insert(0, sys.argv[1])
import handler

class Context:
    def get_remaining_time_in_millis(self):
        return 60_000

random.seed(31)
print(json.dumps(handler.lambda_handler(json.load(sys.stdin), Context())))
"""


def invoke(stack: LocalStack, root: Path, logical_id: str, event: str) -> dict[str, Any]:
    """Invokes a function with the variables of events/env.json, moved to the ports this stack listens on."""
    variables = json.loads((root / "events" / "env.json").read_text())[logical_id]
    ports = {":4566": stack.ministack.port, ":4567": stack.clerk.port, ":4568": stack.frontend.port}
    moved = json.dumps(variables)
    for there, here in ports.items():
        moved = moved.replace(f"localhost{there}", f"127.0.0.1:{here}")
    function = logical_id.removesuffix("Function").lower()
    given: dict[str, str] = json.loads(moved) | {
        **stack.ministack.environment,
        "PATH": os.environ["PATH"],
        "RATE_LIMIT_SHARE": "1",
        "DELETE_MARGIN_SECONDS": "0",
        "POWERTOOLS_METRICS_NAMESPACE": "Tests",
        "POWERTOOLS_SERVICE_NAME": logical_id,
    }
    folder = root / "functions" / function
    result = subprocess.run(
        [sys.executable, "-c", _INVOKE, str(folder)],
        input=event,
        env=environment_of(function, **given),
        capture_output=True,
        text=True,
        check=True,
    )
    answer: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return answer


def clerk_supabase(*arguments: str) -> str:
    command = Path(sys.executable).with_name("clerk-supabase")
    return subprocess.run([command, *arguments], capture_output=True, text=True, check=True).stdout


def test_a_freshly_signed_event_is_accepted_by_the_ingest_function(stack: LocalStack, root: Path) -> None:
    event = clerk_supabase("event", "user.created", "--id", "user_local", "--secret", stack.webhook_secret)

    assert invoke(stack, root, "IngestFunction", event)["statusCode"] == 202
    assert eventually(lambda: _names(stack, "user_local"), bool) == [("Ada",)]


def test_the_stored_ingest_event_is_refused_because_its_signature_is_old(stack: LocalStack, root: Path) -> None:
    event = (root / "events" / "ingest.json").read_text()

    assert invoke(stack, root, "IngestFunction", event)["statusCode"] == 401


def test_of_the_stored_retry_event_one_is_sent_back_and_one_is_tried_for_the_last_time(
    stack: LocalStack, root: Path
) -> None:
    event = (root / "events" / "retry.json").read_text()

    assert invoke(stack, root, "RetryFunction", event) == {"batchItemFailures": []}

    def delivered() -> set[str]:
        with psycopg.connect(stack.database_url) as database:
            query = "select svix_id from clerk_sync.deliveries where svix_id like 'msg\\_2SampleDead_'"
            return {svix_id for (svix_id,) in database.execute(query)}

    assert "msg_2SampleDead2" in delivered()
    eventually(delivered, lambda found: len(found) == 2)


def test_the_stored_sync_event_is_applied(stack: LocalStack, root: Path) -> None:
    event = (root / "events" / "sync.json").read_text()

    assert invoke(stack, root, "SyncFunction", event) == {"batchItemFailures": []}
    with psycopg.connect(stack.database_url) as database:
        recorded = database.execute(
            "select count(*) from clerk_sync.deliveries where svix_id like 'msg\\_2Sample000_'"
        ).fetchone()
    assert recorded == (len(json.loads(event)["Records"]),)


def test_a_freshly_minted_token_gets_its_row_from_the_session_function(stack: LocalStack, root: Path) -> None:
    event = json.dumps(session_event(stack.mint.session("user_minted")))
    with stack.clerk.writing() as world:
        world.users["user_minted"] = samples.user("user_minted", created_at=1, updated_at=2, first_name="Ada")

    answer = invoke(stack, root, "SessionFunction", event)

    assert answer["statusCode"] == 200
    assert json.loads(answer["body"])["first_name"] == "Ada"
    assert _names(stack, "user_minted") == [("Ada",)]


def test_the_stored_session_event_is_refused_because_its_token_is_old(stack: LocalStack, root: Path) -> None:
    event = (root / "events" / "session.json").read_text()

    answer = invoke(stack, root, "SessionFunction", event)

    assert (answer["statusCode"], answer["body"]) == (401, "unauthorized")


def test_the_command_prints_the_event_of_a_token_that_this_checkout_signs(root: Path) -> None:
    event = json.loads(clerk_supabase("token", "mint", "--user", "user_local", "--event"))
    stored = json.loads((root / "events" / "session.json").read_text())
    assert event.keys() == stored.keys()
    assert event["path"] == "/session"
    token = event["headers"]["authorization"].removeprefix("Bearer ")
    verifier = SessionVerifier(LOCAL_ISSUER, keys_in_pem(public_key_file(root).read_text()))
    assert verifier.verify(token).user_id == "user_local"


def test_an_unknown_sample_is_named_with_those_there_are() -> None:
    with pytest.raises(subprocess.CalledProcessError) as failure:
        clerk_supabase("event", "user.crated")
    assert failure.value.returncode == 1
    assert "no sample is called 'user.crated'" in failure.value.stderr
    assert "user.created" in failure.value.stderr


def _names(stack: LocalStack, user_id: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(stack.database_url) as database:
        return database.execute("select first_name from clerk.users where clerk_id = %s", [user_id]).fetchall()


def test_the_event_for_the_reconcile_function_compares_and_changes_nothing(stack: LocalStack, root: Path) -> None:
    user_id = "user_2Compared00000000000000000"
    with stack.clerk.writing() as clerk:
        clerk.users[user_id] = samples.user(user_id, created_at=clerk.now, updated_at=clerk.now)
    try:
        answer = invoke(stack, root, "ReconcileFunction", (root / "events" / "reconcile.json").read_text())
    finally:
        with stack.clerk.writing() as clerk:
            del clerk.users[user_id]
    assert answer["dry_run"]
    assert answer["counts"]["user"]["missing"] == 1
    with psycopg.connect(stack.database_url) as database:
        assert not database.execute("select from clerk.users where clerk_id = %s", [user_id]).fetchall()
