"""`clerk-supabase clerk` and `event --send` with the made-up Clerk instance of a running `dev`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from clerk_supabase_cli.local.playing import NotPlayed
from clerk_supabase_cli.local.running import NotRunning, RunningStack
from clerk_supabase_cli.main import commands
from clerk_supabase_cli.project import CHECKOUT_VARIABLE
from clerk_supabase_cli.standin.answers import Answers
from clerk_supabase_cli.standin.backend_api import ClerkApi
from clerk_supabase_cli.standin.deliveries import generate_secret
from clerk_supabase_cli.standin.instance.beginning import ADA, LABS, begin
from clerk_supabase_cli.standin.instance.control import Control
from clerk_supabase_cli.standin.instance.instance import Instance
from clerk_supabase_cli.standin.instance.webhooks import Webhooks


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that looks like a checkout, without a running `dev`."""
    (tmp_path / "sql" / "migrations").mkdir(parents=True)
    (tmp_path / "template.yaml").touch()
    monkeypatch.setenv(CHECKOUT_VARIABLE, str(tmp_path))
    return tmp_path


@pytest.fixture
def instance(checkout: Path) -> Iterator[Instance]:
    """The instance of a `dev`, whose webhooks no thread sends."""
    webhooks = Webhooks()
    webhooks.deliver_to("http://127.0.0.1:9/", generate_secret())
    instance = Instance(webhooks=webhooks)
    begin(instance)
    with ClerkApi(Answers(instance.world, lock=instance.lock), control=Control(instance)) as api:
        stack = RunningStack(
            process_id=os.getpid(),
            webhook_url="http://127.0.0.1:9/",
            session_url="",
            webhook_secret="",
            database_url="",
            name="",
            aws={},
            clerk_api_url=api.url,
            clerk_secret_key=api.answers.key,
            clerk_publishable_key="",
            frontend_api_url="",
            logs="",
        )
        stack.save(checkout)
        yield instance


def typed(line: str) -> Result:
    return CliRunner().invoke(commands, ["clerk", *line.split()], catch_exceptions=False)


def test_a_change_is_printed_with_its_webhooks_and_what_to_look_at_next(instance: Instance) -> None:
    banned = typed(f"user ban {ADA}").output.splitlines()
    assert instance.world.users[ADA]["banned"] is True
    assert banned[0] == f"ban user: {ADA}"
    assert banned[1].startswith("  user.updated msg_")
    assert banned[2] == f"next: clerk-supabase explain {ADA}"

    lost = typed(f"membership change {LABS} {ADA} org:member --lose").output.splitlines()
    assert lost[2] == "    lost, as you wished"
    assert lost[3] == "next: clerk-supabase reconcile --delete-margin 0"


def test_the_tokens_of_a_payer_name_the_plan_and_the_features_that_were_given_last(instance: Instance) -> None:
    assert typed(f"entitle {LABS} --plan old").output == f"entitle: {LABS}\n  in the next tokens: plan org:old\n"
    replaced = typed(f"entitle {LABS} --plan team --feature reports --feature export").output
    assert replaced.endswith("  in the next tokens: plan org:team, feature org:reports, feature org:export\n")
    given = instance.entitlements
    assert (given.plans_of(LABS), given.features_of(LABS)) == (["o:team"], ["o:reports", "o:export"])
    assert (given.plans_of(ADA), given.features_of(ADA)) == ([], [])
    with pytest.raises(NotPlayed, match="names no scope, as the payer is the scope: team"):
        typed(f"entitle {LABS} --plan org:team")


def test_json_is_printed_for_machines(instance: Instance) -> None:
    made = json.loads(typed('user create --first-name Zoe --set public_metadata={"plan":"pro"} --json').output)
    assert instance.world.users[made["object"]["id"]]["public_metadata"] == {"plan": "pro"}
    played = json.loads(typed("play --rate 100 --seconds 0.1 --lose 100 --json").output)
    assert sum(played["changes"].values()) == 10
    assert played["webhooks"]["lose"] == played["webhooks"]["total"] >= 10


def test_a_rejected_operation_and_a_missing_dev_are_one_line(instance: Instance, checkout: Path) -> None:
    with pytest.raises(NotPlayed, match="user 'user_x' is unknown in the stand-in for Clerk"):
        typed("user ban user_x")
    assert "Say what changes" in typed(f"user update {ADA}").output
    assert "needs JSON" in typed(f"user update {ADA} --set username=NaN").output
    assert "--set username: write FIELD=JSON" in typed(f"user update {ADA} --set username").output
    (checkout / ".local" / "dev.json").unlink()
    with pytest.raises(NotRunning, match="`make dev`"):
        typed("list")
    assert len(instance.world.users) == 6
