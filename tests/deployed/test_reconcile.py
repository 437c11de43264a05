"""Reconcile on the deployed template: the events of the schedules, against the stand-in for Clerk's API."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql

from clerk_supabase.model.found_kinds import FACTS
from clerk_supabase_cli.local.stack import LocalStack, ReconcileFailed
from clerk_supabase_cli.standin.samples import Json, new_user_id, user
from tests.deployed.test_operating import answer, typed
from tests.kit.kinds import OURS
from tests.kit.polling import eventually


@pytest.fixture(autouse=True)
def _nothing_to_compare(stack: LocalStack) -> Iterator[None]:
    """Empties Clerk and the tables: the stand-in for Clerk does not know the users of other tests' webhooks."""
    with psycopg.connect(stack.database_url, autocommit=True) as database:
        kinds = sql.SQL(", ").join(sql.Identifier("clerk", FACTS[kind].table) for kind in OURS)
        database.execute(sql.SQL("truncate {}, clerk.users_public cascade").format(kinds))
        database.execute("truncate clerk_sync.entities, clerk_sync.reconcile_runs, clerk_sync.instance cascade")
    with stack.clerk.writing() as clerk:
        clerk.users.clear()
    yield
    with stack.clerk.writing() as clerk:
        clerk.users.clear()


def sign_up(stack: LocalStack, users: int = 1) -> list[str]:
    """Signs up this number of users, an hour ago and without a webhook."""
    at = time.time_ns() // 1_000_000 - 3_600_000
    made: dict[str, Json] = {}
    for number in range(users):
        user_id = new_user_id()
        made[user_id] = user(user_id, created_at=at + number, updated_at=at + number, first_name="Grace")
    with stack.clerk.writing() as clerk:
        clerk.users.update(made)
    return list(made)


def leave(stack: LocalStack, user_ids: list[str]) -> None:
    """Deletes these users in Clerk, without a webhook."""
    with stack.clerk.writing() as clerk:
        for user_id in user_ids:
            del clerk.users[user_id]


def shown(stack: LocalStack) -> set[str]:
    """The users in the table that are not deleted."""
    with psycopg.connect(stack.database_url) as database:
        rows = database.execute("select clerk_id from clerk.users where deleted_at is null").fetchall()
    return {user_id for (user_id,) in rows}


def first_names(stack: LocalStack) -> set[str]:
    """The first names in the table."""
    with psycopg.connect(stack.database_url) as database:
        return {name for (name,) in database.execute("select first_name from clerk.users").fetchall()}


def mirror(stack: LocalStack, users: int) -> list[str]:
    """Puts this number of users into Clerk and into the table, with a time before the present second.

    Clerk's clock, the Date of its answers, counts whole seconds, and a run deletes no user seen in the second in which
    the run began.
    """
    ids = sign_up(stack, users)
    stack.reconcile()
    eventually(lambda: shown(stack), lambda found: found == set(ids))
    seen_in = int(time.time())
    eventually(lambda: int(time.time()), lambda second: second > seen_in)
    return ids


def test_the_event_of_the_nightly_schedule_repairs_a_lost_sign_up_through_the_sync_queue(stack: LocalStack) -> None:
    others = mirror(stack, 3)
    [user_id] = sign_up(stack)

    report = stack.reconcile("full")

    assert (report["state"], report["counts"]["user"]["missing"]) == ("complete", 1)
    eventually(lambda: shown(stack), lambda found: found == {user_id, *others})
    with psycopg.connect(stack.database_url) as database:
        causes = database.execute("select cause from clerk_sync.audit_log where entity_id = %s", [user_id]).fetchall()
    assert causes == [("reconcile",)]
    again = stack.reconcile("full")
    assert (again["state"], again["findings"]) == ("complete", 0)


def test_the_event_of_the_quick_schedule_repairs_changed_users(stack: LocalStack) -> None:
    [user_id] = mirror(stack, 1)
    with stack.clerk.writing() as clerk:
        now = time.time_ns() // 1_000_000
        clerk.users[user_id] = clerk.users[user_id] | {"first_name": "Hopper", "updated_at": now}

    report = stack.reconcile("quick")

    assert (report["mode"], report["state"]) == ("quick", "complete")
    eventually(lambda: first_names(stack), lambda found: found == {"Hopper"})
    assert answer(stack, "reconcile", "--dry-run")["report"]["findings"] == 0


def test_a_lost_delete_is_repeated_by_a_run_and_can_be_undone(stack: LocalStack) -> None:
    ids = mirror(stack, 3)
    leave(stack, ids[:1])

    report = stack.reconcile("full")

    users = report["counts"]["user"]
    # A delete that the sync function applied before the end of the run counts as done.
    assert (report["state"], users.get("deletes sent", 0) + users.get("deleted", 0)) == ("complete", 1)
    eventually(lambda: shown(stack), lambda found: found == set(ids[1:]))
    undone = typed(stack, "undo", str(report["run_id"]))
    assert undone.returncode == 0, undone.stderr
    assert shown(stack) == set(ids)


