"""Rows count as compared with Clerk only after a run that did all its work on them."""

from __future__ import annotations

import pytest

from clerk_supabase.model.found_kinds import LIST_KINDS, READ_KINDS
from clerk_supabase.reconcile.report import Report
from clerk_supabase_cli.standin.faults import answering
from clerk_supabase_cli.standin.worlds import World
from tests.kit.databases import rows
from tests.kit.reconciling import MINUTE, Rig, user

USERS = 30
MEMBERS = 14


def with_members(world: World) -> None:
    organization = world.create_organization({"name": "Analysts"})
    for number in range(MEMBERS):
        world.add_membership(organization["id"], user(number), role="org:member")
    world.invite()


pytestmark = pytest.mark.mirror(USERS, with_members)
"""30 users, 14 of them members of an organization, and an invitation, all of them mirrored."""


def told(rig: Rig) -> dict[str, tuple[int, int]]:
    """By kind, until when changes are known to have been compared, and until when every row is."""
    found = rows(rig.admin, "select kind, changed_until, compared_until from clerk_sync.compared_until()")
    return {kind: (changed, every) for kind, changed, every in found}


def moved(before: dict[str, tuple[int, int]], rig: Rig) -> set[str]:
    """The kinds whose time of comparison has moved since."""
    return {kind for kind, moments in told(rig).items() if moments[1] != before[kind][1]}


ALL = set(READ_KINDS)
LISTS = set(LIST_KINDS)


def test_a_complete_run_counts_for_every_kind(rig: Rig) -> None:
    before = told(rig)
    assert rig.run().state == "complete"
    assert moved(before, rig) == ALL


def test_a_run_that_knew_no_moment_of_clerk_says_nothing_about_changes(rig: Rig) -> None:
    rig.admin.execute("delete from clerk_sync.sweeps where kind = 'user'")
    rig.admin.execute("update clerk_sync.reconcile_runs set as_of = 0")
    query = "select changed_until, compared_until from clerk_sync.compared_until() where kind = 'user'"
    assert rows(rig.admin, query) == [(None, None)]


@pytest.mark.parametrize("mode", ["full", "quick"])
def test_nothing_counts_as_compared_that_the_brake_for_deletes_left_as_it_was(rig: Rig, mode: str) -> None:
    for number in range(MEMBERS, MEMBERS + 12):
        rig.world.remove_user(user(number))
    before = told(rig)
    report = rig.run(mode)
    assert (report.state, moved(before, rig)) == ("stopped", set())
    assert rig.run(mode, allow_deletes=12).state == "complete"
    assert moved(before, rig) == (ALL if mode == "full" else LISTS)


def test_nothing_counts_as_compared_that_the_brake_for_emptied_columns_left_as_it_was(rig: Rig) -> None:
    for number in range(12):
        rig.world.update("user", user(number), {"first_name": None})
    before = told(rig)
    assert rig.run().state == "stopped"
    # Nor do the changes of users: the next quick run looks at them again.
    assert told(rig) == before


@pytest.mark.parametrize("mode", ["full", "quick"])
def test_a_kind_whose_deletes_clerk_neither_confirms_nor_denies_does_not_count(rig: Rig, mode: str) -> None:
    [gone, *_] = rig.world.memberships
    rig.world.remove_membership(gone)
    rig.api.faults.add(answering(403, code="forbidden"), path=f"/users/{user(0)}/organization_memberships", times=9)
    before = told(rig)
    report = rig.run(mode)
    assert report.state == "incomplete"
    assert "no membership is deleted" in str(report.reason)
    assert "membership" not in report.compared_until or report.compared_until["membership"] == before["membership"][1]
    assert moved(before, rig) == (ALL if mode == "full" else LISTS) - {"membership"}


def test_a_kind_whose_emptied_objects_cannot_be_read_again_does_not_count(rig: Rig) -> None:
    rig.world.update("user", user(3), {"first_name": None})
    rig.api.faults.add(answering(403, code="forbidden"), path="/users", having="user_id", times=9)
    before = told(rig)
    report = rig.run()
    assert report.state == "incomplete"
    assert moved(before, rig) == ALL - {"user"}


def test_too_many_rows_that_the_tables_refuse_count_for_no_kind(rig: Rig) -> None:
    rig.admin.execute("alter table clerk.users add constraint no_robots check (last_name <> 'Robot')")
    for number in range(12):
        rig.world.update("user", user(number), {"last_name": "Robot"})
    before = told(rig)
    assert rig.run().state == "incomplete"
    assert moved(before, rig) == set()


def test_a_full_run_that_went_on_later_counts_from_its_beginning(rig: Rig) -> None:
    rig.die_at("find_unseen")
    began = rig.world.now // 1_000 * 1_000
    rig.world.now += 60 * MINUTE
    report = rig.run()
    assert (report.is_resumed, report.state) == (True, "complete")
    assert set(report.compared_until.values()) == {began}


def test_a_delete_that_waits_for_a_second_answer_keeps_no_kind_from_counting(rig: Rig) -> None:
    rig.settings = type(rig.settings)(threads=3)
    rig.world.now += 10 * MINUTE
    rig.world.remove_user(user(20))
    before = told(rig)
    report: Report = rig.run()
    assert (report.state, report.counts["user"]["awaiting"]) == ("complete", 1)
    assert moved(before, rig) == ALL
