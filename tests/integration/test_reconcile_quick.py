"""Quick runs: recent changes, and differences of counts; and the alarm when webhooks stop."""

from __future__ import annotations

import json

import pytest

from clerk_supabase.model.changes import Delete, Delivery, changes_of
from clerk_supabase.model.events import parse_event
from clerk_supabase.model.found_kinds import ENCLOSED_KINDS, LIST_KINDS
from clerk_supabase.telemetry import metrics
from clerk_supabase_cli.standin.faults import (
    Fault,
    answering,
    ignoring_offset,
    no_elements,
    without_date,
    without_every,
)
from tests.kit.aws import Account
from tests.kit.databases import Database, rows, value
from tests.kit.histories import alone
from tests.kit.reconciling import MINUTE, Queued, Rig, rig_with, user

pytestmark = pytest.mark.mirror(5_000)
"""5,000 users, all of them mirrored."""

# The instance, the latest changes, the number of users, and a page of each list and of billing statements.
QUIET = 3 + len(LIST_KINDS) + len(ENCLOSED_KINDS)


def test_a_quick_run_before_there_was_a_full_one_is_a_full_one(database: Database) -> None:
    with rig_with(database, 501) as rig:
        report = rig.run("quick")
        assert (report.mode, report.state) == ("full", "complete")
        assert rig.agrees()


def test_when_nothing_happened_it_takes_three_requests_and_one_for_each_list(rig: Rig) -> None:
    report = rig.run("quick")
    assert (report.mode, report.state, report.findings) == ("quick", "complete", 0)
    assert report.calls == QUIET


def test_changes_since_the_last_run_are_found_and_repaired(rig: Rig) -> None:
    rig.world.now += MINUTE
    rig.world.update("user", user(4_000), {"last_name": "Newer"})
    created = rig.world.create_user({})["id"]
    report = rig.run("quick")
    assert {key: each.difference for key, each in rig.findings(report).items()} == {
        user(4_000): "stale",
        created: "missing",
    }
    assert rig.agrees()
    assert rig.column(user(4_000), "last_name") == "Newer"
    assert report.calls <= QUIET + 2


def test_changes_lost_before_the_last_run_are_left_to_the_full_run(rig: Rig) -> None:
    for _ in range(3):
        rig.world.now += 60 * MINUTE
        assert rig.run("quick").state == "complete"
    rig.admin.execute("update clerk.users set last_name = 'Mallory' where clerk_id = %s", [user(1)])
    assert rig.run("quick").findings == 0
    assert rig.run().findings == 1


def test_a_new_user_that_the_app_refuses_is_counted_once(rig: Rig) -> None:
    """Clerk's list of changes names the user, and then the counts of Clerk and of the table differ by the user."""
    rig.admin.execute("alter table clerk.users add constraint no_eve check (first_name <> 'Eve')")
    rig.world.now += MINUTE
    eve = rig.world.create_user({"first_name": "Eve"})["id"]
    cal = rig.world.create_user({"first_name": "Cal"})["id"]
    report = rig.run("quick")
    assert (report.counts["user"]["missing"], report.counts["user"]["refused"]) == (2, 1)
    assert report.counts["user"]["repaired"] == 1
    assert "1 objects could not be compared or applied" in str(report.reason)
    assert rig.findings(report)[eve].outcome == "refused"
    assert cal in rig.shown()


def test_missed_deletes_are_found_by_counts(rig: Rig) -> None:
    for number in (10, 2_500, 4_999):
        rig.world.remove_user(user(number))
    report = rig.run("quick")
    assert (report.state, report.reason) == ("complete", None)
    assert report.counts["user"]["deleted"] == 3
    assert rig.agrees()
    assert report.calls < QUIET + 20


@pytest.mark.parametrize("inclusive", [False, True])
def test_missed_deletes_are_found_whatever_clerks_bounds_mean(database: Database, inclusive: bool) -> None:
    with rig_with(database, 3_000, same_moment=4) as rig:
        rig.api.answers.inclusive = inclusive
        assert rig.run().state == "complete"
        for number in (0, 3, 4, 449, 450, 451, 1_999, 2_999):
            rig.world.remove_user(user(number))
        assert rig.run("quick").state == "complete"
        assert rig.agrees()


