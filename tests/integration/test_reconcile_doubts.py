"""Lists that shift, odd elements, the brake of each kind, and new users: the decisions of a run about them."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from typing import Any, Final

import pytest

from clerk_supabase.clerk.walk import OVERLAP
from clerk_supabase.credentials import Fixed
from clerk_supabase.errors import Retryable, WrongInstance
from clerk_supabase.model.changes import Delete, changes_of
from clerk_supabase.model.events import parse_event
from clerk_supabase.postgres.store import Store
from clerk_supabase.reconcile.corrections.repairs import DirectRepairs
from clerk_supabase.reconcile.run import Reconcile
from clerk_supabase.reconcile.runs import Runs
from clerk_supabase_cli.standin.faults import Fault, answering
from clerk_supabase_cli.standin.worlds import World
from tests.kit.aws import Account
from tests.kit.databases import Database, rows, tables, value
from tests.kit.histories import alone
from tests.kit.reconciling import Queued, Rig, happening_after, rig_with, user

_SECONDS_OF_A_STATEMENT: Final = 15


def found_organizations(world: World) -> None:
    for number in range(15):
        organization = world.create_organization({})
        world.add_membership(organization["id"], user(number), role="org:member")


pytestmark = pytest.mark.mirror(1_201, found_organizations, users_per_window=300)
"""1,201 users in windows of at most 300, and 15 organizations with a member each, all of them mirrored."""


# Lists


def test_a_list_that_shifted_by_more_than_its_overlap_is_no_complete_run(database: Database) -> None:
    with rig_with(database) as rig:
        made = [rig.world.create_organization({})["id"] for _ in range(600)]

        def shift() -> None:
            for organization in made[: OVERLAP + 1]:
                rig.world.remove_organization(organization)

        rig.api.faults.add(Fault(happening=shift), path="/organizations", having="offset", skip=1)
        report = rig.run()
        assert report.state == "incomplete"
        assert "objects were removed while Clerk listed organizations, so some may have been missed" in str(
            report.reason
        )


@pytest.mark.parametrize("window", range(5))
def test_an_odd_element_in_any_window_of_users_keeps_every_user(rig: Rig, window: int) -> None:
    rig.settings = replace(rig.settings, threads=1)
    rig.world.remove_user(user(6))
    odd = Fault(alter=lambda elements: [b'{"object":"user"}', *elements[1:]])
    rig.api.faults.add(odd, path="/users", skip=window)
    report = rig.run()
    assert report.state == "incomplete"
    assert "Clerk listed users without a usable id, or called deleted: no user is deleted" in str(report.reason)
    assert len(rig.shown()) == 1_201


def test_a_page_full_of_copies_of_a_membership_is_compared_and_named(rig: Rig) -> None:
    rig.admin.execute("update clerk.organization_memberships set role = 'by hand'")
    rig.api.faults.add(Fault(alter=lambda elements: elements[:1] * 500), path="/organization_memberships")
    began = time.monotonic()
    report = rig.run()
    # Each copy compared with each other copy takes longer than statement_timeout of the worker's role.
    assert time.monotonic() - began < _SECONDS_OF_A_STATEMENT
    assert report.state == "incomplete"
    assert "no membership is deleted" in str(report.reason)
    roles = "select count(*) from clerk.organization_memberships where role = 'by hand'"
    assert rig.admin.execute(roles).fetchone() == (14,)


def test_a_quick_run_of_a_list_as_long_as_ours_is_complete_after_its_first_page(database: Database) -> None:
    with rig_with(database, 3) as rig:
        for _ in range(600):
            rig.world.create_organization({})
        assert rig.run().state == "complete"
        rig.api.requests.clear()
        report = rig.run("quick")
        assert (report.state, report.reason, report.findings) == ("complete", None, 0)
        assert len([each for each in rig.api.requests if each.path == "/organizations"]) == 1


def test_users_whom_the_list_leaves_out_are_asked_for_together(rig: Rig) -> None:
    left_out = [user(number).encode() for number in range(1_180, 1_200)]
    leave_out = Fault(alter=lambda elements: [each for each in elements if not any(one in each for one in left_out)])
    rig.settings = replace(rig.settings, users_per_window=4_900)
    rig.api.faults.add(leave_out, path="/users", skip=2)
    rig.api.faults.add(Fault(body=b'{"object":"total_count","total_count":1181}'), path="/users/count", times=2)
    assert rig.run().reason == "Clerk has users that it did not list: 20"
    assert not [each for each in rig.api.requests if each.path.startswith("/users/user_")]
    assert rig.agrees()


# The brake


def test_more_organizations_than_the_brake_allows_are_not_deleted(rig: Rig) -> None:
    before = tables(rig.admin)
    for organization in list(rig.world.organizations)[:12]:
        rig.world.remove_organization(organization)
    report = rig.run()
    assert report.state == "stopped"
    assert "of 15 organizations are gone from Clerk" in str(report.reason)
    assert tables(rig.admin) == before


def test_every_delete_is_sent_once(rig: Rig, account: Account) -> None:
    gone = 130
    for number in range(100, 100 + gone):
        rig.world.remove_user(user(number))
    queued = Queued(account, rig.store)
    report = rig.run(repairs=queued.repairs, allow_deletes=gone)
    assert (report.state, report.counts["user"]["deletes sent"]) == ("complete", gone)
    assert queued.drain() == gone
    assert rig.agrees()


def test_a_membership_goes_with_its_user_who_is_gone_and_hidden_already(rig: Rig) -> None:
    [membership] = [
        key for key, each in rig.world.memberships.items() if each["public_user_data"]["user_id"] == user(3)
    ]
    rig.world.remove_user(user(3))
    rig.admin.execute("update clerk.users set deleted_at = now() where clerk_id = %s", [user(3)])
    report = rig.run()
    assert membership not in rig.shown("organization_memberships", "clerk_membership_id")
    assert report.counts["user"]["deleted"] == 1


# Newcomers


def test_a_user_who_signs_up_during_a_run_is_neither_extra_nor_asked_for(rig: Rig) -> None:
    came: list[str] = []

    def sign_up() -> None:
        rig.world.now += 5_000
        came.append(rig.world.create_user({})["id"])
        arrives(rig)

    after_the_last_window(rig, sign_up)
    report = rig.run()
    assert came[0] in rig.shown()
    assert (report.state, report.findings, report.counts["user"].get("extra", 0)) == ("complete", 0, 0)
    assert not [each for each in rig.api.requests if came[0] in (each.path.rpartition("/")[2], *each.values("user_id"))]


def after_the_last_window(rig: Rig, happening: Callable[[], object]) -> None:
    """Calls a function after the last of five windows was listed, and before it is compared."""
    rig.settings = replace(rig.settings, threads=1)
    get = rig.ours.http.get
    listed: list[str] = []

    def get_late(path: str, *arguments: Any, **options: Any) -> Any:
        answer = get(path, *arguments, **options)
        if path == "/users":
            listed.append(path)
            if len(listed) == 5:
                happening()
        return answer

    rig.ours.http.get = get_late  # type: ignore[method-assign]  # stands before Clerk


def test_an_organization_that_is_made_during_a_run_is_neither_extra_nor_asked_for(rig: Rig) -> None:
    came: list[str] = []

    def found() -> None:
        rig.world.now += 5_000
        came.append(rig.world.create_organization({})["id"])
        arrives(rig)

    rig.ours.http.get = happening_after(rig.ours.http.get, "/organizations", found)  # type: ignore[method-assign]  # stands before Clerk
    report = rig.run()
    assert came[0] in rig.shown("organizations", "clerk_org_id")
    assert (report.state, report.findings) == ("complete", 0)
    assert f"/organizations/{came[0]}" not in [each.path for each in rig.api.requests]


def arrives(rig: Rig) -> None:
    """The webhook of the last change in Clerk is applied."""
    event = parse_event(json.dumps(rig.world.events[-1]).encode())
    rig.store.apply([(changes_of(event, rig.world.now), None)])


# Objects deleted here


def test_memberships_of_an_organization_that_was_deleted_here_are_no_findings_of_their_own(rig: Rig) -> None:
    organization = next(iter(rig.world.organizations))
    rig.store.apply(alone(Delete("organization", organization, rig.world.now)))
    report = rig.run()
    assert {key: each.difference for key, each in rig.findings(report).items()} == {organization: "deleted here"}


def test_undo_shows_no_row_that_was_purged_on_its_own(rig: Rig) -> None:
    organization = next(iter(rig.world.organizations))
    [membership] = [key for key, each in rig.world.memberships.items() if each["organization"]["id"] == organization]
    rig.world.remove_organization(organization)
    report = rig.run()
    rig.store.apply(alone(Delete("membership", membership, rig.world.now)))
    rig.admin.execute("update clerk_sync.entities set purged_at = now(), deleted_at = null where id = %s", [membership])
    assert rig.undo(report) == [("organization", organization)]
    assert organization in rig.shown("organizations", "clerk_org_id")
    assert membership not in rig.shown("organization_memberships", "clerk_membership_id")


# Failures


def test_when_clerk_is_unavailable_for_one_window_the_run_gives_that_reason(rig: Rig) -> None:
    """The run does not report that it was taken over, the error of the threads stopped by the first error."""
    rig.settings = replace(rig.settings, threads=2)

    def late() -> None:
        threading.Event().wait(0.3)

    rig.api.faults.add(Fault(happening=late), path="/users")
    rig.api.faults.add(answering(503), path="/users", skip=1, times=100)
    with pytest.raises(Retryable, match="Clerk answered 503"):
        rig.run()


def test_an_object_is_not_synced_again_from_another_instance(rig: Rig) -> None:
    rig.world.update("user", user(700), {"last_name": "Newer"})
    rig.world.remove_user(user(900))
    rig.admin.execute("update clerk_sync.instance set instance_id = 'ins_of_somebody_else'")
    before = tables(rig.admin)
    with closing(Store(Fixed(f"{rig.database.url}?sslmode=disable"))) as operator:
        reconcile = Reconcile(rig.ours.http, Runs(operator), DirectRepairs(), rig.settings, monotonic=rig.ours.clock)
        for user_id in (user(700), user(900)):
            with pytest.raises(WrongInstance):
                reconcile.resync(user_id, math.inf)
    assert tables(rig.admin) == before
    assert rows(rig.admin, "select instance_id from clerk_sync.instance") == [("ins_of_somebody_else",)]
    assert value(rig.admin, "select count(*) from clerk_sync.reconcile_runs") == 1
