"""A run in which a column would lose its value in many rows stops before the first of these repairs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from clerk_supabase.reconcile.drift import Brake
from clerk_supabase.telemetry import metrics
from clerk_supabase_cli.standin.faults import Fault, with_null
from clerk_supabase_cli.standin.worlds import World
from tests.kit.aws import Account
from tests.kit.databases import Databases, rows, value
from tests.kit.reconciling import MINUTE, Queued, Rig, RigMaker, mirror, user

EVERYBODY = 30
# As many as the brake lets by.
FEW = 10


def with_members(world: World) -> None:
    organization = world.create_organization({"name": "Analysts"})
    for number in range(14):
        world.add_membership(organization["id"], user(number), role="org:member")
        world.update("user", user(number), {"banned": True, "username": f"user{number}"})
    for each in world.memberships.values():
        each |= {"permissions": ["org:docs:read"]}


pytestmark = pytest.mark.mirror(EVERYBODY, with_members)


@pytest.fixture
def rig(mirrored: RigMaker) -> Iterator[Rig]:
    """30 users, 14 of them banned members of an organization, all of them mirrored."""
    with mirrored() as rig:
        rig.world.now += MINUTE
        yield rig


def change(rig: Rig, number: int, **fields: Any) -> None:
    """Changes this number of users in Clerk, without a webhook."""
    for each in range(number):
        rig.world.update("user", user(each), fields)


def names(rig: Rig) -> int:
    return int(value(rig.admin, "select count(*) from clerk.users where first_name is not null"))


@pytest.mark.parametrize("mode", ["full", "quick"])
def test_a_few_users_who_lose_a_value_are_read_again_and_repaired(rig: Rig, mode: str) -> None:
    before = names(rig)
    change(rig, FEW, first_name=None)
    calls = rig.api.counts["GET /users"]
    report = rig.run(mode)
    assert (report.state, report.reason) == ("complete", None)
    assert (report.counts["user"]["stale"], report.counts["user"]["repaired"]) == (FEW, FEW)
    assert "older" not in report.counts["user"]
    assert names(rig) == before - FEW
    assert {each.outcome for each in rig.findings(report).values()} == {"settled"}
    # A page of the list, and one request for all of them.
    assert rig.api.counts["GET /users"] == calls + 2


@pytest.mark.parametrize("mode", ["full", "quick"])
def test_a_column_that_too_many_rows_would_lose_stops_the_run_before_the_first(rig: Rig, mode: str) -> None:
    before = names(rig)
    change(rig, FEW + 1, first_name=None)
    rig.world.update("user", user(29), {"last_name": "Newer"})
    rig.world.remove_user(user(28))
    report = rig.run(mode)
    assert report.state == "stopped"
    assert "first_name would lose its value in 11 of " in str(report.reason)
    assert "users, and one run may empty 10" in str(report.reason)
    assert "allow it with --allow-emptied 11" in str(report.reason)
    assert names(rig) == before
    held = {key: each.outcome for key, each in rig.findings(report).items() if each.outcome == "held back"}
    assert len(held) == FEW + 1
    # A repair that empties nothing is made; and an answer in doubt proves no delete.
    assert rig.column(user(29), "last_name") == "Newer"
    assert user(28) in rig.shown()


def test_a_stopped_run_is_repeated_by_every_quick_run_until_an_operator_allows_it(rig: Rig) -> None:
    change(rig, FEW + 1, first_name=None)
    assert rig.run("quick").state == "stopped"
    rig.world.now += 60 * MINUTE
    assert rig.run("quick").state == "stopped"
    report = rig.run("quick", allow_emptied=FEW + 1)
    assert (report.state, report.counts["user"]["repaired"]) == ("complete", FEW + 1)
    assert names(rig) == EVERYBODY - FEW - 1
    assert rig.run("quick").findings == 0
    # Of each run by itself it is known whether it left something as it was.
    holds_back = rows(rig.admin, "select holds_back from clerk_sync.reconcile_runs order by run_id desc limit 5")
    assert [each for (each,) in holds_back] == [False, False, True, True, False]


def test_the_alarm_of_the_brake_rings(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    change(rig, FEW + 1, first_name="")
    capsys.readouterr()
    rig.run()
    assert metrics.metric_set["BrakePulled"]["Value"] == [1]
    metrics.clear_metrics()


def test_a_list_that_lacks_a_field_by_mistake_empties_nothing_and_the_next_good_one_is_complete(rig: Rig) -> None:
    before = rows(rig.admin, "select clerk_id, username, first_name from clerk.users order by 1")
    rig.api.faults.add(with_null("first_name"), path="/users")
    assert rig.run().state == "stopped"
    assert rows(rig.admin, "select clerk_id, username, first_name from clerk.users order by 1") == before
    assert rig.run().findings == 0


def test_a_few_values_emptied_in_a_list_are_stored_only_after_the_users_were_read_again(rig: Rig) -> None:
    change(rig, FEW, last_name="Newer")

    def emptied(elements: list[bytes]) -> list[bytes]:
        some = [each.replace(b'"last_name":"Newer"', b'"last_name":null') for each in elements]
        assert some != elements
        return some

    rig.api.faults.add(Fault(alter=emptied), path="/users")
    assert rig.run().state == "complete"
    assert value(rig.admin, "select count(*) from clerk.users where last_name = 'Newer'") == FEW


@pytest.mark.parametrize(
    ("column", "field", "nothing"),
    [
        ("username", "username", ""),
        ("banned", "banned", False),
        ("email_addresses", "email_addresses", []),
        ("public_metadata", "public_metadata", {}),
    ],
)
def test_a_value_is_lost_to_null_an_empty_text_list_or_object_and_a_flag_that_is_no_longer_set(
    rig: Rig, column: str, field: str, nothing: Any
) -> None:
    if column == "public_metadata":
        rig.admin.execute("update clerk.users set public_metadata = '[1]'")
    change(rig, EVERYBODY, **{field: nothing})
    report = rig.run()
    assert report.state == "stopped"
    assert f"{column} would lose its value in " in str(report.reason)


def test_many_banned_or_changed_users_do_not_pull_the_brake(rig: Rig) -> None:
    change(rig, EVERYBODY, banned=True, first_name="Other")
    assert rig.run().state == "complete"
    assert value(rig.admin, "select count(*) from clerk.users where banned and first_name = 'Other'") == EVERYBODY


def test_permissions_of_memberships_pull_the_brake_too_and_few_of_them_are_read_again_by_their_members(
    rig: Rig,
) -> None:
    lost = "select count(*) from clerk.organization_memberships where permissions = '{}'"
    members = list(rig.world.memberships)
    for each in members[: FEW + 1]:
        rig.world.update("membership", each, {"permissions": []})
    report = rig.run()
    assert "permissions would lose its value in 11 of 14 memberships" in str(report.reason)
    assert value(rig.admin, lost) == 0
    rig.world.update("membership", members[0], {"permissions": ["org:docs:read"]})
    assert rig.run().state == "complete"
    assert value(rig.admin, lost) == FEW


@pytest.mark.parametrize(
    ("path", "field", "reason"),
    [
        ("/organization_invitations", "email_address", "email_address would lose its value in 11 of 11 invitations"),
        ("/organization_invitations", "status", "status would lose its value in 11 of 11 invitations"),
        ("/organization_domains", "name", "name would lose its value in 11 of 11 domains"),
    ],
)
def test_a_list_of_invitations_or_domains_that_lacks_a_field_empties_nothing(
    rig: Rig, path: str, field: str, reason: str
) -> None:
    for _ in range(FEW + 1):
        rig.world.invite()
        rig.world.add_domain()
    assert rig.run().state == "complete"
    everything = "select to_jsonb(i) from clerk.organization_{} as i order by 1"
    before = [rows(rig.admin, everything.format(each)) for each in ("invitations", "domains")]
    rig.api.faults.add(with_null(field), path=path)
    report = rig.run()
    assert (report.state, reason in str(report.reason)) == ("stopped", True)
    assert [rows(rig.admin, everything.format(each)) for each in ("invitations", "domains")] == before
    assert rig.run().findings == 0


@pytest.mark.parametrize("kind", ["invitation", "domain"])
def test_a_few_invitations_and_domains_that_lose_a_value_are_read_again_and_repaired(rig: Rig, kind: str) -> None:
    rig.world.invite()
    rig.world.add_domain()
    assert rig.run().state == "complete"
    if kind == "invitation":
        objects, field, query = (
            rig.world.invitations,
            "email_address",
            "select email_address from clerk.organization_invitations",
        )
    else:
        objects, field, query = rig.world.domains, "name", "select name from clerk.organization_domains"
    rig.world.now += MINUTE
    [object_id] = objects
    objects[object_id] |= {field: None, "updated_at": rig.world.now}
    report = rig.run()
    assert (report.state, report.counts[kind]["repaired"]) == ("complete", 1)
    assert rows(rig.admin, query) == [(None,)]


def test_missing_rows_and_rows_known_from_other_objects_alone_are_filled_as_usual(rig: Rig) -> None:
    change(rig, EVERYBODY, first_name=None)
    rig.forget(*(user(number) for number in range(20)))
    rig.admin.execute(
        "update clerk_sync.entities set version = row(0, 0, 0)::clerk_sync.version where kind = 'user' and id > %s",
        [user(19)],
    )
    report = rig.run()
    assert (report.state, rig.agrees(), names(rig)) == ("complete", True, 0)


def test_forbidding_deletes_forbids_no_repair(rig: Rig) -> None:
    rig.settings = replace(rig.settings, brake=Brake(rows=0, percent=0))
    change(rig, FEW, first_name=None)
    assert rig.run().counts["user"]["repaired"] == FEW


def test_a_dry_run_says_that_it_would_be_stopped(rig: Rig) -> None:
    change(rig, FEW + 1, first_name=None)
    report = rig.run(dry_run=True)
    assert report.state == "stopped"
    assert {each.outcome for each in rig.findings(report).values()} == {"not sent"}


def test_a_run_by_versions_only_has_the_same_brake(rig: Rig) -> None:
    before = names(rig)
    change(rig, FEW + 1, first_name=None)
    assert rig.run(versions_only=True).state == "stopped"
    assert names(rig) == before


@pytest.mark.parametrize("function", ["emptied_columns", "held_repairs", "settle_findings", "end_run"])
def test_a_run_killed_among_repairs_that_were_held_back_is_continued_and_makes_them(rig: Rig, function: str) -> None:
    before = names(rig)
    change(rig, FEW, first_name=None)
    rig.die_at(function)
    report = rig.run()
    assert (report.state, report.is_resumed) == ("complete", True)
    assert report.counts["user"]["repaired"] == FEW
    assert names(rig) == before - FEW


def test_what_is_held_back_is_asked_for_by_its_kind_and_by_the_ids_that_are_left(rig: Rig) -> None:
    change(rig, 3, first_name=None)
    rig.die_at("held_repairs")
    run = value(rig.admin, "select max(run_id) from clerk_sync.reconcile_runs")
    assert [object_id for object_id, *_ in rig.runs.held_repairs(run, "user", "", 2)] == [user(0), user(1)]
    assert [object_id for object_id, *_ in rig.runs.held_repairs(run, "user", user(1), 2)] == [user(2)]
    assert rig.runs.held_repairs(run, "organization", "", 2) == []
    assert rig.runs.held_repairs(run, "membership", "", 2) == []


def test_through_the_queue_what_was_held_back_is_sent_and_not_called_repaired(rig: Rig, account: Account) -> None:
    before = names(rig)
    queued = Queued(account, rig.store)
    change(rig, FEW, first_name=None)
    report = rig.run(repairs=queued.repairs)
    assert (report.state, report.counts["user"].get("repaired")) == ("complete", None)
    assert report.counts["user"]["repairs sent"] == FEW
    assert names(rig) == before
    assert queued.drain() == FEW
    assert names(rig) == before - FEW


def test_emptied_private_metadata_pulls_the_brake_and_is_deleted_with_its_user(databases: Databases) -> None:
    def with_secrets(world: World) -> None:
        for number in range(EVERYBODY):
            world.update("user", user(number), {"private_metadata": {"plan": "pro"}})

    with mirror(databases, EVERYBODY, with_secrets, keep_private_metadata=True) as mirrored, mirrored() as rig:
        change(rig, FEW + 1, private_metadata={}, last_name="New")
        report = rig.run()
        assert "private_metadata would lose its value in 11" in str(report.reason)
        assert value(rig.admin, "select count(*) from clerk.users where last_name = 'New'") == 0
        assert rig.run(allow_emptied=FEW + 1).counts["user"]["repaired"] == FEW + 1
        assert value(rig.admin, "select count(*) from clerk.users where last_name = 'New'") == FEW + 1
