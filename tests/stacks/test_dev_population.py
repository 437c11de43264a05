"""`clerk-supabase dev` with a database of its own: from .local/env alone, every command finds something to do."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clerk_supabase_cli.standin.instance.beginning import ADA, LABS, dev_id
from tests.kit.polling import eventually
from tests.stacks.developer import Developer, copied, typing_dev

GRACE = dev_id("user", "Grace")


@pytest.fixture(scope="module")
def developer(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Developer]:
    checkout = copied(root, tmp_path_factory.mktemp("checkout"))
    screen = tmp_path_factory.mktemp("terminal") / "screen"
    with typing_dev(root, checkout, screen, "") as developer:
        yield developer


def shell(developer: Developer, typed: str) -> subprocess.CompletedProcess[str]:
    """Types a line into a shell that has nothing but .local/env."""
    return subprocess.run(
        ["bash", "-c", f"source .local/env && {typed}"],
        cwd=developer.checkout,
        env={"PATH": "/usr/bin:/bin", "COLUMNS": "80"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def answer(developer: Developer, typed: str) -> Any:
    done = shell(developer, typed)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def findings(developer: Developer) -> list[tuple[str, str]]:
    """The differences that a new comparison finds, each with the id of its object."""
    run = answer(developer, "clerk-supabase reconcile --json --delete-margin 0")["run"]
    shown = answer(developer, f"clerk-supabase reconcile show {run['run_id']} --json")
    return [(each["difference"], each["entity_id"]) for each in shown["findings"]]


def test_what_dev_says_to_paste_is_one_short_line(developer: Developer) -> None:
    assert developer.sees("source") == "  source .local/env"
    developer.sees("6 users, 2 organizations, with their rows in Postgres")


def test_the_first_users_are_in_postgres_and_a_lost_webhook_is_found_and_repaired(developer: Developer) -> None:
    assert findings(developer) == []

    lost = answer(developer, "clerk-supabase clerk user create --first-name Lost --lose --json")["object"]["id"]
    banned = answer(developer, f"clerk-supabase clerk user ban {GRACE} --json")["webhooks"][0]["svix_id"]
    developer.sees(f"sync +updated +user.updated {GRACE} .* banned .*{banned}")

    assert findings(developer) == [("missing", lost)]
    eventually(lambda: findings(developer), lambda found: found == [])


def test_a_sample_is_known_to_clerk_afterwards_and_a_deleted_id_is_never_used_again(developer: Developer) -> None:
    for name in ("user.created", "organizationMembership.created"):
        sent = shell(developer, f"clerk-supabase event {name} --send")
        assert (sent.returncode, sent.stderr) == (0, "")
    listed = shell(developer, "clerk-supabase clerk list").stdout
    assert "user_2Sample000000000000000000A" in listed

    shell(developer, "clerk-supabase event user.deleted --send")
    again = shell(developer, "clerk-supabase event user.created --send").stderr
    assert "user_2Sample000000000000000000A was deleted, and Clerk uses no id again" in again
    sent = shell(developer, again.splitlines()[-1].strip())
    assert (sent.returncode, sent.stderr) == (0, "")


def test_resync_setup_token_session_and_doctor_are_green(developer: Developer) -> None:
    report = answer(developer, f"clerk-supabase resync {ADA} --json")
    assert (report["state"], report["findings"]) == ("complete", 0)

    mint = f"clerk-supabase token mint --user {ADA} --org {LABS} --role org:admin 2>/dev/null"
    assert answer(developer, f"{mint} | clerk-supabase token --json -")["good"] is True
    setup = answer(developer, f"{mint} | clerk-supabase setup --json --token -")
    assert {each["status"] for each in setup["checks"]} == {"ok"}
    origin = shlex.quote("Origin: http://localhost:3000")
    post = f'curl -s -X POST "$CLERK_SUPABASE_SESSION_URL" -H {origin} -H "Authorization: Bearer $({mint})"'
    assert answer(developer, post)["first_name"] == "Ada"

    examined = answer(developer, f"{mint} | clerk-supabase doctor --json --token -")
    assert not [each for each in examined["checks"] if each["verdict"] == "fail"]
    green = {each["name"] for each in examined["checks"] if each["verdict"] == "ok"}
    assert {"round-trip", "instance", "clerk-keys", "token", "worker-login", "compared", "reconcile"} <= green
