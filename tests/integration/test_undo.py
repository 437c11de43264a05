"""Undo: it restores a run's deletes alone, whenever they arrive, and beside other work at the same moment."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict
from typing import TypeVar

import psycopg
import pytest

from clerk_supabase.aws.queue import messages_of
from clerk_supabase.credentials import Fixed
from clerk_supabase.errors import RunTakenOver
from clerk_supabase.model.changes import Changes, Delete, Reconciled
from clerk_supabase.postgres.store import Store
from clerk_supabase.reconcile.records import Undone
from clerk_supabase.reconcile.report import Report
from clerk_supabase.reconcile.runs import Runs
from clerk_supabase.settings import Keep
from clerk_supabase_cli.standin.worlds import World
from tests.kit.aws import Account
from tests.kit.databases import Connection, rows, value
from tests.kit.histories import alone
from tests.kit.meanwhile import waiting
from tests.kit.reconciling import MINUTE, Queued, Rig

T = TypeVar("T")
USERS = 40
ADA, BEN = (f"user_{number:026}" for number in (1, 2))


def found_organization(world: World) -> None:
    organization = world.create_organization({})
    for user_id in (ADA, BEN):
        world.add_membership(organization["id"], user_id, role="org:member")


pytestmark = pytest.mark.mirror(USERS, found_organization)
"""Forty users and an organization with two members, mirrored."""


@pytest.fixture
def queued(rig: Rig, account: Account) -> Queued:
    """The queue that takes repairs and deletes."""
    return Queued(account, rig.store)


def undo(rig: Rig, report: Report) -> Undone:
    with closing(Store(Fixed(f"{rig.database.url}?sslmode=disable"))) as operator:
        return Runs(operator).undo(report.run_id or 0)


def moment_of(rig: Rig, report: Report, object_id: str) -> int:
    observed_at = rig.findings(report)[object_id].observed_at
    assert observed_at is not None
    return observed_at


@pytest.mark.parametrize("milliseconds", [-MINUTE, 0, MINUTE])
@pytest.mark.parametrize("is_event_first", [True, False])
def test_an_undo_restores_no_object_that_an_event_deleted_too(
    rig: Rig, queued: Queued, milliseconds: int, is_event_first: bool
) -> None:
    rig.world.remove_user(ADA)
    report = rig.run(repairs=queued.repairs)
    told_at = moment_of(rig, report, ADA) + milliseconds
    event = alone(Delete("user", ADA, told_at))
    if is_event_first:
        rig.store.apply(event)
        queued.drain()
    else:
        queued.drain()
        rig.store.apply(event)
    assert undo(rig, report) == Undone([], 0)
    assert ADA not in rig.shown()
    assert rows(rig.admin, "select deleted_at, delete_run from clerk_sync.entities where id = %s", ADA) == [
        (told_at, None)
    ]
    shown = "select extract(epoch from deleted_at) * 1000 from clerk.users where clerk_id = %s"
    assert value(rig.admin, shown, ADA) == told_at


def test_an_undo_restores_no_object_that_another_run_deleted_too(rig: Rig, queued: Queued) -> None:
    rig.world.remove_user(ADA)
    first = rig.run(repairs=queued.repairs)
    second = rig.run(repairs=queued.repairs)
    assert queued.drain() == 2
    rig.admin.execute(
        "insert into clerk_sync.entities (kind, id, version, deleted_at, delete_run)"
        " select 'private_metadata', id, version, deleted_at, delete_run from clerk_sync.entities where id = %s",
        [ADA],
    )
    assert undo(rig, second) == Undone([], 0)
    tombstones = "select kind, deleted_at, delete_run from clerk_sync.entities where id = %s order by kind"
    proven = (moment_of(rig, first, ADA), first.run_id)
    assert rows(rig.admin, tombstones, ADA) == [("private_metadata", *proven), ("user", *proven)]
    assert undo(rig, first) == Undone([("user", ADA)], 0)
    assert ADA in rig.shown()


def test_a_delete_that_sqs_delivers_once_more_after_an_undo_counts_for_nothing(rig: Rig, queued: Queued) -> None:
    rig.world.remove_user(ADA)
    report = rig.run(repairs=queued.repairs)
    queued.drain()
    assert undo(rig, report).restored == [("user", ADA)]
    assert undo(rig, report) == Undone([], 0)
    delete = Changes(Delete("user", ADA, moment_of(rig, report, ADA)))
    assert rig.store.apply([(delete, Reconciled(f"reconcile-{report.run_id}-{ADA}"))]) == ["stale"]
    assert ADA in rig.shown()


def test_an_undo_before_the_deletes_arrive_says_how_many_are_on_their_way_and_none_is_applied(
    rig: Rig, queued: Queued
) -> None:
    rig.world.remove_user(ADA)
    rig.world.remove_user(BEN)
    report = rig.run(repairs=queued.repairs)
    # A delete also counts for an object that an answer of the same moment showed.
    shown = "update clerk_sync.entities set shown_at = %s where kind = 'user' and id = %s"
    rig.admin.execute(shown, [moment_of(rig, report, BEN), BEN])
    assert undo(rig, report) == Undone([], 2)
    assert queued.drain() == 2
    assert len(rig.shown()) == USERS
    assert undo(rig, report) == Undone([], 0)


def test_an_undo_of_a_user_leaves_what_was_deleted_of_the_private_metadata_alone(rig: Rig) -> None:
    rig.admin.execute(
        "insert into clerk_sync.entities (kind, id, version, deleted_at)"
        " select 'private_metadata', id, version, 7 from clerk_sync.entities where id = %s",
        [ADA],
    )
    rig.world.remove_user(ADA)
    assert undo(rig, rig.run()).restored
    tombstones = "select kind, deleted_at from clerk_sync.entities where id = %s order by kind"
    assert rows(rig.admin, tombstones, ADA) == [("private_metadata", 7), ("user", None)]


def test_a_later_run_repeats_a_delete_that_was_undone(rig: Rig) -> None:
    rig.world.remove_user(ADA)
    undo(rig, rig.run())
    assert ADA in rig.shown()
    assert rig.run().counts["user"]["deleted"] == 1
    assert ADA not in rig.shown()


def test_a_run_that_is_undone_while_at_work_stops(rig: Rig) -> None:
    rig.world.remove_user(ADA)
    rig.die_at("end_run")
    run = value(rig.admin, "select max(run_id) from clerk_sync.reconcile_runs")
    assert value(rig.admin, "select clerk_sync.undo_run(%s::jsonb)", json.dumps({"run": run}))["restored"]
    with pytest.raises(RunTakenOver):
        rig.runs.candidates(run, "user", "", 1)
    lease = str(
        value(
            rig.admin, "select coalesce(lease, gen_random_uuid()) from clerk_sync.reconcile_runs where run_id = %s", run
        )
    )
    with pytest.raises(RunTakenOver):
        rig.runs.check_rows(run, lease, "user", 1)
    report = rig.run()
    assert (report.state, report.is_resumed, report.run_id) == ("complete", False, run + 1)


def test_a_run_that_was_undone_after_its_process_ended_is_not_continued(rig: Rig) -> None:
    rig.die_at("end_run")
    assert rows(rig.admin, "update clerk_sync.reconcile_runs set undone_at = now() where state = 'running' returning 1")
    report = rig.run()
    assert (report.state, report.is_resumed) == ("complete", False)


# At the same moment


def meanwhile(admin: Connection, act: Callable[[], T]) -> Callable[[], T]:
    """Begin an action that has to wait for a lock; return a function that waits for its end."""
    threads = ThreadPoolExecutor(1)
    doing = threads.submit(act)
    threads.shutdown(wait=False)
    while waiting(admin) == 0 and not doing.done():
        time.sleep(0.01)
    assert not doing.done()
    return doing.result


def hidden_memberships(rig: Rig) -> list[tuple[str, int]]:
    return rows(
        rig.admin,
        """
        select clerk_user_id, (extract(epoch from deleted_at) * 1000)::bigint from clerk.organization_memberships
        where deleted_at is not null order by 1
        """,
    )


def test_an_undo_sees_the_delete_of_another_parent_that_commits_while_it_waits(rig: Rig) -> None:
    rig.world.remove_user(ADA)
    report = rig.run()
    [organization] = rig.world.organizations
    event = json.dumps([{"kind": "organization", "id": organization, "deleted_at": 5, "cause": "delivery"}])
    with rig.database.connect() as other, other.transaction():
        other.execute("select * from clerk_sync.apply(%s::jsonb)", [event])
        ending = meanwhile(rig.admin, lambda: undo(rig, report))
    assert ending() == Undone([("user", ADA)], 0)
    assert hidden_memberships(rig) == [(ADA, 5), (BEN, 5)]


def test_the_delete_of_another_parent_sees_the_undo_that_commits_while_it_waits(rig: Rig) -> None:
    rig.world.remove_user(ADA)
    report = rig.run()
    [organization] = rig.world.organizations
    with rig.database.connect() as other, other.transaction():
        other.execute("select clerk_sync.undo_run(%s::jsonb)", [json.dumps({"run": report.run_id})])
        ending = meanwhile(rig.admin, lambda: rig.store.apply(alone(Delete("organization", organization, 5))))
    assert ending() == ["deleted"]
    assert hidden_memberships(rig) == [(ADA, 5), (BEN, 5)]


def test_a_delete_that_is_being_applied_while_its_run_is_undone_is_undone_too(rig: Rig, queued: Queued) -> None:
    rig.world.remove_user(ADA)
    report = rig.run(repairs=queued.repairs)
    name = f"reconcile-{report.run_id}-{ADA}"
    proof = [
        {"kind": "user", "id": ADA, "deleted_at": moment_of(rig, report, ADA), "cause": "reconcile", "svix_id": name}
    ]
    with rig.database.connect() as other, other.transaction():
        other.execute("select * from clerk_sync.apply(%s::jsonb)", [json.dumps(proof)])
        ending = meanwhile(rig.admin, lambda: undo(rig, report))
    assert ending() == Undone([("user", ADA)], 0)
    assert ADA in rig.shown()


def test_a_delete_that_waits_for_the_undo_of_its_run_counts_for_nothing(rig: Rig, queued: Queued) -> None:
    rig.world.remove_user(ADA)
    report = rig.run(repairs=queued.repairs)
    with rig.database.connect() as other, other.transaction():
        other.execute("select clerk_sync.undo_run(%s::jsonb)", [json.dumps({"run": report.run_id})])
        ending = meanwhile(rig.admin, queued.drain)
    assert ending() == 1
    assert ADA in rig.shown()


def test_housekeeping_does_not_wait_for_a_run_that_is_being_undone(rig: Rig) -> None:
    # It has entities locked by then, for which an undo waits.
    report = rig.run()
    rig.run()
    rig.admin.execute("update clerk_sync.reconcile_runs set finished_at = now() - interval '91 days'")
    days = asdict(Keep())
    keep_house = "select clerk_sync.keep_house(%s::jsonb) -> 'pruned' -> 'runs'"
    with psycopg.connect(rig.database.url) as other:
        other.execute("select clerk_sync.undo_run(%s::jsonb)", [json.dumps({"run": report.run_id})])
        assert value(rig.admin, keep_house, json.dumps(days)) == 1
    assert value(rig.admin, keep_house, json.dumps(days)) == 1


def test_a_parked_delete_that_is_replayed_after_its_run_was_undone_and_forgotten_counts_for_nothing(
    rig: Rig, account: Account, queued: Queued
) -> None:
    rig.world.remove_user(ADA)
    report = rig.run(repairs=queued.repairs)
    undo(rig, report)
    rig.admin.execute("delete from clerk_sync.reconcile_runs where run_id = %s", [report.run_id])
    [message] = messages_of(account.lambda_event(account.sync_queue_url))
    assert message.envelope.svix_id == f"reconcile-{report.run_id}-{ADA}"
    delete = Changes(Delete("user", ADA, rig.world.now))
    assert rig.store.apply([(delete, Reconciled(message.envelope.svix_id))]) == ["stale"]
    assert ADA in rig.shown()
