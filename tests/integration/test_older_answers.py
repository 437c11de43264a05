"""Clerk's clock goes back: a run finds the row that a version keeps wrong, and names the command that repairs it."""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import replace

import pytest

from clerk_supabase_cli.standin.samples import Json
from clerk_supabase_cli.standin.worlds import World
from tests.kit.histories import alone, upsert
from tests.kit.reconciling import MINUTE, Rig, user

CAUSE = "Clerk lists an older version than the one that was applied here"
LATER = 6 * MINUTE


def with_members(world: World) -> None:
    organization = world.create_organization({"name": "Analysts"})
    world.add_membership(organization["id"], user(1), role="org:admin")


pytestmark = pytest.mark.mirror(30, with_members)
"""30 users and a membership, all of them mirrored."""


def put_back(objects: MutableMapping[str, Json], object_id: str, **fields: object) -> None:
    """A change in Clerk by a server whose clock is ten milliseconds behind."""
    before = objects[object_id]
    objects[object_id] = before | fields | {"updated_at": before["updated_at"] - 10}


def test_a_row_that_an_older_version_cannot_repair_is_found_and_the_run_says_what_does(rig: Rig) -> None:
    [membership] = rig.world.memberships
    put_back(rig.world.users, user(3), banned=True)
    put_back(rig.world.memberships, membership, role="org:member")
    rig.world.now += LATER
    report = rig.run()
    assert report.state == "complete"
    assert "clerk-supabase resync ID --force" in str(report.reason)
    assert f"reconcile show {report.run_id}" in str(report.reason)
    found = {
        key: (each.difference, each.action, each.cause, *(each.fields or ()))
        for key, each in rig.findings(report).items()
    }
    assert found == {
        user(3): ("different", "none", CAUSE, "banned"),
        membership: ("different", "none", CAUSE, "role"),
    }
    assert (report.counts["user"]["older"], report.counts["membership"]["older"]) == (1, 1)
    assert "repaired" not in report.counts["user"]
    assert rig.column(user(3), "banned") is False


def test_a_removed_row_that_an_older_version_cannot_restore_is_found_too(rig: Rig) -> None:
    put_back(rig.world.users, user(3))
    rig.admin.execute("delete from clerk.users where clerk_id = %s", [user(3)])
    rig.world.now += LATER
    report = rig.run()
    [found] = rig.findings(report).values()
    assert (found.difference, found.action, found.cause) == ("missing", "none", CAUSE)


def test_a_version_that_is_older_and_says_the_same_is_no_finding(rig: Rig) -> None:
    put_back(rig.world.users, user(3))
    rig.world.now += LATER
    report = rig.run()
    assert (report.findings, report.reason) == (0, None)


@pytest.mark.parametrize(("margin_ms", "is_found"), [(0, True), (300_000, False)])
def test_a_webhook_that_was_faster_than_the_list_is_no_finding(rig: Rig, margin_ms: int, is_found: bool) -> None:
    rig.settings = replace(rig.settings, delete_margin_ms=margin_ms)
    rig.store.apply(alone(upsert(user(3), version=rig.world.now, first_name="Newer")))
    # Clerk's API lags, a minute later.
    report = rig.run()
    assert (user(3) in rig.findings(report)) is is_found
    assert rig.column(user(3), "first_name") == "Newer"
