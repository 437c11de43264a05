"""The reconcile function as Lambda runs it: its events, its time, and its answers to faults."""

from __future__ import annotations

import io
import json
import runpy
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from clerk_supabase.errors import ClerkKeyRejected, WrongInstance
from clerk_supabase.model.changes import Delivery, changes_of
from clerk_supabase.model.events import parse_event
from clerk_supabase_cli.standin.faults import Fault, answering
from tests.kit.aws import Account
from tests.kit.databases import Database
from tests.kit.environments import environment_of
from tests.kit.reconciling import MINUTE, Queued, Rig, rig_with

KEY = "sk_live_standin"
ADA = f"user_{0:026}"
RESERVE_SECONDS = 30
MARGIN_SECONDS = 300

Invoke = Callable[..., dict[str, Any]]


@dataclass(frozen=True)
class Context:
    """The context of Lambda, as far as the function reads it."""

    seconds: float

    def get_remaining_time_in_millis(self) -> int:
        return int(self.seconds * 1000)


@pytest.fixture
def rig(database: Database) -> Iterator[Rig]:
    with rig_with(database, 30) as rig:
        rig.api.answers.key = KEY
        yield rig


@pytest.fixture
def margin_seconds() -> int:
    return 0


with_the_margin_of_a_stack = pytest.mark.parametrize("margin_seconds", [MARGIN_SECONDS])


