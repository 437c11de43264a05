"""`clerk-supabase clerk` and `event --send` with the made-up Clerk instance of a running `dev`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from clerk_supabase_cli.local.dev.playing import NotPlayed
from clerk_supabase_cli.local.dev.running import NotRunning, RunningStack
from clerk_supabase_cli.main import commands
from clerk_supabase_cli.project import CHECKOUT_VARIABLE
from clerk_supabase_cli.standin.backend.answers import Answers
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


def test_a_payer_subscribes_with_the_events_of_clerk_and_the_next_tokens_name_the_plan(instance: Instance) -> None:
    said = typed(f"entitle {LABS} --plan team --feature reports").output.splitlines()
    assert said[0] == f"entitle: {LABS}"
    assert [line.split()[0] for line in said[1:-2]] == [
        "subscriptionItem.active",
        "subscription.created",
        "subscriptionItem.active",
        "subscriptionItem.ended",
        "paymentAttempt.created",
        "paymentAttempt.updated",
        "subscription.updated",
    ]
    assert said[-2:] == [
        "  in the next tokens of an app: plan org:team, feature org:dashboard, feature org:reports",
        f"next: clerk-supabase explain {LABS}",
    ]
    assert instance.entitled(LABS) == (["o:team"], ["o:dashboard", "o:reports"])
    assert instance.entitled(ADA) == ([], [])
    again = typed(f"entitle {LABS} --plan team").output.splitlines()
    assert again[1] == "  no webhook: the plan stays the same"
    assert len(again) == 4

    back = typed(f"entitle {LABS} --lose").output
    assert "in the next tokens of an app: plan org:free_org\n" in back
    assert back.count("lost, as you wished") == 3
    assert back.endswith("next: clerk-supabase reconcile --delete-margin 0\n")


def test_a_feature_alone_chooses_the_cheapest_plan_and_a_feature_of_no_plan_names_the_way_out(
    instance: Instance,
) -> None:
    assert "plan org:team" in typed(f"entitle {LABS} --feature reports").output
    assert "plan user:pro" in typed(f"entitle {ADA} --feature reports --feature export").output
    with pytest.raises(NotPlayed, match="no plan for organizations has sso") as rejected:
        typed(f"entitle {LABS} --feature sso")
    assert "the plans: free_org (no feature), team (dashboard, reports)" in str(rejected.value)
    with pytest.raises(NotPlayed, match="has dashboard, reports, and not sso") as rejected:
        typed(f"entitle {LABS} --plan team --feature sso")
    typed(str(rejected.value).partition("clerk-supabase clerk ")[2])
    assert "feature org:sso" in typed(f"entitle {LABS} --plan team --feature sso").output
    with pytest.raises(NotPlayed, match="there is no plan gold for organizations: free_org"):
        typed(f"entitle {LABS} --plan gold")
    with pytest.raises(NotPlayed, match="names no scope, as the payer is the scope: team"):
        typed(f"entitle {LABS} --plan org:team")


def test_a_plan_is_made_and_changed_without_an_event(instance: Instance) -> None:
    made = typed("plan create gold --for org --feature sso --amount 100").output
    assert "no webhook: Clerk sends no event about a plan" in made
    assert "plan org:gold" in typed(f"entitle {LABS} --feature sso").output
    typed("plan update gold --for org --feature search")
    assert instance.entitled(LABS) == (["o:gold"], ["o:search"])
    assert "org:gold " in typed("plan list").output
    assert {each["slug"] for each in json.loads(typed("plan list --json").output)} == {
        *("free_user", "pro", "free_org", "team", "gold")
    }
    with pytest.raises(NotPlayed, match="gold is no new slug"):
        typed("plan create gold --for org")


def test_json_is_printed_for_machines(instance: Instance) -> None:
    made = json.loads(typed('user create --first-name Zoe --set public_metadata={"plan":"pro"} --json').output)
    assert instance.world.users[made["object"]["id"]]["public_metadata"] == {"plan": "pro"}
    played = json.loads(typed("play --rate 100 --seconds 0.1 --lose 100 --json").output)
    assert sum(played["changes"].values()) == 10
    assert typed("play --rate 1 --seconds 1").output.splitlines()[-2].startswith("1 change, ")
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
