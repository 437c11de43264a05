"""The text of docs/develop.md about `sam local`: its commands, typed unchanged, with every function in a container."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from clerk_supabase_cli.local.processes import Guard, last_lines
from tests.kit.loopback import NO_TLS
from tests.kit.polling import eventually
from tests.sam_local.conftest import Terminal

# The user that the document's commands name.
NEW = "user_1"
# The sample's own id is deleted by the stored batch, for good.
POSTED = "user_2PostedToTheLocalApi"
NAMES = "select first_name, last_name from clerk.users where clerk_id = %s"
DELIVERED = "select svix_id from clerk_sync.deliveries where svix_id like %s order by 1"


def answer(typed: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The answer of the function; `sam local invoke` prints it last."""
    assert typed.returncode == 0, typed.stderr[-3000:]
    returned = json.loads(typed.stdout.splitlines()[-1])
    assert isinstance(returned, dict)
    assert "errorMessage" not in returned, typed.stderr[-3000:]
    return returned


def test_a_sample_event_goes_through_ingest_in_a_container_and_becomes_a_row(terminal: Terminal) -> None:
    typed = terminal.types(terminal.command("IngestFunction"))

    assert answer(typed)["statusCode"] == 202, typed.stdout
    assert eventually(lambda: terminal.rows(NAMES, NEW), bool) == [("Ada", None)]


def test_the_stored_batch_is_applied_by_sync_in_a_container(terminal: Terminal) -> None:
    records = json.loads((terminal.folder / "events" / "sync.json").read_text())["Records"]

    assert answer(terminal.types(terminal.command("SyncFunction"))) == {"batchItemFailures": []}

    assert len(terminal.rows(DELIVERED, r"msg\_2Sample000_")) == len(records)


def test_the_stored_dead_letters_are_sent_back_by_retry_in_a_container(terminal: Terminal) -> None:
    assert answer(terminal.types(terminal.command("RetryFunction"))) == {"batchItemFailures": []}

    # The other one waits for up to two minutes.
    assert ("msg_2SampleDead2",) in terminal.rows(DELIVERED, r"msg\_2SampleDead_")


def test_reconcile_in_a_container_compares_with_the_clerk_of_the_stack(terminal: Terminal) -> None:
    report = answer(terminal.types(terminal.command("ReconcileFunction")))

    assert (report["dry_run"], report["state"]) == (True, "complete")
    assert terminal.rows(
        "select mode, is_dry_run from clerk_sync.reconcile_runs where run_id = %s", report["run_id"]
    ) == [("full", True)]


def test_session_in_a_container_answers_the_token_that_was_minted_here_with_the_row(terminal: Terminal) -> None:
    terminal.types(f".venv/bin/clerk-supabase event user.updated --id {NEW} --send")
    eventually(lambda: terminal.rows(NAMES, NEW), lambda rows: rows == [("Ada", "Lovelace")])

    returned = answer(terminal.types(terminal.command("SessionFunction")))

    assert returned["statusCode"] == 200, returned
    row = json.loads(returned["body"])
    assert (row["clerk_id"], row["last_name"]) == (NEW, "Lovelace")


@pytest.fixture(scope="module")
def local_api(terminal: Terminal) -> Iterator[Path]:
    """The log of the API that runs."""
    with Guard() as guard:
        log = guard.folder("start-api-") / "log"
        process = guard.start(
            ["bash", "-c", terminal.with_keys(f"exec {terminal.command('start-api')}")],
            log=log,
            env=terminal.environment,
            cwd=terminal.folder,
        )

        def status() -> int:
            assert process.poll() is None, last_lines(log, 30)
            try:
                return httpx.get(
                    "http://127.0.0.1:3000/webhooks/clerk", timeout=5, trust_env=False, verify=NO_TLS
                ).status_code
            except httpx.TransportError:
                return 0

        # Only POST is there.
        eventually(status, bool, seconds=60)
        yield log


def test_a_webhook_posted_to_the_local_api_is_accepted_and_becomes_a_row(terminal: Terminal, local_api: Path) -> None:
    typed = terminal.types(f"{terminal.command('--url http://127.0.0.1:3000')} --id {POSTED}")

    assert (typed.returncode, typed.stdout.splitlines()[-1]) == (0, "202 accepted"), (
        typed.stdout + typed.stderr + last_lines(local_api, 30)
    )
    assert eventually(lambda: terminal.rows(NAMES, POSTED), bool) == [("Ada", "Lovelace")]


def test_a_webhook_with_a_wrong_signature_is_refused_by_the_local_api(terminal: Terminal, local_api: Path) -> None:
    secret = "whsec_dGhpcyBpcyBhbm90aGVyIHNlY3JldCwgbm8="
    refused = terminal.types(f"{terminal.command('--url http://127.0.0.1:3000')} --secret {secret}")

    assert (refused.returncode, refused.stdout.splitlines()[-1]) == (1, "401 unauthorized")
