"""The watermark, from which a quick run continues: no change before it was left out.

More changes than a page holds lie between it and the change that must not be lost: a page is always read.
"""

from __future__ import annotations

import pytest

from tests.kit.reconciling import MINUTE, Rig, user

pytestmark = pytest.mark.mirror(1_201)
"""1,201 users, all of them mirrored; every webhook from then on gets lost."""


LOST = user(1_200)
OTHERS = [user(number) for number in range(600)]
"""More than a page."""


def change(rig: Rig, *user_ids: str) -> None:
    """These users change, all at this moment."""
    moment = rig.world.now
    for user_id in user_ids:
        rig.world.update("user", user_id, {"last_name": "Newer"})
        rig.world.now = moment


def lose_changes(rig: Rig) -> None:
    """Changes one user, and a minute later more users than a page holds."""
    rig.world.now += MINUTE
    change(rig, LOST)
    rig.world.now += MINUTE
    change(rig, *OTHERS)


def all_changes_are_here(rig: Rig) -> bool:
    changed = [LOST, *OTHERS]
    return {rig.column(user_id, "last_name") for user_id in changed} == {"Newer"}


def test_changes_before_a_quick_run_that_was_cut_off_are_found_by_the_next(rig: Rig) -> None:
    lose_changes(rig)
    rig.world.now += 60 * MINUTE
    rig.die_at("compare", mode="quick")
    report = rig.run("quick")
    assert (report.mode, report.state) == ("quick", "complete")
    assert all_changes_are_here(rig)


def test_changes_before_an_incomplete_quick_run_are_found_by_the_next(rig: Rig) -> None:
    lose_changes(rig)
    rig.world.now += 60 * MINUTE
    rig.die_at("compare", mode="quick")
    rig.admin.execute("update clerk_sync.reconcile_runs set state = 'incomplete' where state = 'running'")
    assert rig.run("quick").state == "complete"
    assert all_changes_are_here(rig)


def test_differences_found_by_a_dry_run_alone_are_repaired_by_the_next_quick_run(rig: Rig) -> None:
    lose_changes(rig)
    rig.world.now += 60 * MINUTE
    assert rig.run("quick", dry_run=True).findings == len(OTHERS) + 1
    assert rig.column(LOST, "last_name") != "Newer"
    report = rig.run("quick")
    assert (report.state, report.findings) == ("complete", len(OTHERS) + 1)
    assert all_changes_are_here(rig)


def test_a_change_that_became_visible_after_the_run_that_should_have_seen_it_is_found_by_the_next(rig: Rig) -> None:
    rig.world.now += 2 * MINUTE
    change(rig, *OTHERS)
    assert rig.run("quick").findings == len(OTHERS)
    ended_at = rig.world.now
    rig.world.now -= 2 * MINUTE
    change(rig, LOST)
    rig.world.now = ended_at
    assert rig.run("quick").findings == 1
    assert all_changes_are_here(rig)


def test_the_watermark_is_the_newest_complete_run_and_not_the_first(rig: Rig) -> None:
    lose_changes(rig)
    assert rig.run("quick").state == "complete"
    rig.world.now += 60 * MINUTE
    assert rig.run("quick").state == "complete"
    rig.world.now += 60 * MINUTE
    listed_before = len([each for each in rig.api.requests if each.path == "/users"])
    assert rig.run("quick").state == "complete"
    assert len([each for each in rig.api.requests if each.path == "/users"]) == listed_before + 1
