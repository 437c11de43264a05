"""The simulator calls no guarantee broken where a run does what it should."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from random import Random

import pytest

from clerk_supabase.reconcile.report import Report
from clerk_supabase.reconcile.request import Request
from clerk_supabase.reconcile.runs import Runs
from clerk_supabase_cli.simulator.episodes import said
from clerk_supabase_cli.simulator.episodes.episode import come_to_rest
from clerk_supabase_cli.simulator.episodes.stage import MARGIN_MS, Stage, Theatre
from clerk_supabase_cli.simulator.silence import silent_telemetry
from clerk_supabase_cli.standin.worlds import World
from tests.kit.databases import Database


@pytest.fixture
def stage(database: Database) -> Iterator[Stage]:
    with silent_telemetry(), closing(Theatre(database)) as theatre:
        yield Stage(theatre, World(Random(1), "1"))


def test_a_row_known_only_from_a_child_waits_for_a_later_run_and_is_gone_in_the_end(stage: Stage) -> None:
    def happen() -> None:
        org_id = stage.world.create_organization({})["id"]
        stage.world.invite(org_id)
        stage.world.remove_organization(org_id)

    stage.lets(happen)
    # The events of the organization are lost.
    stage.send(each for each in stage.untold() if b"organizationInvitation" in each.body)
    stage.work_off()

    report = _compared(stage)
    assert report.reason is not None
    assert "a later run asks about them" in report.reason
    assert list(_untrue(stage, report)) == []

    come_to_rest(stage)
    assert stage.wrong == []


def test_a_resync_may_delete_an_object_whose_row_somebody_removed(stage: Stage) -> None:
    stage.lets(stage.world.sign_up)
    [user_id] = stage.world.users
    stage.send(stage.untold())
    stage.work_off()
    stage.admin.execute("truncate clerk.users cascade")
    stage.history.hidden.add(user_id)
    stage.pass_time(2 * MARGIN_MS / 1000)

    before = stage.snapshot()
    with stage.theatre.store(is_owner=True) as store:
        report = stage.reconcile(store, is_direct=True).resync(user_id, stage.deadline())
    assert report.counts == {"user": {"deleted": 1}}
    assert list(said.resync_untrue(stage, user_id, before, report)) == []


def test_a_resync_that_only_says_that_it_deleted_an_object_is_found(stage: Stage) -> None:
    before = stage.snapshot()
    with stage.theatre.store() as store:
        report = stage.reconcile(store, is_direct=True).run(Request("full"), stage.deadline())
    report.counts["user"] = {"deleted": 1}
    assert [*said.resync_untrue(stage, "user_1", before, report)]


def _compared(stage: Stage) -> Report:
    stage.pass_time(2 * MARGIN_MS / 1000)
    with stage.theatre.store() as store:
        return stage.reconcile(store, is_direct=True).run(Request("full"), stage.deadline())


def _untrue(stage: Stage, report: Report) -> Iterator[str]:
    with stage.theatre.store(is_owner=True) as store:
        details = Runs(store).show(report.run_id or 0)
    assert details is not None
    yield from said.complete_untrue(stage, details, report, stage.history.now())
