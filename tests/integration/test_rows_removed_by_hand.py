"""Rows removed by hand: events about objects below them are applied, and comparisons restore them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import closing

import pytest
from psycopg import sql

from clerk_supabase.credentials import Fixed
from clerk_supabase.postgres.store import Store
from clerk_supabase.reconcile.corrections.repairs import DirectRepairs
from clerk_supabase.reconcile.report import Report
from clerk_supabase.reconcile.run import Reconcile
from clerk_supabase.reconcile.runs import Runs
from clerk_supabase_cli.standin.worlds import World
from tests.kit.databases import value
from tests.kit.histories import CREATED_AT, Applied
from tests.kit.reconciling import Rig
from tests.kit.webhooks import deleted, domain, invitation, membership

MEMBER, OTHER = (f"user_{number:026}" for number in (1, 2))
CHILDREN: Mapping[str, Callable[[str, int], Applied]] = {
    "organization_memberships": lambda org_id, at: membership("orgmem_new", at=at, org_id=org_id, user_id=OTHER),
    "organization_invitations": lambda org_id, at: invitation("orginv_new", at=at, org_id=org_id),
    "organization_domains": lambda org_id, at: domain("orgdmn_new", at=at, org_id=org_id),
}


def populate(world: World) -> None:
    organization = world.create_organization({"name": "Acme"})
    world.add_membership(organization["id"], MEMBER, role="org:member")


pytestmark = pytest.mark.mirror(5, populate)
"""Five users and an organization with one member, all of them mirrored."""


def now(rig: Rig) -> int:
    return rig.world.now - CREATED_AT


def remove(rig: Rig, table: str, key: str, row_id: str) -> None:
    statement = sql.SQL("delete from clerk.{} where {} = %s").format(sql.Identifier(table), sql.Identifier(key))
    assert rig.admin.execute(statement, [row_id]).rowcount == 1


def remove_organization(rig: Rig) -> str:
    org_id = next(iter(rig.world.organizations))
    remove(rig, "organizations", "clerk_org_id", org_id)
    return org_id


# An organization


@pytest.mark.parametrize("table", CHILDREN)
@pytest.mark.parametrize("state", ["known", "deleted", "restored"])
def test_an_event_of_an_organization_with_a_removed_row_makes_a_stub_of_it(rig: Rig, table: str, state: str) -> None:
    org_id = next(iter(rig.world.organizations))
    if state == "deleted":
        rig.store.apply([deleted("organization", org_id, at=now(rig))])
    if state == "restored":
        rig.admin.execute(
            "update clerk_sync.entities set deleted_at = %s, delete_run = 0 where id = %s", [rig.world.now, org_id]
        )
        rig.world.now += 600_000
        assert resync(rig, org_id).state == "complete"
        assert value(rig.admin, "select deleted_at from clerk_sync.entities where id = %s", org_id) is None
    remove_organization(rig)

    [answer] = rig.store.apply([CHILDREN[table](org_id, now(rig))])

    assert answer == "created"
    query = sql.SQL("select deleted_at is not null from clerk.{} where clerk_org_id = %s")
    for each in ("organizations", table):
        shown = rig.admin.execute(query.format(sql.Identifier(each)), [org_id]).fetchall()
        assert shown == [(state == "deleted",)], each


@pytest.mark.parametrize("mode", ["full", "quick"])
def test_the_next_comparison_fills_the_stub_of_an_organization_and_restores_its_members(rig: Rig, mode: str) -> None:
    org_id = remove_organization(rig)
    rig.store.apply([CHILDREN["organization_domains"](org_id, now(rig))])
    assert value(rig.admin, "select name from clerk.organizations") is None

    report = rig.run(mode)

    assert value(rig.admin, "select name from clerk.organizations") == "Acme"
    assert rig.agrees()
    found = rig.findings(report)[org_id]
    assert (found.cause, found.outcome) == ("somebody removed the row", "settled")


def test_an_event_of_a_purged_organization_whose_row_is_gone_writes_no_row(rig: Rig) -> None:
    org_id = remove_organization(rig)
    rig.admin.execute(
        "update clerk_sync.entities set deleted_at = 1, purged_at = now() where kind = 'organization' and id = %s",
        [org_id],
    )
    [answer] = rig.store.apply([CHILDREN["organization_invitations"](org_id, now(rig))])
    assert answer == "unchanged"
    assert value(rig.admin, "select count(*) from clerk.organizations") == 0


def test_events_of_one_batch_that_belong_to_the_same_removed_row_share_its_stub(rig: Rig) -> None:
    org_id = remove_organization(rig)
    batch = [child(org_id, now(rig)) for child in CHILDREN.values()]
    assert (
        rig.store.apply([*batch, membership("orgmem_2", at=now(rig), org_id=org_id, user_id=MEMBER)]) == ["created"] * 4
    )


# A user


def test_a_membership_of_a_user_with_a_removed_row_makes_a_stub_of_the_user(rig: Rig) -> None:
    org_id = next(iter(rig.world.organizations))
    remove(rig, "users", "clerk_id", OTHER)
    [answer] = rig.store.apply([membership("orgmem_new", at=now(rig), org_id=org_id, user_id=OTHER)])
    assert answer == "created"
    assert value(rig.admin, "select count(*) from clerk.users_public where clerk_id = %s", OTHER) == 1


@pytest.mark.parametrize("mode", ["full", "quick"])
def test_a_comparison_restores_a_removed_user_and_their_memberships(rig: Rig, mode: str) -> None:
    remove(rig, "users", "clerk_id", MEMBER)
    report = rig.run(mode)
    assert (report.state, rig.agrees()) == ("complete", True)
    assert {each.cause for each in rig.findings(report).values()} == {"somebody removed the row"}


@pytest.mark.parametrize("mode", ["full", "quick"])
def test_a_comparison_fills_the_stub_of_a_removed_user(rig: Rig, mode: str) -> None:
    org_id = next(iter(rig.world.organizations))
    email = rig.column(MEMBER, "email")
    remove(rig, "users", "clerk_id", MEMBER)
    [member] = rig.world.memberships
    rig.store.apply([membership(member, at=now(rig), org_id=org_id, user_id=MEMBER)])
    assert rig.column(MEMBER, "email") is None
    rig.run(mode)
    assert rig.column(MEMBER, "email") == email


def resync(rig: Rig, object_id: str) -> Report:
    """With the rights of the owner, as an operator has them."""
    rig.world.now += 1_000
    with closing(Store(Fixed(f"{rig.database.url}?sslmode=disable"))) as operator:
        direct = DirectRepairs()
        return Reconcile(rig.ours.http, Runs(operator), direct, rig.settings).resync(object_id, math.inf)


def test_a_resync_restores_a_removed_user_and_their_memberships(rig: Rig) -> None:
    remove(rig, "users", "clerk_id", MEMBER)
    report = resync(rig, MEMBER)
    assert (report.state, {each.done for each in report.objects}) == ("complete", {"created"})
    assert rig.agrees()


def test_a_resync_restores_a_removed_organization_and_its_memberships(rig: Rig) -> None:
    org_id = remove_organization(rig)
    report = resync(rig, org_id)
    assert (report.state, {each.done for each in report.objects}) == ("complete", {"created"})
    assert rig.agrees()
