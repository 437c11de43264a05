"""An API that lags behind its webhooks causes no delete, and a row that a comparison deleted by mistake is restored."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import LiteralString

import pytest

from clerk_supabase.model.changes import Changes, Delete, Delivery, Reconciled, changes_of
from clerk_supabase.model.events import parse_event
from clerk_supabase.reconcile.report import Report
from clerk_supabase_cli.standin.faults import Fault, answering
from clerk_supabase_cli.standin.worlds import World
from tests.kit.aws import Account
from tests.kit.databases import acting_as, rows, value
from tests.kit.histories import RECEIVED_AT, alone
from tests.kit.reconciling import MINUTE, Queued, Rig, RigMaker, user

USERS = 40
MARGIN = 5 * MINUTE


def found_organization(world: World) -> None:
    organization = world.create_organization({})
    for number in (1, 2, 3):
        world.add_membership(organization["id"], user(number), role="org:member")


pytestmark = pytest.mark.mirror(USERS, found_organization, delete_margin_ms=MARGIN)


@pytest.fixture
def rig(mirrored: RigMaker) -> Iterator[Rig]:
    """Forty users and an organization with three members, mirrored; and the margin of a deployed stack."""
    with mirrored() as rig:
        # Whom Clerk's API showed a moment ago is young, too.
        rig.world.now += 2 * MARGIN
        yield rig


def lag(rig: Rig, user_id: str) -> None:
    """Let the API not show a user yet, neither in lists nor by id nor in counts."""
    hidden = Fault(alter=lambda elements: [each for each in elements if user_id.encode() not in each])
    counted = json.dumps({"object": "total_count", "total_count": len(rig.world.users) - 1}).encode()
    rig.api.faults.add(hidden, path="/users", times=1_000)
    rig.api.faults.add(Fault(body=counted), path="/users/count", times=1_000)
    rig.api.faults.add(answering(404, code="resource_not_found"), path=f"/users/{user_id}", times=1_000)


def deliver_last(rig: Rig) -> None:
    """Applies the newest event of the world to the tables, like a webhook."""
    event = parse_event(json.dumps(rig.world.events[-1]).encode())
    delivery = Delivery(f"msg_{len(rig.world.events)}", event.type, RECEIVED_AT)
    rig.store.apply([(changes_of(event, RECEIVED_AT * 2), delivery)])


def absences(rig: Rig) -> list[str]:
    return [object_id for (object_id,) in rows(rig.admin, "select id from clerk_sync.absences order by id")]


def later(rig: Rig, milliseconds: int = MARGIN, mode: str = "quick") -> Report:
    """A run that begins this time later; one minute of the time passes anyway."""
    rig.world.now += milliseconds - MINUTE
    return rig.run(mode)


@pytest.mark.parametrize("mode", ["quick", "full"])
def test_a_user_who_signed_up_a_moment_before_a_run_is_never_deleted_while_the_api_lags(rig: Rig, mode: str) -> None:
    rig.world.now += MINUTE
    created = rig.world.create_user({})["id"]
    deliver_last(rig)
    lag(rig, created)
    # The run begins 1.5 s later: Rig.run lets a minute pass.
    rig.world.now += 1_500 - MINUTE
    report = rig.run(mode)
    assert (report.state, report.findings) == ("complete", 0)
    young = "Clerk does not list objects that were there within the last 300 s: 1; a later run asks about them"
    assert report.reason == young
    assert created in rig.shown()
    assert not any(created in request.path for request in rig.api.requests)
    rig.api.faults.clear()
    assert later(rig, mode=mode).findings == 0
    assert rig.agrees()


@pytest.mark.parametrize("mode", ["quick", "full"])
def test_a_lost_delete_is_repeated_by_the_first_run_after_the_margin(rig: Rig, mode: str) -> None:
    rig.world.remove_user(user(6))
    rig.api.requests.clear()
    report = rig.run(mode)
    assert (report.state, report.counts["user"]["awaiting"]) == ("complete", 1)
    assert [request.path for request in rig.api.requests].count(f"/users/{user(6)}") == 1
    assert report.reason == (
        "Clerk says for the first time that objects are gone: 1; a run that is at least 300 s later asks again, and "
        "deletes them"
    )
    assert user(6) in rig.shown()
    assert "deleted" not in later(rig, MARGIN - 1_000, mode).counts["user"]
    assert user(6) in rig.shown()
    done = later(rig, 2_000, mode)
    assert (done.state, done.reason, done.counts["user"]["deleted"]) == ("complete", None, 1)
    assert rig.agrees()
    assert absences(rig) == []


def test_a_quick_run_asks_again_even_when_the_counts_agree_by_now(rig: Rig) -> None:
    [membership, *_] = rig.world.memberships
    rig.world.remove_user(user(6))
    rig.world.remove_membership(membership)
    rig.run()
    assert absences(rig) == [membership, user(6)]
    rig.world.create_user({})
    rig.world.add_membership(next(iter(rig.world.organizations)), user(9), role="org:member")
    report = later(rig)
    assert (report.state, report.counts["user"]["deleted"], report.counts["membership"]["deleted"]) == (
        "complete",
        1,
        1,
    )
    assert rig.agrees()


def test_an_organization_is_asked_about_twice_too(rig: Rig) -> None:
    [organization] = rig.world.organizations
    rig.world.remove_organization(organization)
    assert rig.run().counts["organization"]["awaiting"] == 1
    assert organization in rig.shown("organizations", "clerk_org_id")
    assert later(rig, mode="full").state == "complete"
    assert rig.agrees()


def test_a_user_whom_clerk_shows_again_needs_two_new_answers_before_a_delete(rig: Rig) -> None:
    lag(rig, user(6))
    rig.run()
    assert absences(rig) == [user(6)]
    rig.api.faults.clear()
    report = later(rig)
    assert (report.state, report.reason, report.findings) == ("complete", None, 0)
    assert absences(rig) == []
    # From the beginning: it does not count that Clerk said so once, long ago.
    lag(rig, user(6))
    later(rig, mode="full")
    assert user(6) in rig.shown()


def test_after_a_list_that_shows_a_user_again_the_second_answer_counts_as_the_first(rig: Rig) -> None:
    lag(rig, user(6))
    rig.run()
    rig.api.faults.clear()
    rig.run()
    assert absences(rig) == []


@pytest.mark.parametrize("updated_at", [None, 1], ids=["an event", "an event that is stale"])
def test_an_event_that_is_newer_than_clerks_first_answer_takes_it_back(rig: Rig, updated_at: int | None) -> None:
    lag(rig, user(6))
    rig.run()
    rig.world.now += MINUTE
    rig.world.update("user", user(6), {"last_name": "Newer"})
    told = rig.world.events[-1]
    if updated_at is not None:
        told["data"]["updated_at"] = updated_at
    event = parse_event(json.dumps(told).encode())
    rig.store.apply([(changes_of(event, RECEIVED_AT * 2), Delivery("msg_newer", event.type, RECEIVED_AT))])
    later(rig, MARGIN - MINUTE)
    assert user(6) in rig.shown()


def test_a_row_that_only_the_app_or_other_objects_made_is_young_by_our_own_clock(rig: Rig) -> None:
    # Nobody knows when this user was created in Clerk: the first login was faster than the webhook.
    with acting_as(rig.admin, "authenticated", {"sub": "user_new", "iss": "https://clerk.example.com"}):
        rig.admin.execute("insert into clerk.users (clerk_id) values ('user_new')")
    report = rig.run()
    assert (report.state, report.findings, absences(rig)) == ("complete", 0, [])
    rig.admin.execute("update clerk_sync.audit_log set recorded_at = recorded_at - interval '301 s'")
    assert rig.run().findings == 1
    assert absences(rig) == ["user_new"]


@pytest.mark.parametrize(
    "statement",
    [
        "update clerk.users set created_at = %s where clerk_id = %s",
        "update clerk_sync.entities set version.observed_at = extract(epoch from %s) * 1000 where id = %s",
        "update clerk_sync.entities set shown_at = extract(epoch from %s) * 1000 where id = %s",
        """
        insert into clerk_sync.deliveries (occurred_at, entity_id, received_at, outcome, svix_id, event_type)
        values (%s, %s, now(), 'stale', 'msg_stale', 'user.updated')
        """,
    ],
    ids=["created", "newest version", "shown", "newest delivery"],
)
def test_each_sign_of_a_user_within_the_margin_prevents_a_delete(rig: Rig, statement: LiteralString) -> None:
    lag(rig, user(6))
    # Clerk says its time in whole seconds.
    margin_ago = (rig.world.now + MINUTE) // 1_000 * 1_000 - MARGIN
    for milliseconds, absent in ((0, []), (-1, [user(6)])):
        moment = datetime.fromtimestamp((margin_ago + milliseconds) / 1000, UTC)
        rig.admin.execute("delete from clerk_sync.deliveries")
        rig.admin.execute(statement, [moment, user(6)])
        rig.run(versions_only=True)
        rig.world.now -= MINUTE
        assert absences(rig) == absent


def test_a_dry_run_remembers_nothing(rig: Rig) -> None:
    rig.world.remove_user(user(6))
    assert rig.run(dry_run=True).findings == 1
    assert absences(rig) == []


def test_the_brake_is_pulled_at_the_first_answer_already(rig: Rig) -> None:
    for number in range(10, 21):
        rig.world.remove_user(user(number))
    assert rig.run().state == "stopped"
    assert later(rig).state == "stopped"
    assert len(rig.shown()) == USERS
    # The answers count: who allows the deletes need not wait once more.
    rig.world.now += MARGIN
    assert rig.run(allow_deletes=11).counts["user"]["deleted"] == 11
    assert rig.agrees()


def test_after_an_undo_a_second_answer_of_clerk_counts_as_the_first(rig: Rig) -> None:
    rig.world.remove_user(user(6))
    rig.undo(rig.run())
    assert absences(rig) == []
    later(rig)
    assert user(6) in rig.shown()


# Deleted here


def delete_falsely(rig: Rig, user_id: str) -> None:
    """As a comparison did before this margin was there."""
    run = value(rig.admin, "select max(run_id) from clerk_sync.reconcile_runs")
    proof = Changes(Delete("user", user_id, rig.world.now))
    assert rig.store.apply([(proof, Reconciled(f"reconcile-{run}-{user_id}"))]) == ["deleted"]


@pytest.mark.parametrize("versions_only", [False, True])
def test_a_user_whom_a_comparison_deleted_is_restored_when_clerk_shows_them_again(
    rig: Rig, versions_only: bool
) -> None:
    delete_falsely(rig, user(2))
    assert not rig.agrees()
    rig.world.now += MARGIN
    report = rig.run(versions_only=versions_only)
    assert report.state == "complete"
    assert (report.counts["user"]["deleted here"], report.counts["user"]["restored"]) == (1, 1)
    assert "objects that only a comparison had deleted are restored" in str(report.reason)
    found = rig.findings(report)[user(2)]
    assert (found.difference, found.action, found.outcome) == ("deleted here", "repair", "settled")
    assert rig.agrees()
    assert rig.run().reason is None


def test_a_user_whom_an_event_deleted_stays_deleted_and_the_run_says_that_clerk_has_them(rig: Rig) -> None:
    rig.store.apply(alone(Delete("user", user(2), rig.world.now)))
    # Its lists may lag, too.
    assert rig.run().findings == 0
    rig.world.now += MARGIN
    report = rig.run()
    assert (report.findings, report.counts["user"]["deleted here"]) == (1, 1)
    assert "restored" not in report.counts["user"]
    assert "Clerk has objects that were deleted here" in str(report.reason)
    assert rig.findings(report)[user(2)].action == "none"
    assert user(2) not in rig.shown()


def test_a_user_restored_without_a_value_is_called_restored_and_not_only_deleted_here(rig: Rig) -> None:
    rig.world.update("user", user(2), {"first_name": None})
    delete_falsely(rig, user(2))
    rig.world.now += MARGIN
    report = rig.run()
    assert (report.state, report.counts["user"]["restored"]) == ("complete", 1)
    assert "objects that only a comparison had deleted are restored" in str(report.reason)
    assert "Clerk has objects that were deleted here" not in str(report.reason)
    assert (rig.agrees(), rig.column(user(2), "first_name")) == (True, None)


def test_a_delete_whose_webhook_arrives_between_the_two_answers_belongs_to_the_webhook(rig: Rig) -> None:
    rig.world.remove_user(user(6))
    run = rig.run()
    assert absences(rig) == [user(6)]
    deliver_last(rig)
    report = later(rig)
    assert (report.state, report.findings, absences(rig)) == ("complete", 0, [])
    assert rig.undo(run) == rig.undo(report) == []
    assert rig.agrees()


def test_a_proof_that_waits_in_the_queue_while_a_webhook_comes_ends_the_same_and_is_taken_back(
    rig: Rig, account: Account
) -> None:
    queued = Queued(account, rig.store)
    lag(rig, user(6))
    rig.run()
    rig.world.now += MARGIN
    assert rig.run(repairs=queued.repairs).counts["user"]["deletes sent"] == 1
    # Clerk has this user after all.
    rig.world.update("user", user(6), {"last_name": "Newer"})
    deliver_last(rig)
    queued.drain()
    rig.api.faults.clear()
    report = later(rig, MARGIN + 2 * MINUTE)
    assert (report.state, report.counts["user"]["restored"]) == ("complete", 1)
    assert rig.agrees()
    assert rig.column(user(6), "last_name") == "Newer"


def test_a_user_who_signs_up_again_under_another_id_is_another_user(rig: Rig) -> None:
    address = rig.column(user(6), "email")
    rig.world.remove_user(user(6))
    created = rig.world.create_user({})
    deliver_last(rig)
    rig.admin.execute("update clerk.users set email = %s where clerk_id = %s", [address, created["id"]])
    rig.run()
    later(rig)
    assert (user(6) in rig.shown(), created["id"] in rig.shown()) == (False, True)


@pytest.mark.parametrize("second", ["quick", "full"])
def test_a_run_continued_after_the_margin_asks_clerk_for_the_second_answer(rig: Rig, second: str) -> None:
    rig.world.remove_user(user(6))
    rig.die_at("weigh_deletes")
    assert absences(rig) == [user(6)]
    report = later(rig, 2 * MARGIN, second)
    assert (report.mode, report.is_resumed, report.state) == ("full", True, "complete")
    assert report.counts["user"]["deleted"] == 1
    assert rig.agrees()
