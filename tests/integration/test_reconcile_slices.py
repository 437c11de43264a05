"""Quick runs and the lists that do not show changes: differences are found within the bound, in every case."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from psycopg import sql

from clerk_supabase.model.found_kinds import FACTS, LIST_KINDS, READ_KINDS
from clerk_supabase.reconcile.pages import ReconcileSettings
from clerk_supabase.reconcile.report import Report
from clerk_supabase_cli.standin.faults import Fault, answering
from clerk_supabase_cli.standin.worlds import World
from tests.kit.clerk import reader
from tests.kit.databases import Connection, Databases, rows, value
from tests.kit.reconciling import MINUTE, Rig, RigMaker, mirror

MEMBERS = 700
BOUND = 120
EVERY = 15


def populate(world: World) -> None:
    organization = world.create_organization({})
    for number in range(MEMBERS):
        world.now += 1_000
        world.add_membership(organization["id"], f"user_{number:026}", role="org:admin")


pytestmark = pytest.mark.mirror(MEMBERS + 10, populate)
"""An organization with 700 members, all of them mirrored."""


def quick(rig: Rig, every: int = EVERY, **request: Any) -> Report:
    """A quick run, this number of minutes after the step before."""
    rig.world.now += (every - 1) * MINUTE
    return rig.run("quick", **request)


def minutes_until(rig: Rig, is_found: Callable[[], bool], every: int = EVERY) -> int:
    """The minutes until quick runs find a difference."""
    minutes = 0
    while not is_found():
        assert minutes <= 2 * BOUND, "not found"
        minutes += every
        report = quick(rig, every)
        assert report.state == "complete", report.reason
    return minutes


def demote(rig: Rig, number: int) -> str:
    """A member whose demotion no webhook tells."""
    membership_id = list(rig.world.memberships)[number]
    rig.world.update("membership", membership_id, {"role": "org:member"})
    return membership_id


def role(rig: Rig, membership_id: str) -> Any:
    query = "select role from clerk.organization_memberships where clerk_membership_id = %s"
    return value(rig.admin, query, membership_id)


def is_demoted(rig: Rig, membership_id: str) -> bool:
    return bool(role(rig, membership_id) == "org:member")


def ages(rig: Rig) -> dict[str, int | None]:
    """Minutes since everything of a kind is known to have been compared."""
    found = rows(rig.admin, "select kind, compared_until from clerk_sync.compared_until()")
    return {
        kind: None if until is None else (rig.world.now - until) // MINUTE
        for kind, until in found
        if kind in READ_KINDS
    }


def compared_until(rig: Rig) -> Any:
    """The time by Clerk's clock before which all memberships have been compared."""
    return value(rig.admin, "select compared_until from clerk_sync.compared_until() where kind = 'membership'")


def pages_of_slices(rig: Rig) -> int:
    return sum(
        request.path == "/organization_memberships"
        and request.value("order_by") == "+created_at"
        and request.value("limit") == "500"
        for request in rig.api.requests
    )


# Found within the bound


def test_a_lost_demotion_of_the_newest_member_is_found_by_the_next_quick_run(rig: Rig) -> None:
    demoted = demote(rig, MEMBERS - 1)
    assert minutes_until(rig, lambda: role(rig, demoted) == "org:member") == EVERY


@pytest.mark.parametrize("number", [0, 199, 450, 650])
def test_a_lost_demotion_of_any_member_is_found_within_the_bound(rig: Rig, number: int) -> None:
    demoted = demote(rig, number)
    assert minutes_until(rig, lambda: role(rig, demoted) == "org:member") <= BOUND


def test_demotions_are_found_within_the_bound_again_and_again(rig: Rig) -> None:
    for number in (20, 480, 30, 199):
        demoted = demote(rig, number)
        assert minutes_until(rig, partial(is_demoted, rig, demoted), every=40) <= BOUND


