"""Runs of reconcile: cut off and continued, two at once, through the queue, with the memory of a page."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace

import pytest

from clerk_supabase.aws.queue import Queue
from clerk_supabase.credentials import Fixed
from clerk_supabase.errors import ContradictoryAnswer, DatabaseUnavailable, QueueUnavailable
from clerk_supabase.model.changes import changes_of
from clerk_supabase.model.events import parse_event
from clerk_supabase.postgres.store import Store
from clerk_supabase.reconcile.corrections.repairs import DirectRepairs
from clerk_supabase.reconcile.request import Request
from clerk_supabase.reconcile.run import Reconcile
from clerk_supabase.reconcile.runs import Runs
from clerk_supabase_cli.operate.parked import Selection, replay
from clerk_supabase_cli.standin.faults import Fault, answering, deleted_with_200, firewall
from clerk_supabase_cli.standin.worlds import World
from tests.kit.aws import Account
from tests.kit.databases import Database, rows, value
from tests.kit.reconciling import MINUTE, Queued, Rig, RigMaker, rig_with, user

STEPS = [
    ("plan_run", 0),
    ("windows_of_run", 0),
    ("compare", 0),
    ("compare", 2),
    ("compare", 4),
    ("finish_window", 0),
    ("finish_window", 2),
    ("find_unseen", 0),
    ("end_run", 0),
]


@pytest.fixture
def rig(database: Database) -> Iterator[Rig]:
    """1,201 users in windows of at most 300, and two organizations with members; nothing is mirrored."""
    with rig_with(database, 1_201, users_per_window=300) as rig:
        found_organizations(rig.world)
        yield rig


@pytest.fixture
def mirrored_rig(mirrored: RigMaker) -> Iterator[Rig]:
    """The same after a first run."""
    with mirrored() as rig:
        yield rig


def found_organizations(world: World) -> None:
    for _ in range(2):
        organization = world.create_organization({})
        world.add_membership(organization["id"], user(1), role="org:member")


pytestmark = pytest.mark.mirror(1_201, found_organizations, users_per_window=300)


def test_a_user_listed_in_a_later_window_than_that_of_the_row_is_no_extra_row(mirrored_rig: Rig) -> None:
    rig = mirrored_rig
    rig.admin.execute("update clerk.users set created_at = '1990-01-01+00' where clerk_id = %s", [user(1_200)])
    # The row's window first.
    rig.settings = replace(rig.settings, threads=1)
    report = rig.run()
    assert {key: each.difference for key, each in rig.findings(report).items()} == {user(1_200): "different"}
    assert rig.agrees()


# Cut off


@pytest.mark.parametrize(("function", "skip"), [*STEPS, ("fill", 0), ("fill", 2)])
def test_a_back_fill_that_is_killed_anywhere_is_continued_to_its_end(rig: Rig, function: str, skip: int) -> None:
    rig.die_at(function, skip=skip)
    assert rows(rig.admin, "select state from clerk_sync.reconcile_runs") == [("running",)]
    report = rig.run()
    assert (report.state, report.is_resumed) == ("complete", True)
    assert rig.agrees()
    assert rows(rig.admin, "select state, invocations from clerk_sync.reconcile_runs") == [("complete", 2)]


@pytest.mark.parametrize(("function", "skip"), STEPS)
def test_a_repairing_run_that_is_killed_anywhere_is_continued_to_its_end(
    mirrored_rig: Rig, function: str, skip: int
) -> None:
    differ(mirrored_rig)
    mirrored_rig.die_at(function, skip=skip)
    report = mirrored_rig.run()
    assert (report.state, report.is_resumed) == ("complete", True)
    assert mirrored_rig.agrees()
    assert mirrored_rig.column(user(700), "last_name") == "Newer"
    assert mirrored_rig.run().findings == 0


def test_a_run_that_was_killed_after_its_deletes_says_what_it_deleted_and_asks_no_more_about_it(
    mirrored_rig: Rig,
) -> None:
    mirrored_rig.settings = replace(mirrored_rig.settings, delete_margin_ms=5 * MINUTE)
    mirrored_rig.world.now += 20 * MINUTE
    # A member of both organizations, whose memberships are hidden with the user.
    mirrored_rig.world.remove_user(user(1))
    mirrored_rig.run()
    mirrored_rig.world.now += 5 * MINUTE
    mirrored_rig.die_at("settle_findings", skip=2)
    assert user(1) not in mirrored_rig.shown()
    report = mirrored_rig.run()
    assert (report.state, report.reason, report.is_resumed) == ("complete", None, True)
    assert report.counts["user"]["deleted"] == 1
    assert not any("awaiting" in of_kind for of_kind in report.counts.values())
    assert rows(mirrored_rig.admin, "select * from clerk_sync.absences") == []


def differ(rig: Rig) -> None:
    rig.world.now += 5_000
    rig.forget(user(3), user(400))
    rig.world.update("user", user(700), {"last_name": "Newer"})
    rig.world.remove_user(user(900))


def test_a_back_fill_of_an_instance_that_grew_within_an_hour_is_read_side_by_side(rig: Rig) -> None:
    rig.run()
    listed = [tally["listed"] for (tally,) in rows(rig.admin, LISTED_IN_WINDOWS)]
    assert sum(listed) == 1_201
    assert max(listed) <= 300


LISTED_IN_WINDOWS = "select tally from clerk_sync.reconcile_windows where kind = 'user' and tally ? 'listed'"


def test_compared_pages_are_not_read_again(rig: Rig) -> None:
    rig.settings = replace(rig.settings, threads=1)
    rig.run()
    rig.die_at("finish_window", skip=3)
    rig.api.requests.clear()
    assert rig.run().state == "complete"
    listed = [each for each in rig.api.requests if each.path == "/users"]
    # Three of five windows were done.
    assert len(listed) == 2


def test_when_the_time_is_up_the_run_waits_for_the_next_and_says_so(rig: Rig) -> None:
    rig.api.faults.add(answering(429, retry_after="600"), path="/users", skip=1)
    report = rig.run(seconds=60)
    assert (report.state, report.is_resumed) == ("running", False)
    assert "time" in str(report.reason)
    assert not rig.agrees()
    quick = rig.run("quick")
    assert (quick.mode, quick.state, quick.is_resumed) == ("full", "complete", True)
    assert rig.agrees()
    calls, invocations = rows(rig.admin, "select calls, invocations from clerk_sync.reconcile_runs")[0]
    assert (calls, invocations) == (report.calls + quick.calls, 2)


def test_when_clerk_is_unavailable_the_run_fails_and_later_continues(rig: Rig) -> None:
    rig.api.faults.add(answering(503), times=6, path="/users/count", skip=1)
    with pytest.raises(Exception, match="Clerk answered 503"):
        rig.run()
    assert value(rig.admin, "select state from clerk_sync.reconcile_runs") == "running"
    assert rig.run().is_resumed
    assert rig.agrees()


def test_when_the_database_becomes_unavailable_during_a_run_the_run_continues_later(
    rig: Rig, database: Database
) -> None:
    def cut() -> None:
        rig.admin.execute("alter role clerk_sync_worker connection limit 0")
        rig.admin.execute("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'clerk_sync_worker'")

    rig.api.faults.add(Fault(happening=cut), path="/users", skip=2)
    with pytest.raises(DatabaseUnavailable):
        rig.run()
    rig.admin.execute("alter role clerk_sync_worker connection limit -1")
    rig.lose_lease()
    assert rig.run().state == "complete"
    assert rig.agrees()


def test_a_run_that_nobody_continued_for_a_day_is_given_up(rig: Rig) -> None:
    rig.die_at("finish_window")
    rig.admin.execute("update clerk_sync.reconcile_runs set started_at = now() - interval '25 hours'")
    report = rig.run()
    assert (report.state, report.is_resumed) == ("complete", False)
    assert rows(rig.admin, "select state, reason from clerk_sync.reconcile_runs order by run_id") == [
        ("incomplete", "it was cut off, and another run took its place"),
        ("complete", None),
    ]


# Two at once


def test_two_runs_at_once_exclude_each_other(rig: Rig) -> None:
    others: list[str] = []

    def other_run() -> None:
        with closing(Store(Fixed(rig.database.worker_url))) as store:
            other = Reconcile(rig.ours.http, Runs(store), DirectRepairs(), rig.settings, monotonic=rig.ours.clock)
            others.append(other.run(Request("quick"), math.inf).state)

    waiting = threading.Thread(target=other_run)
    rig.api.faults.add(Fault(happening=waiting.start), path="/users/count")
    assert rig.run().state == "complete"
    waiting.join()
    assert others == ["busy"]
    assert value(rig.admin, "select count(*) from clerk_sync.reconcile_runs") == 1


def test_a_run_that_lost_its_lease_stops_and_changes_nothing_more(rig: Rig) -> None:
    def take_over() -> None:
        rig.admin.execute("update clerk_sync.reconcile_runs set lease = gen_random_uuid()")

    rig.api.faults.add(Fault(happening=take_over), path="/users", skip=1)
    with pytest.raises(Exception, match="Another process"):
        rig.run()
    assert value(rig.admin, "select state from clerk_sync.reconcile_runs") == "running"


# Through the queue


def test_repairs_travel_through_the_queue_like_events(mirrored_rig: Rig, account: Account) -> None:
    differ(mirrored_rig)
    queued = Queued(account, mirrored_rig.store)
    report = mirrored_rig.run(repairs=queued.repairs)
    assert report.state == "complete"
    assert user(3) not in mirrored_rig.shown()
    assert queued.drain() == 4
    assert mirrored_rig.agrees()
    assert mirrored_rig.column(user(700), "last_name") == "Newer"
    assert value(mirrored_rig.admin, "select count(*) from clerk_sync.deliveries") == 0
    causes = rows(mirrored_rig.admin, "select cause, svix_id from clerk_sync.audit_log where entity_id = %s", user(3))
    assert causes == [("reconcile", f"reconcile-{report.run_id}-{user(3)}")]
    assert mirrored_rig.run(repairs=queued.repairs).findings == 0


def test_a_webhook_that_overtakes_a_repair_in_the_queue_wins(mirrored_rig: Rig, account: Account) -> None:
    mirrored_rig.world.now += 5_000
    mirrored_rig.world.update("user", user(700), {"last_name": "Older"})
    queued = Queued(account, mirrored_rig.store)
    mirrored_rig.run(repairs=queued.repairs)
    mirrored_rig.world.now += 5_000
    mirrored_rig.world.update("user", user(700), {"last_name": "Newest"})
    told = mirrored_rig.world.events[-1]
    mirrored_rig.store.apply([(changes_of(parse_event(json.dumps(told).encode()), mirrored_rig.world.now), None)])
    queued.drain()
    assert mirrored_rig.column(user(700), "last_name") == "Newest"


def test_when_the_queue_is_unavailable_the_run_later_continues(mirrored_rig: Rig, account: Account) -> None:
    differ(mirrored_rig)
    queued = Queued(account, mirrored_rig.store)
    repairs = queued.repairs
    account.remove_queue(account.sync_queue_url)
    with pytest.raises(QueueUnavailable):
        mirrored_rig.run(repairs=repairs)
    report = mirrored_rig.run()
    assert (report.state, report.is_resumed) == ("complete", True)
    assert mirrored_rig.agrees()


def test_a_repair_that_was_parked_and_replayed_is_shown_as_settled(mirrored_rig: Rig, account: Account) -> None:
    differ(mirrored_rig)
    queued = Queued(account, mirrored_rig.store)
    report = mirrored_rig.run(repairs=queued.repairs)
    outcomes = {key: each.outcome for key, each in mirrored_rig.findings(report).items()}
    assert set(outcomes.values()) == {"sent"}
    mirrored_rig.admin.execute("alter table clerk.users add constraint older check (last_name <> 'Newer')")
    queued.drain()
    assert {key: each.outcome for key, each in mirrored_rig.findings(report).items()} == {
        **dict.fromkeys(outcomes, "settled"),
        user(700): "parked",
    }
    mirrored_rig.admin.execute("alter table clerk.users drop constraint older")
    replay(mirrored_rig.admin, Queue(account.sqs, account.sync_queue_url), Selection())
    assert mirrored_rig.findings(report)[user(700)].outcome == "sent"
    queued.drain()
    assert mirrored_rig.findings(report)[user(700)].outcome == "settled"


def test_a_page_that_is_missing_as_a_whole_is_no_five_hundred_messages(rig: Rig, account: Account) -> None:
    queued = Queued(account, rig.store)
    assert rig.run(repairs=queued.repairs).state == "complete"
    assert queued.drain() <= 4
    assert rig.agrees()


# One object


def test_one_user_or_organization_can_be_synced_again(mirrored_rig: Rig) -> None:
    differ(mirrored_rig)
    with closing(Store(Fixed(f"{mirrored_rig.database.url}?sslmode=disable"))) as operator:
        reconcile = Reconcile(
            mirrored_rig.ours.http,
            Runs(operator),
            DirectRepairs(),
            mirrored_rig.settings,
            monotonic=mirrored_rig.ours.clock,
        )
        assert reconcile.resync(user(3), math.inf).state == "complete"
        assert user(3) in mirrored_rig.shown()
        reconcile.resync(user(700), math.inf)
        assert mirrored_rig.column(user(700), "last_name") == "Newer"
        mirrored_rig.world.now += 5_000
        reconcile.resync(user(900), math.inf)
        assert user(900) not in mirrored_rig.shown()
        organization = next(iter(mirrored_rig.world.organizations))
        mirrored_rig.forget(organization)
        mirrored_rig.admin.execute("delete from clerk.organizations where clerk_org_id = %s", [organization])
        reconcile.resync(organization, math.inf)
        assert organization in mirrored_rig.shown("organizations", "clerk_org_id")
        with pytest.raises(Exception, match="known neither to Clerk nor here"):
            reconcile.resync("user_nobody", math.inf)


@contextmanager
def resyncing(rig: Rig) -> Iterator[Reconcile]:
    with closing(Store(Fixed(f"{rig.database.url}?sslmode=disable"))) as operator:
        yield Reconcile(rig.ours.http, Runs(operator), DirectRepairs(), rig.settings, monotonic=rig.ours.clock)


def test_resync_repairs_a_user_of_an_instance_without_organizations(mirrored_rig: Rig) -> None:
    differ(mirrored_rig)
    mirrored_rig.api.answers.no_organizations = (403, "organization_not_enabled_in_instance")
    with resyncing(mirrored_rig) as reconcile:
        report = reconcile.resync(user(700), math.inf)
    assert (report.state, report.reason) == ("complete", None)
    assert mirrored_rig.column(user(700), "last_name") == "Newer"


@pytest.mark.parametrize(
    "fault",
    [
        answering(402, code="unsupported_subscription_plan_features"),
        firewall(),
        Fault(body=b'{"data":[],"total_count":3}'),
        Fault(body=b'{"data":[{"object":"organization_membership"}],"total_count":1}'),
    ],
)
def test_resync_repairs_a_user_and_says_which_memberships_it_could_not_read(mirrored_rig: Rig, fault: Fault) -> None:
    differ(mirrored_rig)
    mirrored_rig.api.faults.add(fault, path=f"/users/{user(700)}/organization_memberships")
    with resyncing(mirrored_rig) as reconcile:
        report = reconcile.resync(user(700), math.inf)
    assert report.state == "incomplete"
    assert "every membership" in str(report.reason)
    assert mirrored_rig.column(user(700), "last_name") == "Newer"


def test_resync_of_a_user_whom_clerk_answers_as_deleted_with_200_changes_nothing(mirrored_rig: Rig) -> None:
    mirrored_rig.api.faults.add(deleted_with_200("user", user(5)), path=f"/users/{user(5)}")
    with resyncing(mirrored_rig) as reconcile, pytest.raises(ContradictoryAnswer, match="calls it deleted"):
        reconcile.resync(user(5), math.inf)
    assert user(5) in mirrored_rig.shown()