def test_users_who_are_still_in_the_queue_are_not_looked_for(rig: Rig, account: Account) -> None:
    queued = Queued(account, rig.store)
    for _ in range(5):
        rig.world.now += 1_000
        rig.world.create_user({})
    rig.world.now += MINUTE
    report = rig.run("quick", repairs=queued.repairs)
    assert report.calls == QUIET
    assert queued.drain() >= 5
    assert rig.agrees()


def test_users_whose_repairs_are_in_the_queue_are_no_difference_of_counts(rig: Rig, account: Account) -> None:
    """Created before the run counts: while their repairs wait, Clerk counts more users than there are rows."""
    queued = Queued(account, rig.store)
    created = {rig.world.create_user({})["id"] for _ in range(5)}
    rig.world.now += 10 * MINUTE
    report = rig.run("quick", repairs=queued.repairs)
    assert (report.state, set(rig.findings(report))) == ("complete", created)
    assert report.calls == QUIET
    queued.drain()
    assert rig.agrees()


def test_users_who_are_repaired_at_once_hide_no_difference_of_counts(rig: Rig) -> None:
    """As many users are created as are deleted: those who were just repaired are rows, and count once."""
    for number in (10, 2_500):
        rig.world.remove_user(user(number))
    for _ in range(2):
        rig.world.create_user({})
    rig.world.now += 10 * MINUTE
    report = rig.run("quick")
    assert (report.state, report.counts["user"]["deleted"]) == ("complete", 2)
    assert rig.agrees()


def test_the_brake_holds_in_a_quick_run_too(rig: Rig) -> None:
    for number in range(100, 151):
        rig.world.remove_user(user(number))
    report = rig.run("quick")
    assert report.state == "stopped"
    assert len(rig.shown()) == 5_000


def test_a_window_that_is_listed_short_deletes_nobody(rig: Rig) -> None:
    rig.world.remove_user(user(10))
    rig.api.faults.add(without_every(2), having="created_at_before", path="/users")
    report = rig.run("quick")
    assert report.state == "incomplete"
    assert "where it counted" in str(report.reason)
    assert len(rig.shown()) == 5_000


def test_an_incomplete_quick_run_does_not_move_the_watermark(rig: Rig) -> None:
    rig.world.remove_user(user(10))
    rig.world.now += MINUTE
    rig.world.update("user", user(4_000), {"last_name": "Newer"})
    rig.forget(user(4_000))
    rig.api.faults.add(without_every(2), having="created_at_before", path="/users")
    assert rig.run("quick").state == "incomplete"
    rig.world.now += 60 * MINUTE
    rig.forget(user(4_000))
    assert rig.run("quick").state == "complete"
    assert rig.agrees()


def test_new_organizations_and_memberships_are_found_by_their_number(rig: Rig) -> None:
    organization = rig.world.create_organization({})
    for number in range(600):
        rig.world.add_membership(organization["id"], user(number), role="org:member")
    assert rig.run("quick").state == "complete"
    assert rig.agrees()
    calls = rig.run("quick").calls
    rig.world.remove_membership(next(iter(rig.world.memberships)))
    assert rig.run("quick").state == "complete"
    assert rig.agrees()
    assert calls == QUIET


# Lists that are not complete


def test_a_first_page_without_anybody_where_clerk_counts_users_is_no_complete_run(rig: Rig) -> None:
    rig.api.faults.add(no_elements(), path="/users")
    report = rig.run("quick")
    assert report.state == "incomplete"
    assert report.reason == "Clerk's list of the users who changed ended after 0, but Clerk counts 5,000"


def test_a_list_that_ends_before_the_last_run_began_is_no_complete_run(rig: Rig) -> None:
    rig.world.now += MINUTE
    rig.world.update("user", user(4_000), {"last_name": "Newer"})
    rig.api.faults.add(Fault(alter=lambda elements: elements[:1]), path="/users")
    report = rig.run("quick")
    assert report.state == "incomplete"
    assert "ended after 1, but Clerk counts 5,000" in str(report.reason)
    assert rig.column(user(4_000), "last_name") == "Newer"


