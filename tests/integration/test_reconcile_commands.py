"""`clerk-supabase reconcile`, `resync` and `undo`, as an operator types them."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from clerk_supabase.aws.queue import messages_of
from clerk_supabase_cli.standin.faults import answering, without_every
from tests.kit.aws import Account
from tests.kit.databases import Database, rows
from tests.kit.parked import Command
from tests.kit.reconciling import MINUTE, Rig, rig_with

# With the limits of a live instance no request waits.
KEY = "sk_live_standin"
ADA, BEN, CAL = (f"user_{number:026}" for number in range(3))


@pytest.fixture
def rig(database: Database) -> Iterator[Rig]:
    """Thirty users in Clerk, and an empty database."""
    with rig_with(database, 30) as rig:
        rig.api.answers.key = KEY
        yield rig


@pytest.fixture
def command(rig: Rig, account: Account) -> Command:
    return Command({"DATABASE_URL": rig.database.url, "CLERK_API_URL": rig.api.url, "CLERK_SECRET_KEY": KEY})


@pytest.fixture
def mirrored(rig: Rig, command: Command) -> Rig:
    """The same after a first run, a minute later."""
    command.run("reconcile")
    rig.world.now += MINUTE
    return rig


def test_the_first_run_fills_the_tables_and_says_so(rig: Rig, command: Command) -> None:
    printed = command.run("reconcile").stdout
    assert rig.agrees()
    [run] = command.json("reconcile", "runs")["runs"]
    assert run["counts"]["user"]["missing"] == 30
    assert "30 " in command.run("reconcile", "runs").stdout
    assert re.search(r"run \d+, full: complete", printed)
    assert "requests to Clerk" in printed


def test_a_dry_run_names_what_differs_with_the_likely_cause_and_changes_nothing(
    mirrored: Rig, command: Command
) -> None:
    mirrored.forget(ADA)
    mirrored.world.update("user", BEN, {"first_name": "Benedict"})
    mirrored.admin.execute("update clerk.users set username = 'by-hand' where clerk_id = %s", [CAL])
    mirrored.world.now += MINUTE

    found = command.json("reconcile", "--dry-run")
    printed = command.run("reconcile", "--dry-run").stdout

    told = {each["entity_id"]: (each["difference"], each["cause"], each["fields"]) for each in found["findings"]}
    assert told == {
        ADA: ("missing", "it never arrived", None),
        BEN: ("stale", "its last change did not arrive", ["first_name"]),
        CAL: ("different", "somebody edited the row", ["username"]),
    }
    assert "missing" in printed
    assert "dry run" in printed
    assert ADA not in mirrored.shown()
    assert mirrored.column(CAL, "username") == "by-hand"


def test_a_run_that_counted_nothing_prints_no_empty_table(rig: Rig, command: Command) -> None:
    for user_id in list(rig.world.users):
        rig.world.remove_user(user_id)
    assert re.match(r"run \d+, full: complete\n", command.run("reconcile").stdout)


def test_without_a_queue_differences_are_repaired_at_once(mirrored: Rig, command: Command) -> None:
    mirrored.forget(ADA)
    mirrored.world.remove_user(BEN)
    mirrored.world.now += MINUTE
    command.run("reconcile", "--delete-margin", "0")
    assert mirrored.agrees()


def test_with_a_queue_repairs_are_applied_like_events(mirrored: Rig, command: Command, account: Account) -> None:
    mirrored.forget(ADA)
    command.run("reconcile", "--sync-queue-url", account.sync_queue_url)
    assert ADA not in mirrored.shown()
    [message] = messages_of(account.lambda_event(account.sync_queue_url))
    assert ADA.encode() in message.envelope.body


def test_a_quick_run_finds_what_changed(mirrored: Rig, command: Command) -> None:
    mirrored.world.update("user", BEN, {"first_name": "Benedict"})
    mirrored.world.now += MINUTE
    printed = command.run("reconcile", "--quick").stdout
    assert "quick: complete" in printed
    # Users as a whole by the full run before, the short list of organizations by this one.
    assert re.search(r"since 2023-\S+ \S+ UTC: users\nevery row was compared since 2023-.*organizations.*\n", printed)
    assert mirrored.column(BEN, "first_name") == "Benedict"


def test_the_brake_ends_with_status_3_until_an_operator_allows_the_deletes_and_undo_restores_them(
    mirrored: Rig, command: Command
) -> None:
    everybody = mirrored.shown()
    for user_id in sorted(everybody)[:12]:
        mirrored.world.remove_user(user_id)
    mirrored.world.now += MINUTE

    stopped = command.json("reconcile", "--delete-margin", "0", status=3)
    assert (stopped["report"]["state"], mirrored.shown()) == ("stopped", everybody)
    assert "reconcile --allow-deletes N" in command.run("reconcile", "--delete-margin", "0", status=3).stdout
    shown = command.run("reconcile", "show", str(stopped["report"]["run_id"])).stdout
    assert stopped["report"]["reason"] in shown

    mirrored.world.now += MINUTE
    allowed = command.json("reconcile", "--allow-deletes", "12", "--delete-margin", "0")["report"]
    assert allowed["counts"]["user"]["deleted"] == 12
    assert mirrored.agrees()

    restored = command.json("undo", str(allowed["run_id"]))["restored"]
    told = command.run("explain", restored[0]["id"]).stdout
    assert (
        f"undone               the delete of the user by this run counts for nothing  run {allowed['run_id']}" in told
    )
    assert len(restored) == 12
    assert mirrored.shown() == everybody
    assert command.run("undo", str(allowed["run_id"])).stdout == "0 restored\n"
    shown = command.run("reconcile", "show", str(allowed["run_id"])).stdout
    assert "its deletes count for nothing" in shown
    found = command.json("reconcile", "show", str(allowed["run_id"]))["findings"]
    assert [each["outcome"] for each in found] == ["undone"] * 12


def test_an_undo_says_which_deletes_it_kept_from_being_applied(
    mirrored: Rig, command: Command, account: Account
) -> None:
    mirrored.world.remove_user(BEN)
    mirrored.world.now += MINUTE
    queue = ("--sync-queue-url", account.sync_queue_url)
    report = command.json("reconcile", "--delete-margin", "0", *queue)["report"]
    printed = command.run("undo", str(report["run_id"])).stdout
    assert printed.splitlines() == ["0 restored", "deletes of this run that were not applied yet, and never will be: 1"]


def test_without_a_word_about_it_a_run_waits_for_a_second_answer(mirrored: Rig, command: Command) -> None:
    mirrored.world.remove_user(BEN)
    mirrored.world.now += 10 * MINUTE
    report = command.json("reconcile")["report"]
    assert (report["state"], report["counts"]["user"]["awaiting"]) == ("complete", 1)
    mirrored.world.now += 5 * MINUTE
    assert command.json("reconcile", "--quick")["report"]["counts"]["user"]["deleted"] == 1


def test_the_runs_are_listed_newest_first(mirrored: Rig, command: Command) -> None:
    command.run("reconcile", "--quick")
    listed = command.json("reconcile", "runs")["runs"]
    assert [(each["mode"], each["state"]) for each in listed] == [("quick", "complete"), ("full", "complete")]
    printed = command.run("reconcile", "runs", "--limit", "1").stdout
    assert "quick" in printed
    assert "full" not in printed


def test_before_the_first_run_there_is_a_hint_instead_of_an_empty_table(rig: Rig, command: Command) -> None:
    assert "nothing was compared yet" in command.run("reconcile", "runs").stdout


def test_a_run_shows_every_object_that_differed_and_what_became_of_it(mirrored: Rig, command: Command) -> None:
    mirrored.forget(ADA, BEN)
    run_id = str(command.json("reconcile")["report"]["run_id"])
    printed = command.run("reconcile", "show", run_id, "--limit", "1").stdout
    assert ADA in printed
    assert BEN not in printed
    assert "2 differed, 1 of them shown" in printed
    assert [each["entity_id"] for each in command.json("reconcile", "show", run_id)["findings"]] == [ADA, BEN]
    assert command.json("reconcile", "show", run_id, "--difference", "extra")["findings"] == []


def test_the_timeline_of_a_user_shows_what_a_comparison_found(mirrored: Rig, command: Command) -> None:
    mirrored.world.update("user", ADA, {"first_name": "Augusta"})
    mirrored.world.now += MINUTE
    run_id = command.json("reconcile")["report"]["run_id"]
    printed = command.run("explain", ADA).stdout
    assert f"user stale: its last change did not arrive, first_name  run {run_id}" in printed
    # For programs, too: a run has no id of an event, and a repair has no other id than its own.
    moments = [each for each in command.json("explain", ADA)["timeline"] if "first_name" in each["details"]]
    assert [(each["what"], each["svix_id"], each["run_id"]) for each in moments] == [
        ("reconcile", None, run_id),
        ("user update", f"reconcile-{run_id}-{ADA}", None),
    ]


def test_one_user_is_read_again_by_id(mirrored: Rig, command: Command) -> None:
    mirrored.world.update("user", ADA, {"first_name": "Augusta"})
    mirrored.world.remove_user(BEN)
    mirrored.world.now += 10 * MINUTE

    assert command.run("resync", ADA).stdout == f"user {ADA}: changed\n{ADA}: complete, 1 user changed\n"
    assert command.run("resync", ADA).stdout == f"{ADA}: complete, 1 user left as it was\n"
    gone = f"user {BEN}: deleted, gone from Clerk\n{BEN}: complete, 1 user deleted\n"
    assert command.run("resync", BEN).stdout == gone
    again = command.json("resync", BEN)
    assert (again["state"], again["objects"][0]["done"]) == ("complete", "left as it was")

    assert mirrored.column(ADA, "first_name") == "Augusta"
    assert BEN not in mirrored.shown()
    assert rows(mirrored.admin, "select count(*) from clerk_sync.reconcile_runs") == [(1,)]


# Failures


@pytest.mark.parametrize("arguments", [("reconcile",), ("resync", ADA)])
def test_a_key_that_clerk_refuses_is_reported_in_one_line_that_does_not_repeat_it(
    arguments: tuple[str, ...], mirrored: Rig, command: Command
) -> None:
    mirrored.api.answers.key = "sk_live_rotated"
    result = command.run(*arguments, status=1)
    assert "clerk_key_invalid" in str(result.exception)
    assert KEY not in result.output + str(result.exception)


def test_a_key_of_another_instance_is_refused_and_named(mirrored: Rig, command: Command) -> None:
    mirrored.api.answers.instance_id = "ins_other"
    assert "ins_other" in str(command.run("reconcile", status=1).exception)


def test_a_listing_that_cannot_be_complete_ends_with_three_and_deletes_nobody(mirrored: Rig, command: Command) -> None:
    everybody = mirrored.shown()
    mirrored.api.faults.add(without_every(2), path="/users", times=1)
    report = command.json("reconcile", status=3)["report"]
    assert report["state"] == "incomplete"
    assert report["reason"]
    assert mirrored.shown() == everybody


def test_an_unknown_object_is_called_unknown(mirrored: Rig, command: Command) -> None:
    assert "user_unknown" in str(command.run("resync", "user_unknown", status=1).exception)


def test_a_run_that_does_not_exist_is_reported(mirrored: Rig, command: Command) -> None:
    for arguments in (("reconcile", "show", "7777"), ("undo", "7777")):
        assert "there is no run 7777" in str(command.run(*arguments, status=1).exception)


def test_without_a_key_or_a_database_the_command_names_their_sources(command: Command) -> None:
    without_key = Command(command.environment | {"CLERK_SECRET_KEY": None})
    assert "CLERK_SECRET_KEY" in without_key.run("reconcile", status=2).stderr
    without_database = Command(command.environment | {"DATABASE_URL": None})
    assert "--database-url" in without_database.run("reconcile", status=2).stderr
    nonsense = Command(command.environment | {"DATABASE_URL": "postgresql://user:hunter2@[host/name"})
    refused = nonsense.run("reconcile", status=1)
    assert "hunter2" not in refused.output + str(refused.exception)
    address = Command(command.environment | {"CLERK_API_URL": "http://api.example.test/v1"})
    assert "https://" in address.run("reconcile", status=2).stderr


def test_options_of_a_comparison_are_not_taken_by_a_command_that_compares_nothing(command: Command) -> None:
    refused = command.run("reconcile", "--allow-deletes", "5", "runs", status=2)
    assert "--allow-deletes" in refused.stderr
    assert "--json" in command.run("reconcile", "--json", "show", "1", status=2).stderr


def test_while_clerk_is_unavailable_a_run_gives_up_and_the_next_one_continues(
    mirrored: Rig, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clerk_supabase.clerk.http._FIRST_BACKOFF_SECONDS", 0.001)
    mirrored.forget(ADA)
    mirrored.api.faults.add(answering(503), path="/organization_memberships", times=6)
    assert "503" in str(command.run("reconcile", status=1).exception)

    mirrored.api.faults.clear()
    report = command.json("reconcile")["report"]

    assert (report["state"], report["is_resumed"]) == ("complete", True)
    assert mirrored.agrees()


# After a leak


def test_a_reset_says_what_it_does_asks_and_lets_the_next_run_compare_everything(
    mirrored: Rig, command: Command
) -> None:
    mirrored.admin.execute(
        "insert into clerk_sync.reconcile_runs (mode, is_dry_run, versions_only, as_of, lease, lease_until) "
        "values ('full', false, false, 1, gen_random_uuid(), now() + interval '1 hour')"
    )
    command.run("reconcile", "--quick", status=3)
    at_work = command.json("reconcile", "runs")["runs"][0]["run_id"]
    asked = command.run("reconcile", "reset", answer="n\n", status=1).output
    assert f"runs at work, ended: {at_work}\n" in asked
    assert "the next one does not build on: 1" in asked
    assert "instance" not in asked
    assert command.json("reconcile", "runs")["runs"][0]["state"] == "running"

    assert f"ended: {at_work}\n" in command.run("reconcile", "reset", answer="y\n").stdout
    assert command.json("reconcile", "runs")["runs"][0]["state"] == "incomplete"
    mirrored.world.now += MINUTE
    command.run("reconcile", "--quick")
    assert command.json("reconcile", "runs")["runs"][0]["mode"] == "full"


def test_a_forged_instance_is_forgotten_when_that_is_asked_for(mirrored: Rig, command: Command) -> None:
    mirrored.admin.execute("update clerk_sync.instance set instance_id = 'ins_forged'")
    mirrored.world.now += MINUTE
    command.run("reconcile", status=1)
    reset = ("reconcile", "reset", "--yes")
    assert command.json(*reset) == {"running": [], "trusted": 1, "instance_id": None}
    command.run("reconcile", status=1)
    assert command.json(*reset, "--instance") == {"running": [], "trusted": 0, "instance_id": "ins_forged"}
    command.run("reconcile")
    assert rows(mirrored.admin, "select instance_id from clerk_sync.instance") == [(mirrored.api.answers.instance_id,)]


def test_a_plan_comes_by_comparisons_and_nothing_says_that_an_event_was_lost(rig: Rig, command: Command) -> None:
    rig.world.sell_plans()
    printed = command.run("reconcile").stdout
    plan = next(iter(rig.world.others["plan"]))
    [run] = command.json("reconcile", "runs")["runs"]
    shown = command.run("reconcile", "show", str(run["run_id"])).stdout
    told = command.run("explain", plan).stdout
    for said in (
        printed,
        shown,
        told,
        command.run("explain", plan, "--json").stdout,
        command.run("reconcile", "show", str(run["run_id"]), "--json").stdout,
    ):
        assert "comparisons bring it, as Clerk sends no event about it" in said
        assert not [line for line in said.splitlines() if "plan" in line and "never arrived" in line]
    assert "brought by comparisons alone" in told.splitlines()[0]
    assert "1970" not in told


def test_a_missing_subscription_is_a_difference_of_the_run_that_repairs_it(rig: Rig, command: Command) -> None:
    rig.world.bill()
    command.run("reconcile")
    rig.admin.execute("delete from clerk.subscriptions")
    rig.world.now += MINUTE

    for options in (("--dry-run",), ()):
        printed = command.run("reconcile", *options).stdout
        assert "1 compared, 1 whose subscription is missing or wrong" in printed
        assert command.json("reconcile", "runs")["runs"][0]["state"] == "complete"
    assert "wrong, 1 repaired" in printed
    assert "1  full" in command.run("reconcile", "runs").stdout.splitlines()[1]
    assert rows(rig.admin, "select count(*) from clerk.subscriptions") == [(1,)]
