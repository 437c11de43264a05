"""The commands of an operator against the deployed stack: `clerk-supabase`, with nothing but its environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import psycopg

from clerk_supabase_cli.local.stack import LocalStack
from clerk_supabase_cli.standin.deliveries import sign
from clerk_supabase_cli.standin.samples import event, new_user_id, user
from tests.kit.loopback import NO_TLS
from tests.kit.polling import eventually


def typed(stack: LocalStack, *arguments: str, stack_name: str = "") -> subprocess.CompletedProcess[str]:
    """The answer of the command."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return subprocess.run(
        [str(Path(sys.executable).with_name("clerk-supabase")), *arguments],
        env=own
        | stack.ministack.environment
        | {"DATABASE_URL": stack.database_url, "CLERK_SUPABASE_STACK": stack_name or stack.name}
        | {"CLERK_API_URL": stack.clerk.url, "CLERK_SECRET_KEY": stack.clerk.answers.key},
        capture_output=True,
        text=True,
        check=False,
    )


def answer(stack: LocalStack, *arguments: str) -> Any:
    """The same for machines."""
    result = typed(stack, *arguments, "--json")
    assert result.stdout, result.stderr
    return json.loads(result.stdout)


def states(stack: LocalStack, user_id: str) -> list[tuple[str, str | None]]:
    """State and outcome of the parked events about a user."""
    found = answer(stack, "parked", "list", "--state", "all", "--entity", user_id)
    return [(each["state"], each["outcome"]) for each in found["events"]]


def test_an_event_is_parked_listed_replayed_applied_and_settled(stack: LocalStack) -> None:
    user_id, now = new_user_id(), time.time_ns() // 1_000_000
    happening = event(
        "user.created", user(user_id, created_at=now, updated_at=now, username="taken"), timestamp=now + 18
    )
    request = sign(happening, stack.webhook_secret)
    svix_id = request.headers["svix-id"]
    with psycopg.connect(stack.database_url, autocommit=True) as database:
        database.execute("alter table clerk.users add constraint not_taken check (username <> 'taken')")
        try:
            posted = httpx.post(
                stack.webhook_url,
                content=request.body,
                headers=dict(request.headers),
                timeout=60,
                trust_env=False,
                verify=NO_TLS,
            )
            assert posted.status_code == 202
            # The database is asked first, which costs a hundredth of an answer of the command.
            parked = "select from clerk_sync.parked_events where svix_id = %s"
            eventually(lambda: database.execute(parked, [svix_id]).rowcount, bool)
            assert states(stack, user_id) == [("parked", None)]
            assert "not_taken" in typed(stack, "parked", "list", "--entity", user_id).stdout
            assert typed(stack, "status").returncode == 1
        finally:
            database.execute("alter table clerk.users drop constraint not_taken")

        replayed = typed(stack, "parked", "replay", svix_id)

        assert replayed.returncode == 0, replayed.stderr
        assert "1 replayed" in replayed.stdout
        applied = "select from clerk_sync.deliveries where svix_id = %s"
        eventually(lambda: database.execute(applied, [svix_id]).rowcount, bool)
        assert states(stack, user_id) == [("settled", "created")]
        assert answer(stack, "parked", "list", "--entity", user_id)["events"] == []
        [(name,)] = database.execute("select username from clerk.users where clerk_id = %s", [user_id]).fetchall()
    assert name == "taken"
    assert "parked" in typed(stack, "explain", user_id).stdout


def test_the_status_finds_the_queues_by_the_name_of_the_stack(stack: LocalStack) -> None:
    report = answer(stack, "status")
    assert report["not_looked_at"] == {}
    assert set(report["queues"]) == {"sync", "dead_letters", "parked"}
    assert report["database"]["events"]


def test_a_stack_that_does_not_exist_is_reported(stack: LocalStack) -> None:
    refused = typed(stack, "parked", "replay", "--all", stack_name="no-such-stack")
    assert refused.returncode == 1
    assert "no-such-stack" in refused.stderr
    assert "Traceback" not in refused.stderr