@pytest.mark.parametrize("path", ["", "/instance", "/users"])
def test_answers_without_a_date_make_no_complete_run(rig: Rig, path: str) -> None:
    rig.api.faults.add(without_date(), path=path, times=100)
    report = rig.run("quick")
    assert report.state == "incomplete"
    assert "believable Date" in str(report.reason)


@pytest.mark.parametrize("mode", ["full", "quick"])
def test_a_list_that_repeats_itself_ends_and_is_no_complete_run(rig: Rig, mode: str) -> None:
    for _ in range(600):
        rig.world.create_organization({})
    rig.api.faults.add(ignoring_offset(), path="/organizations", times=100)
    report = rig.run(mode)
    assert report.state == "incomplete"
    assert "Clerk listed the same organizations again instead of the next ones" in str(report.reason)
    assert report.calls < 40


def test_changes_that_are_listed_again_and_again_end_and_are_no_complete_run(rig: Rig) -> None:
    rig.world.now += MINUTE
    for number in range(1_000):
        rig.world.update("user", user(number), {"last_name": "Newer"})
    rig.api.faults.add(ignoring_offset(), path="/users", having="offset", times=300)
    report = rig.run("quick")
    assert report.state == "incomplete"
    assert "Clerk listed the same users again" in str(report.reason)
    assert report.calls < 40


@pytest.mark.parametrize("mode", ["full", "quick"])
def test_a_pause_longer_than_the_function_may_run_ends_the_run_with_its_reason(rig: Rig, mode: str) -> None:
    rig.api.faults.add(answering(429, retry_after="86400"), path="/users")
    report = rig.run(mode)
    assert report.state == "incomplete"
    assert "Clerk asks for a pause of 86400 seconds" in str(report.reason)
    assert rig.run(mode).state == "complete"


def test_a_user_deleted_only_here_is_counted_once(rig: Rig) -> None:
    rig.world.now += MINUTE
    rig.world.update("user", user(4_000), {"last_name": "Newer"})
    rig.store.apply(alone(Delete("user", user(4_000), rig.world.now)))
    metrics.clear_metrics()
    report = rig.run("quick")
    assert (report.findings, report.counts["user"]["deleted here"]) == (1, 1)
    assert f"reconcile show {report.run_id} --difference 'deleted here'" in str(report.reason)
    assert metrics.metric_set["DeletedHere"]["Value"] == [1]


# Silence


def test_silence_is_a_change_in_clerk_since_which_no_webhook_came(rig: Rig) -> None:
    assert not rig.run("quick").is_silent
    rig.world.now += 5 * MINUTE
    rig.world.update("user", user(1), {"last_name": "Newer"})
    told = rig.world.events[-1]
    # It may still be on its way.
    assert not rig.run("quick").is_silent
    rig.world.now += 40 * MINUTE
    assert rig.run("quick").is_silent
    assert value(rig.admin, "select is_silent from clerk_sync.reconcile_runs order by run_id desc limit 1")
    event = parse_event(json.dumps(told).encode())
    received_at = rig.world.now
    rig.store.apply([(changes_of(event, received_at), Delivery("msg_1", event.type, received_at))])
    assert not rig.run("quick").is_silent


def test_an_instance_without_users_is_not_silent(database: Database) -> None:
    with rig_with(database) as rig:
        assert rig.run().state == "complete"
        report = rig.run("quick")
        assert (report.state, report.is_silent) == ("complete", False)


def test_before_the_first_complete_run_nothing_is_called_silence(database: Database) -> None:
    with rig_with(database, 501) as rig:
        rig.world.now += 60 * MINUTE
        assert not rig.run("quick").is_silent
        rig.world.now += 60 * MINUTE
        assert not rig.run("quick").is_silent
        assert rows(rig.admin, "select state from clerk_sync.reconcile_runs") == [("complete",), ("complete",)]