def test_one_deleted_user_beside_one_new_user_is_found_by_the_next_quick_run(rig: Rig) -> None:
    gone = list(rig.world.memberships)[100]
    rig.world.remove_membership(gone)
    organization = next(iter(rig.world.organizations))
    joined = rig.world.add_membership(organization, f"user_{MEMBERS:026}", role="org:member")["id"]
    report = quick(rig)
    assert report.state == "complete"
    assert {key: each.difference for key, each in rig.findings(report).items()} == {gone: "extra", joined: "missing"}
    assert rig.agrees()


def test_many_deleted_users_in_different_places_are_found_by_their_number(rig: Rig) -> None:
    for membership_id in list(rig.world.memberships)[50:700:100]:
        rig.world.remove_membership(membership_id)
    report = quick(rig)
    assert (report.state, report.counts["membership"]["deleted"]) == ("complete", 7)
    assert rig.agrees()


def test_edits_by_hand_are_found_within_the_bound(rig: Rig) -> None:
    edited = list(rig.world.memberships)[100]
    rig.admin.execute(
        "update clerk.organization_memberships set role = 'org:owner' where clerk_membership_id = %s", [edited]
    )
    assert minutes_until(rig, lambda: role(rig, edited) == "org:admin") <= BOUND


def test_a_quick_run_reads_on_while_a_page_ends_with_the_first_moment_that_is_new(databases: Databases) -> None:
    def at_last_many_at_once(world: World) -> None:
        organization = world.create_organization({})
        for number in range(610):
            world.now += 1_000
            world.add_membership(organization["id"], f"user_{number:026}", role="org:admin")
        for membership in list(world.memberships.values())[100:]:
            membership["created_at"] = world.now

    with mirror(databases, 610, at_last_many_at_once) as mirrored, mirrored() as rig:
        [first] = {each["created_at"] for each in list(rig.world.memberships.values())[100:]}
        watermark = value(rig.admin, "select as_of from clerk_sync.reconcile_runs")
        rig.settings = replace(rig.settings, overlap_ms=watermark - first)
        assert quick(rig).state == "complete"
        asked = [each for each in rig.api.requests if each.path == "/organization_memberships"]
        # A page has 500 of the 510, and the next page begins a little earlier.
        assert [each.value("offset") for each in asked if each.value("order_by") == "-created_at"] == ["0", "480"]


def test_many_memberships_of_one_moment_are_compared(databases: Databases) -> None:
    def at_once(world: World) -> None:
        organization = world.create_organization({})
        for number in range(1_200):
            world.add_membership(organization["id"], f"user_{number:026}", role="org:admin")
        for membership in world.memberships.values():
            membership["created_at"] = world.now

    with mirror(databases, 1_200, at_once) as mirrored, mirrored() as rig:
        demoted = demote(rig, 600)
        assert minutes_until(rig, lambda: role(rig, demoted) == "org:member") <= BOUND
        rig.world.remove_membership(list(rig.world.memberships)[700])
        assert minutes_until(rig, rig.agrees) == EVERY


# Costs


