"""Leases of runs: a process works on a run only while its lease lasts, and no run continues as another kind of run."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator
from typing import Any, Final

import pytest
from psycopg import sql

from clerk_supabase.errors import RunTakenOver
from clerk_supabase.reconcile.records import Begun
from clerk_supabase.reconcile.request import Request
from clerk_supabase_cli.standin.faults import Fault, answering
from tests.kit.databases import Connection, Database, rows, tables, value
from tests.kit.reconciling import Rig, rig_with, user

pytestmark = pytest.mark.mirror(1_201, users_per_window=300)
"""1,201 users in windows of at most 300, all of them mirrored."""


def differ(rig: Rig) -> None:
    """Makes three differences: a user missing here, a stale user, and a user deleted in Clerk."""
    rig.world.now += 5_000
    rig.forget(user(3))
    rig.world.update("user", user(700), {"last_name": "Newer"})
    rig.world.remove_user(user(900))


def test_a_lease_does_not_end_while_the_run_waits_for_clerk(database: Database) -> None:
    with rig_with(database, 10, lease_seconds=5) as rig:
        has_lease: list[bool] = []

        def wait() -> None:
            pause = threading.Event()
            for _ in range(35):
                has_lease.append(value(rig.admin, "select lease_until > now() from clerk_sync.reconcile_runs"))
                pause.wait(0.2)

        rig.api.faults.add(Fault(happening=wait), path="/users/count")
        assert rig.run().state == "complete"
        assert has_lease == [True] * 35


# Everything that a process asks about a run says its lease.
OF_A_LEASE: Final = (
    *("renew_lease", "plan_run", "compare", "finish_window", "visit_slice"),
    *("settle_sweeps", "expire_invitations", "check_rows", "end_run"),
)


@pytest.mark.parametrize("loss", ["another lease", "an undo", "an end"])
def test_a_run_that_was_taken_over_undone_or_ended_is_no_longer_that_of_its_process(
    loss: str, admin: Connection
) -> None:
    begin = {"instance_id": "ins_1", "mode": "full", "dry_run": False, "versions_only": False, "as_of": 1}
    run = value(admin, "select clerk_sync.begin_run(%s::jsonb)", json.dumps(begin | {"lease_seconds": 60}))["run"]
    request = {"run": run["run_id"], "lease": run["lease"], "lease_seconds": 60, "number": 0, "kind": "user"}
    request |= {"tally": {}, "expected": {}, "windows": [], "page": [], "start": 0, "limit": 1, "calls": 0}
    request |= {"is_whole": True, "is_switched_off": False, "only_look": True, "state": "running"}
    if loss == "another lease":
        request["lease"] = str(uuid.uuid4())
    elif loss == "an undo":
        admin.execute("select clerk_sync.undo_run(%s::jsonb)", [json.dumps({"run": run["run_id"]})])
    else:
        admin.execute("select clerk_sync.end_run(%s::jsonb)", [json.dumps(request | {"state": "complete"})])

    for ask in OF_A_LEASE:
        call = sql.SQL("select clerk_sync.{}(%s::jsonb)").format(sql.Identifier(ask))
        [(answer,)] = admin.execute(call, [json.dumps(request)]).fetchall()
        assert answer in {None, False}, ask


# A dry run and a real one


def test_a_dry_run_after_a_real_one_that_was_cut_off_changes_nothing(rig: Rig) -> None:
    differ(rig)
    rig.die_at("compare", skip=2)
    before = tables(rig.admin)
    report = rig.run(dry_run=True)
    assert (report.state, report.is_resumed, report.dry_run) == ("complete", False, True)
    assert tables(rig.admin) == before
    assert report.findings > 0


def test_a_real_run_after_a_dry_one_that_was_cut_off_repairs_and_deletes(rig: Rig) -> None:
    differ(rig)
    rig.api.faults.add(answering(429, retry_after="600"), path="/users", skip=1)
    assert rig.run(dry_run=True, seconds=60).state == "running"
    report = rig.run()
    assert (report.state, report.is_resumed, report.dry_run) == ("complete", False, False)
    assert rig.agrees()
    assert rig.column(user(700), "last_name") == "Newer"


# Two processes


def begin(rig: Rig, **request: Any) -> Begun:
    return rig.runs.begin(Request("full", **request), "ins_a", rig.world.now, 120, 0)


@pytest.fixture
def lost(database: Database) -> Iterator[tuple[Rig, Begun, Begun]]:
    """A run whose process lost its lease, and the same run in the process that continues it."""
    with rig_with(database, 10) as rig:
        first = begin(rig)
        rig.lose_lease()
        yield rig, first, begin(rig)


def run_row(rig: Rig) -> list[tuple[Any, ...]]:
    return rows(rig.admin, "select * from clerk_sync.reconcile_runs")


def test_a_process_that_takes_over_a_run_gets_another_lease_for_the_same_run(lost: tuple[Rig, Begun, Begun]) -> None:
    _, first, second = lost
    assert (second.is_resumed, second.run.run_id) == (True, first.run.run_id)
    assert second.lease != first.lease


def test_a_process_that_lost_its_run_cannot_end_it(lost: tuple[Rig, Begun, Begun]) -> None:
    rig, first, second = lost
    before = run_row(rig)
    with pytest.raises(RunTakenOver):
        rig.runs.end(first.run.run_id, first.lease, "complete", None, calls=1)
    assert run_row(rig) == before
    assert rig.runs.end(second.run.run_id, second.lease, "complete", None, calls=1).state == "complete"


def test_a_process_that_lost_its_run_cannot_keep_it_for_longer(lost: tuple[Rig, Begun, Begun]) -> None:
    rig, first, second = lost
    before = run_row(rig)
    assert not rig.runs.renew(first.run.run_id, first.lease, 3_600)
    assert run_row(rig) == before
    assert rig.runs.renew(second.run.run_id, second.lease, 3_600)
    assert run_row(rig) != before


def test_a_process_that_lost_its_run_plans_compares_and_finishes_nothing(lost: tuple[Rig, Begun, Begun]) -> None:
    rig, first, second = lost
    run_id = first.run.run_id
    with pytest.raises(RunTakenOver):
        rig.runs.plan(run_id, first.lease, [(1, "user", 0, None)], {"user": 7})
    rig.runs.plan(run_id, second.lease, [(1, "user", 0, None)], {})
    page = {"run": run_id, "number": 1, "kind": "user", "tally": {"listed": 9}, "since": 0, "page": []}
    with pytest.raises(RunTakenOver):
        rig.runs.compare({**page, "lease": first.lease})
    with pytest.raises(RunTakenOver):
        rig.runs.finish_window(run_id, first.lease, 1, {"listed": 9})
    [window] = rig.runs.windows(run_id)
    assert (window.is_done, window.tally) == (False, {})
    rig.runs.compare({**page, "lease": second.lease})
    rig.runs.finish_window(run_id, second.lease, 1, {"listed": 9})
    [window] = rig.runs.windows(run_id)
    assert (window.is_done, window.tally) == (True, {"listed": 9})


def test_a_run_that_ended_is_neither_ended_again_nor_kept(lost: tuple[Rig, Begun, Begun]) -> None:
    rig, _, second = lost
    run_id = second.run.run_id
    rig.runs.end(run_id, second.lease, "complete", None, calls=1)
    rig.admin.execute("update clerk_sync.reconcile_runs set lease = %s", [second.lease])
    before = run_row(rig)
    with pytest.raises(RunTakenOver):
        rig.runs.end(run_id, second.lease, "failed", None, calls=1)
    assert not rig.runs.renew(run_id, second.lease, 3_600)
    assert run_row(rig) == before
