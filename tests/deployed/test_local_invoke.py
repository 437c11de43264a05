"""What `sam local invoke` does with the files in `events`, with this machine's Python in place of the container."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest

from clerk_supabase_cli.samples import user
from clerk_supabase_cli.stack import LocalStack
from tests.polling import eventually

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
    """Invokes a function with the variables of events/env.json, moved to the port this stack listens on."""
    variables = json.loads((root / "events" / "env.json").read_text())[logical_id]
    moved = {":4566": f":{stack.ministack.port}", ":4567": f":{stack.clerk.port}"}
    environment = {
        name: next((value.replace(old, new) for old, new in moved.items() if old in value), value)
        for name, value in variables.items()
    }
    environment |= {
        "PATH": os.environ["PATH"],
        "AWS_ENDPOINT_URL": stack.ministack.endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "MAX_BODY_BYTES": "1040000",
        "RATE_LIMIT_SHARE": "1",
        "BRAKE_ROWS": "10",
        "BRAKE_PERCENT": "1",
        "SILENCE_MINUTES": "30",
        "HOLD_BACK_DAYS": "30",
        "DELIVERIES_DAYS": "100",
        "AUDIT_DAYS": "365",
        "POWERTOOLS_METRICS_NAMESPACE": "Tests",
        "POWERTOOLS_SERVICE_NAME": logical_id,
    }
    folder = root / "functions" / logical_id.removesuffix("Function").lower()
    result = subprocess.run(
        [sys.executable, "-c", _INVOKE, str(folder)],
        input=event,
        env=environment,
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


def test_an_unknown_sample_is_named_with_those_there_are() -> None:
    with pytest.raises(subprocess.CalledProcessError) as failure:
        clerk_supabase("event", "user.crated")
    assert failure.value.returncode == 1
    assert "no sample is called 'user.crated'" in failure.value.stderr
    assert "user.created" in failure.value.stderr


def _names(stack: LocalStack, user_id: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(stack.database_url) as database:
        return database.execute("select first_name from public.users where clerk_id = %s", [user_id]).fetchall()


def test_the_event_for_the_reconcile_function_compares_and_changes_nothing(stack: LocalStack, root: Path) -> None:
    user_id = "user_2Compared00000000000000000"
    with stack.clerk.writing() as clerk:
        clerk.users[user_id] = user(user_id, created_at=clerk.now, updated_at=clerk.now)
    try:
        answer = invoke(stack, root, "ReconcileFunction", (root / "events" / "reconcile.json").read_text())
    finally:
        with stack.clerk.writing() as clerk:
            del clerk.users[user_id]
    assert answer["dry_run"]
    assert answer["counts"]["user"]["missing"] == 1
    with psycopg.connect(stack.database_url) as database:
        assert not database.execute("select from public.users where clerk_id = %s", [user_id]).fetchall()