def test_slices_cost_about_as_much_whether_runs_come_often_or_rarely(mirrored: RigMaker) -> None:
    costs = {}
    for every in (20, 60):
        with mirrored() as rig:
            for _ in range(2 * BOUND // every):
                quick(rig, every)
            costs[every] = pages_of_slices(rig)
    # Two pages each time; one that is not read to its end is read again.
    assert 4 <= costs[20] <= 7
    assert 4 <= costs[60] <= 7


def test_a_dry_run_compares_slices_and_leaves_no_trace(rig: Rig) -> None:
    demoted = demote(rig, 100)
    before = rows(rig.admin, "select * from clerk_sync.sweeps order by 1, 2")
    rig.settings = ReconcileSettings(threads=3, sweep_minutes=1)
    report = quick(rig, dry_run=True)
    assert rig.findings(report)[demoted].difference == "stale"
    assert role(rig, demoted) == "org:admin"
    assert rows(rig.admin, "select * from clerk_sync.sweeps order by 1, 2") == before


def test_a_run_reports_a_rate_limit_too_low_for_the_bound(rig: Rig) -> None:
    slow = reader(rig.api.url, share=0.001)
    with closing(slow.http):
        rig.ours = slow
        rig.settings = ReconcileSettings(threads=3, sweep_minutes=1)
        report = quick(rig)
    assert report.state == "complete"
    assert "of the 700 memberships that were due" in str(report.reason)
    assert "ReconcileSweepMinutes" in str(report.reason)


# The report of a run


def test_a_quick_run_says_by_kind_until_when_everything_is_compared(rig: Rig) -> None:
    # Clerk's header Date has whole seconds.
    began = rig.world.now // 1_000 * 1_000
    report = quick(rig)
    assert report.state == "complete"
    assert report.compared_until["membership"] == report.compared_until["user"] == began
    assert report.compared_until["organization"] == report.compared_until["domain"] == began + EVERY * MINUTE


def test_no_comparison_of_a_row_is_older_than_the_bound(rig: Rig) -> None:
    for _ in range(9):
        quick(rig)
        found = ages(rig)
        assert {kind: age for kind, age in found.items() if kind not in ("user", "membership")} == dict.fromkeys(
            (kind for kind in LIST_KINDS if kind != "membership"), 0
        )
        assert (ages(rig)["membership"] or 0) <= BOUND


def test_a_full_run_completes_the_comparison_of_each_kind(rig: Rig) -> None:
    quick(rig)
    assert rig.run().state == "complete"
    assert set(ages(rig).values()) == {0}
    assert value(rig.admin, "select count(*) from clerk_sync.sweeps") == len(READ_KINDS)


def test_a_list_that_may_be_incomplete_does_not_count_as_compared(rig: Rig) -> None:
    before = compared_until(rig)
    rig.api.faults.add(
        Fault(alter=lambda elements: elements[:-30]), path="/organization_memberships", times=100, having="offset"
    )
    assert rig.run().state == "incomplete"
    assert compared_until(rig) == before


# Changes during a run


@pytest.mark.parametrize("leaving", [5, 30, 300])
def test_a_list_that_shifts_while_a_slice_is_read_hides_nobody_and_deletes_nobody_who_stayed(
    rig: Rig, leaving: int
) -> None:
    rig.settings = ReconcileSettings(threads=3, sweep_minutes=1)
    demoted = demote(rig, 490)

    def leave() -> None:
        for membership_id in list(rig.world.memberships)[:leaving]:
            rig.world.remove_membership(membership_id)

    rig.api.faults.add(Fault(happening=leave), path="/organization_memberships", skip=2)
    quick(rig, allow_deletes=1_000)
    assert set(rig.world.memberships) <= rig.shown("organization_memberships", "clerk_membership_id")
    quick(rig, allow_deletes=1_000)
    assert role(rig, demoted) == "org:member"
    quick(rig, allow_deletes=1_000)
    assert rig.agrees()


def test_an_interrupted_sweep_continues_and_does_not_count_unsettled_rows(rig: Rig) -> None:
    rig.settings = ReconcileSettings(threads=3, sweep_minutes=1)
    demoted = demote(rig, 10)
    before = compared_until(rig)
    rig.die_at("settle_sweeps", mode="quick")
    assert compared_until(rig) == before
    assert role(rig, demoted) == "org:member"
    rig.die_at("visit_slice", skip=1, mode="quick")
    for _ in range(2):
        report = quick(rig)
    assert report.state == "complete"
    assert (ages(rig)["membership"] or 0) <= EVERY


@pytest.mark.parametrize("kind", [kind for kind in LIST_KINDS if FACTS[kind].is_dated])
def test_rows_created_before_a_moment_are_counted_by_an_index(admin: Connection, kind: str) -> None:
    [(table,)] = rows(admin, "select relation from clerk_sync.kinds where kind = %s", kind)
    counting = sql.SQL("explain select count(*) from {} as r where r.deleted_at is null and r.created_at < now()")
    with admin.transaction():
        admin.execute("set local enable_seqscan = off")
        plan = [line for (line,) in admin.execute(counting.format(sql.SQL(table)))]
    assert [line for line in plan if "Index Cond: (created_at <" in line], plan


def test_a_run_that_was_taken_over_no_longer_writes_what_it_visited(rig: Rig) -> None:
    rig.die_at("visit_slice", mode="quick")
    [(run_id, lease)] = rows(
        rig.admin, "select run_id, gen_random_uuid()::text from clerk_sync.reconcile_runs where state = 'running'"
    )
    before = rows(rig.admin, "select * from clerk_sync.sweeps order by 1, 2")
    asked = {"run": run_id, "lease": lease, "kind": "membership", "start": 0, "end": None}
    assert rig.store.call("visit_slice", asked | {"is_whole": True, "is_switched_off": False}) is False
    assert rig.store.call("settle_sweeps", {"run": run_id, "lease": lease}) is None
    assert rows(rig.admin, "select * from clerk_sync.sweeps order by 1, 2") == before


@pytest.mark.parametrize(
    "damage",
    [
        "delete from clerk_sync.sweeps",
        "update clerk_sync.sweeps set visited_at = 253402300799999, compared_at = 253402300799999",
        "update clerk_sync.sweeps set ends_at = 1",
        "update clerk_sync.sweeps set visited_at = 0, compared_at = null",
    ],
)
def test_a_lost_demotion_is_found_within_the_bound_whatever_is_recorded_about_earlier_slices(
    rig: Rig, damage: str
) -> None:
    rig.admin.execute(damage)
    demoted = demote(rig, 100)
    assert minutes_until(rig, lambda: role(rig, demoted) == "org:member") <= BOUND


def test_one_missing_time_of_clerk_does_not_stop_the_sweep(rig: Rig) -> None:
    rig.world.memberships[list(rig.world.memberships)[100]]["created_at"] = None
    rig.settings = ReconcileSettings(threads=3, sweep_minutes=1)
    demoted = demote(rig, 650)
    demoted_beside = demote(rig, 110)
    quick(rig)
    assert (role(rig, demoted), role(rig, demoted_beside)) == ("org:member", "org:member")


def test_a_list_that_is_refused_makes_the_run_incomplete_and_hides_nothing(rig: Rig) -> None:
    rig.api.faults.add(answering(403, code="forbidden"), path="/organization_memberships", times=10)
    report = quick(rig)
    assert report.state == "incomplete"
    assert "memberships were not compared" in str(report.reason)
    assert rig.agrees()


# Switched off


@pytest.mark.parametrize("mode", ["full", "quick"])
def test_organizations_that_are_switched_off_are_reported_as_such_and_not_as_compared(rig: Rig, mode: str) -> None:
    rig.api.answers.no_organizations = (403, "organization_not_enabled_in_instance")
    report = rig.run(mode)
    assert report.state == "complete"
    assert "organizations are switched off in Clerk" in str(report.reason)
    assert len(rig.shown("organization_memberships", "clerk_membership_id")) == MEMBERS
    off = {kind for kind in LIST_KINDS if "organization" in FACTS[kind].list_path}
    assert report.compared_until.keys() == {*READ_KINDS} - off
    found = rows(rig.admin, "select kind from clerk_sync.compared_until() where is_switched_off")
    assert {kind for (kind,) in found} == off
    rig.api.answers.no_organizations = None
    demoted = demote(rig, 100)
    assert minutes_until(rig, lambda: role(rig, demoted) == "org:member") <= BOUND
    assert rows(rig.admin, "select kind from clerk_sync.compared_until() where is_switched_off") == []


@pytest.mark.parametrize("mode", ["full", "quick"])
def test_domains_that_are_switched_off_do_not_keep_the_other_lists_from_being_compared(rig: Rig, mode: str) -> None:
    rig.api.answers.no_domains = (403, "organization_domains_not_enabled")
    demoted = demote(rig, MEMBERS - 1)
    report = rig.run(mode)
    assert report.state == "complete"
    assert report.reason == "verified domains are switched off in Clerk: domains were not compared"
    assert role(rig, demoted) == "org:member"
    assert math.isfinite(report.compared_until["membership"])
    assert "domain" not in report.compared_until