@pytest.fixture
def environment(rig: Rig, account: Account, margin_seconds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment that the template gives the function."""
    variables = environment_of(
        "reconcile",
        CLERK_SECRET_KEY_ARN=account.put_secret("clerk", KEY),
        CLERK_API_URL=rig.api.url,
        DATABASE_SECRET_ARN=account.put_secret("database", rig.database.worker_url),
        SYNC_QUEUE_URL=account.sync_queue_url,
        RATE_LIMIT_SHARE="1",
        DELETE_MARGIN_SECONDS=str(margin_seconds),
    )
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def invoke(rig: Rig, environment: None, root: Path) -> Iterator[Invoke]:
    """Calls the function with an event, a minute later by Clerk's clock."""
    module = runpy.run_path(str(root / "functions" / "reconcile" / "handler.py"))

    def call(event: dict[str, Any], seconds: float = 900) -> dict[str, Any]:
        rig.world.now += MINUTE
        answer: dict[str, Any] = module["lambda_handler"](event, Context(seconds))
        return answer

    yield call
    module["store"].close()
    module["clerk_http"].close()


@pytest.fixture
def mirrored(rig: Rig, invoke: Invoke, account: Account) -> Rig:
    """The same after a first run."""
    assert invoke({"mode": "full"})["state"] == "complete"
    Queued(account, rig.store).drain()
    return rig


def metrics(printed: str) -> dict[str, float]:
    """The metrics that CloudWatch reads from the printed lines."""
    lines = [json.loads(line) for line in printed.splitlines() if '"_aws"' in line]
    return {name: value[0] for line in lines for name, value in line.items() if isinstance(value, list)}


def test_the_event_of_the_schedule_repairs_a_lost_sign_up_through_the_sync_queue(
    mirrored: Rig, invoke: Invoke, account: Account
) -> None:
    mirrored.forget(ADA)
    answer = invoke({"mode": "full"})
    assert json.loads(json.dumps(answer))["state"] == "complete"
    assert ADA not in mirrored.shown()
    assert Queued(account, mirrored.store).drain() == 1
    assert mirrored.agrees()


def test_a_key_of_another_instance_than_the_parameter_names_is_refused(
    rig: Rig, environment: None, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLERK_INSTANCE_ID", "ins_another")
    module = runpy.run_path(str(root / "functions" / "reconcile" / "handler.py"))
    with closing(module["store"]), pytest.raises(WrongInstance, match="ins_another"):
        module["lambda_handler"]({"mode": "full"}, Context(900))
    module["clerk_http"].close()
    assert rig.shown() == set()


@with_the_margin_of_a_stack
def test_a_lost_delete_is_repeated_by_the_first_quick_run_after_the_margin(
    mirrored: Rig, invoke: Invoke, account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    # Whom Clerk's API showed a moment ago is young.
    mirrored.world.now += 2 * MARGIN_SECONDS * 1_000
    mirrored.world.remove_user(ADA)
    capsys.readouterr()
    first = invoke({"mode": "quick"})
    counted = metrics(capsys.readouterr().out)
    assert (first["state"], first["counts"]["user"]["awaiting"]) == ("complete", 1)
    assert "Clerk says for the first time that objects are gone: 1" in first["reason"]
    assert (counted["QuickRunsComplete"], counted["DeletesSent"]) == (1, 0)
    assert account.received(account.sync_queue_url) == []
    mirrored.world.now += MARGIN_SECONDS * 1_000
    second = invoke({"mode": "quick"})
    assert (second["state"], second["reason"], second["counts"]["user"]["deletes sent"]) == ("complete", None, 1)
    assert Queued(account, mirrored.store).drain() == 1
    assert mirrored.agrees()
    assert invoke({"mode": "quick"})["findings"] == 0


@with_the_margin_of_a_stack
@pytest.mark.parametrize("mode", ["quick", "full"])
def test_an_api_that_is_two_seconds_behind_the_webhooks_deletes_nobody(
    mirrored: Rig, invoke: Invoke, account: Account, mode: str
) -> None:
    mirrored.world.now += 2 * MARGIN_SECONDS * 1_000
    created = mirrored.world.create_user({})["id"]
    event = parse_event(json.dumps(mirrored.world.events[-1]).encode())
    mirrored.store.apply([(changes_of(event, mirrored.world.now), Delivery("msg_1", event.type, mirrored.world.now))])
    count = json.dumps({"object": "total_count", "total_count": len(mirrored.world.users) - 1}).encode()
    hidden = Fault(alter=lambda elements: [each for each in elements if created.encode() not in each])
    mirrored.api.faults.add(hidden, path="/users", times=1_000)
    mirrored.api.faults.add(Fault(body=count), path="/users/count", times=1_000)
    mirrored.api.faults.add(answering(404, code="resource_not_found"), path=f"/users/{created}", times=1_000)
    mirrored.world.now += 1_500 - MINUTE
    answer = invoke({"mode": mode})
    assert (answer["state"], answer["findings"]) == ("complete", 0)
    assert "there within the last 300 s: 1; a later run asks about them" in answer["reason"]
    assert account.received(account.sync_queue_url) == []
    mirrored.api.faults.clear()
    assert invoke({"mode": "quick"})["reason"] is None
    assert mirrored.agrees()


def test_a_dry_run_sends_nothing(mirrored: Rig, invoke: Invoke, account: Account) -> None:
    mirrored.forget(ADA)
    answer = invoke({"mode": "full", "dry_run": True})
    assert (answer["state"], answer["findings"]) == ("complete", 1)
    assert account.received(account.sync_queue_url) == []


def test_a_complete_run_is_counted_for_the_alarms(
    mirrored: Rig, invoke: Invoke, capsys: pytest.CaptureFixture[str]
) -> None:
    mirrored.forget(ADA)
    capsys.readouterr()
    invoke({"mode": "quick"})
    quick = metrics(capsys.readouterr().out)
    invoke({"mode": "full"})
    full = metrics(capsys.readouterr().out)
    assert (quick["QuickRunsComplete"], quick["Silence"]) == (1, 0)
    assert (full["FullRunsComplete"], full["Drift"], full["Missing"]) == (1, 1, 1)
    assert "BrakePulled" not in full


@pytest.mark.parametrize("is_dry_run", [True, False])
def test_a_run_counts_how_long_ago_rows_were_compared_unless_it_only_shows_differences(
    is_dry_run: bool, mirrored: Rig, invoke: Invoke, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    invoke({"mode": "full", "dry_run": is_dry_run})
    assert ("MinutesSinceCompared" in metrics(capsys.readouterr().out)) is not is_dry_run


def test_a_pulled_brake_is_no_error_but_an_alarm(
    mirrored: Rig, invoke: Invoke, account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    for user_id in sorted(mirrored.shown())[:12]:
        mirrored.world.remove_user(user_id)
    capsys.readouterr()
    answer = invoke({"mode": "full"})
    counted = metrics(capsys.readouterr().out)
    assert answer["state"] == "stopped"
    assert counted["BrakePulled"] == 1
    assert "FullRunsComplete" not in counted
    assert account.received(account.sync_queue_url) == []
    assert invoke({"mode": "full", "allow_deletes": 12})["state"] == "complete"
    assert Queued(account, mirrored.store).drain() == 12
    assert mirrored.agrees()


def test_a_run_stops_before_its_time_is_over_and_the_next_one_continues(mirrored: Rig, invoke: Invoke) -> None:
    mirrored.api.faults.add(Fault(wire="hang"), path="/organization_memberships")
    first = invoke({"mode": "full"}, seconds=RESERVE_SECONDS + 2)
    assert first["state"] == "running"
    assert "time" in first["reason"]
    second = invoke({"mode": "quick"})
    assert (second["run_id"], second["mode"], second["state"]) == (first["run_id"], "full", "complete")
    assert second["is_resumed"]


def test_a_refused_key_is_an_error_with_one_clear_line_in_the_log_that_does_not_repeat_it(
    mirrored: Rig, invoke: Invoke, log: io.StringIO
) -> None:
    mirrored.api.answers.key = "sk_live_rotated"
    with pytest.raises(ClerkKeyRejected, match="put the instance's present secret key into the secret"):
        invoke({"mode": "quick"})
    [line] = map(json.loads, log.getvalue().splitlines())
    assert line["level"] == "ERROR"
    assert "clerk_key_invalid" in line["reason"]
    assert KEY not in log.getvalue()


def test_a_rotated_key_is_found_without_a_deploy(mirrored: Rig, invoke: Invoke, account: Account) -> None:
    mirrored.api.answers.key = "sk_live_rotated"
    account.put_secret("clerk", "sk_live_rotated")
    assert invoke({"mode": "full"})["state"] == "complete"


def test_a_run_that_failed_is_an_error_so_that_lambda_reports_it(
    mirrored: Rig, invoke: Invoke, capsys: pytest.CaptureFixture[str]
) -> None:
    mirrored.api.faults.add(answering(422, code="form_param_invalid"), path="/users/count", times=9)
    capsys.readouterr()
    with pytest.raises(Exception, match="form_param_invalid") as error:
        invoke({"mode": "full"})
    assert type(error.value).__name__ == "RunFailed"
    assert metrics(capsys.readouterr().out)["RunsFailed"] == 1


def test_no_personal_data_appears_in_any_log_line(mirrored: Rig, invoke: Invoke, log: io.StringIO) -> None:
    mirrored.world.update("user", ADA, {"first_name": "Wilhelmina", "public_metadata": {"plan": "platinum"}})
    invoke({"mode": "full"})
    [line] = map(json.loads, log.getvalue().splitlines())
    assert line["counts"]["user"]["stale"] == 1
    assert not [word for word in ("Wilhelmina", "platinum", "example.test", KEY) if word in log.getvalue()]