def test_the_brake_holds_until_an_operator_allows_the_deletes(stack: LocalStack) -> None:
    ids = mirror(stack, 12)
    leave(stack, ids)

    assert stack.reconcile("full")["state"] == "stopped"
    assert shown(stack) == set(ids)
    assert typed(stack, "reconcile", "--full", "--delete-margin", "0").returncode == 3

    allowed = typed(stack, "reconcile", "--full", "--allow-deletes", "12", "--delete-margin", "0")
    assert allowed.returncode == 0, allowed.stderr
    eventually(lambda: shown(stack), lambda found: found == set())


def test_a_refused_key_is_one_clear_line_in_the_log_and_a_failed_run_in_its_queue(stack: LocalStack) -> None:
    key = stack.clerk.answers.key
    stack.clerk.answers.key = "sk_live_rotated"
    try:
        with pytest.raises(ReconcileFailed, match="clerk_key_invalid"):
            stack.reconcile("full")
        invoke_as_the_schedule_does(stack)
        failed = eventually(lambda: failed_runs(stack), bool)
    finally:
        stack.clerk.answers.key = key
    lines = [line for line in stack.function_log("ReconcileFunction") if "clerk_key_invalid" in line]
    assert any('"level":"ERROR"' in line and "put the instance's present secret key" in line for line in lines)
    assert key not in "".join(stack.function_log("ReconcileFunction"))
    assert json.loads(stack.scheduled_event("full")) == failed[0]["requestPayload"]
    assert "clerk_key_invalid" in json.dumps(failed[0]["responsePayload"])
    assert stack.reconcile("full")["state"] == "complete"


def invoke_as_the_schedule_does(stack: LocalStack) -> None:
    """Invokes the function itself, without a wait.

    The emulator ignores the alias's destination for failures: so the function gets the same destination.
    """
    functions = stack.ministack.client("lambda")
    name = stack.physical_id("ReconcileFunction")
    deployed = functions.get_function_event_invoke_config(FunctionName=name, Qualifier="live")
    functions.put_function_event_invoke_config(
        FunctionName=name,
        MaximumRetryAttempts=deployed["MaximumRetryAttempts"],
        MaximumEventAgeInSeconds=deployed["MaximumEventAgeInSeconds"],
        DestinationConfig={"OnFailure": deployed["DestinationConfig"]["OnFailure"]},
    )
    event = stack.scheduled_event("full")
    functions.invoke(FunctionName=name, InvocationType="Event", Payload=event)


def failed_runs(stack: LocalStack) -> list[Any]:
    found = stack.ministack.client("sqs").receive_message(QueueUrl=stack.outputs["FailedRunsQueueUrl"])
    return [json.loads(message["Body"]) for message in found.get("Messages", [])]


def test_the_schedules_call_the_alias_and_are_off_on_this_machine(stack: LocalStack) -> None:
    scheduler = stack.ministack.client("scheduler")
    found = {
        name: scheduler.get_schedule(Name=stack.physical_id(f"ReconcileFunction{name}")) for name in ("Full", "Quick")
    }
    assert {name: json.loads(each["Target"]["Input"]) for name, each in found.items()} == {
        "Full": {"mode": "full"},
        "Quick": {"mode": "quick"},
    }
    for schedule in found.values():
        assert schedule["Target"]["Arn"].endswith(f":function:{stack.physical_id('ReconcileFunction')}:live")
        assert schedule["State"] == "DISABLED"


def test_without_the_right_to_send_repairs_the_run_says_so_and_the_next_one_makes_up_for_it(stack: LocalStack) -> None:
    others = mirror(stack, 3)
    [user_id] = sign_up(stack)
    iam, role = stack.ministack.client("iam"), stack.physical_id("ReconcileRole")
    document = iam.get_role_policy(RoleName=role, PolicyName="send-repairs")["PolicyDocument"]
    iam.delete_role_policy(RoleName=role, PolicyName="send-repairs")
    try:
        with pytest.raises(ReconcileFailed, match="SQS did not take the message"):
            stack.reconcile("full")
    finally:
        text = document if isinstance(document, str) else json.dumps(document)
        iam.put_role_policy(RoleName=role, PolicyName="send-repairs", PolicyDocument=text)
    report = stack.reconcile("full")
    assert (report["state"], report["is_resumed"]) == ("complete", True)
    eventually(lambda: shown(stack), lambda found: found == {user_id, *others})
