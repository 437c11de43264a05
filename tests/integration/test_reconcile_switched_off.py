"""Features that are switched off in Clerk: a run is complete only if all answers of Clerk agree about that."""

from __future__ import annotations

import math
from contextlib import closing

import pytest

from clerk_supabase.credentials import Fixed
from clerk_supabase.model.facts import Kind
from clerk_supabase.model.found_kinds import FACTS, KIND_NAMES
from clerk_supabase.postgres.store import Store
from clerk_supabase.reconcile.corrections.repairs import DirectRepairs
from clerk_supabase.reconcile.run import Reconcile
from clerk_supabase.reconcile.runs import Runs
from clerk_supabase_cli.standin.faults import answering
from tests.kit.databases import rows, tables
from tests.kit.every_list import PATHS, fill_every_list
from tests.kit.reconciling import Rig

pytestmark = pytest.mark.mirror(6, fill_every_list)
"""Objects of every list, all of them mirrored."""

NO_ORGANIZATIONS = answering(403, code="organization_not_enabled_in_instance")
NO_DOMAINS = answering(403, code="organization_domains_not_enabled")
NO_BILLING = answering(403, code="feature_not_enabled")
BILLING = [kind for kind, path in PATHS.items() if path.startswith("/billing/")]

both_modes = pytest.mark.parametrize("mode", ["full", "quick"])


def switched_off(rig: Rig) -> set[Kind]:
    return {kind for (kind,) in rows(rig.admin, "select kind from clerk_sync.compared_until() where is_switched_off")}


@both_modes
@pytest.mark.parametrize("kind", [kind for kind in PATHS if kind not in ("user", "organization")])
def test_a_list_that_lacks_organizations_while_clerk_lists_them_leaves_a_run_incomplete(
    rig: Rig, mode: str, kind: Kind
) -> None:
    before = tables(rig.admin)
    rig.api.faults.add(NO_ORGANIZATIONS, path=PATHS[kind], times=100)
    report = rig.run(mode)
    assert report.state == "incomplete"
    assert report.reason == (
        f"{KIND_NAMES[kind]} were not compared (GET {PATHS[kind]}: Clerk answered 403 "
        "(organization_not_enabled_in_instance): organizations are switched off in Clerk's dashboard; "
        "other answers of Clerk contradict that)" + (f": no {kind} is deleted" if FACTS[kind].list_path else "")
    )
    assert switched_off(rig) == set()
    assert tables(rig.admin) == before
    rig.api.faults.clear()
    assert rig.run(mode).reason is None


def test_organizations_that_are_switched_off_after_their_first_page_leave_a_run_incomplete(rig: Rig) -> None:
    for _ in range(500):
        rig.world.create_organization({})
    rig.api.faults.add(NO_ORGANIZATIONS, path="/organizations", having="offset", skip=1, times=100)
    report = rig.run()
    assert report.state == "incomplete"
    assert "organizations were not compared (GET /organizations: Clerk answered 403" in str(report.reason)
    assert "other answers of Clerk contradict that)" in str(report.reason)
    assert report.counts["membership"]["compared"] == 6
    assert switched_off(rig) == set()


@both_modes
def test_a_payer_that_lacks_organizations_while_clerk_lists_them_leaves_a_run_incomplete(rig: Rig, mode: str) -> None:
    [organization] = rig.world.organizations
    rig.admin.execute("update clerk.subscription_items set status = 'by hand' where clerk_org_id is not null")
    rig.api.faults.add(NO_ORGANIZATIONS, path=f"/organizations/{organization}/billing/subscription", times=100)
    report = rig.run(mode)
    assert report.state == "incomplete"
    assert f"subscription items were not compared (GET /organizations/{organization}/" in str(report.reason)


@pytest.mark.parametrize("is_organization", [False, True])
def test_resync_believes_that_there_are_no_organizations_only_if_their_list_says_so(
    rig: Rig, is_organization: bool
) -> None:
    object_id = next(iter(rig.world.organizations if is_organization else rig.world.users))
    of_parent = f"/organizations/{object_id}/" if is_organization else f"/users/{object_id}/organization_"
    path = f"{of_parent}memberships"
    rig.api.faults.add(NO_ORGANIZATIONS, path=path)
    with closing(Store(Fixed(f"{rig.database.url}?sslmode=disable"))) as operator:
        reconcile = Reconcile(rig.ours.http, Runs(operator), DirectRepairs(), rig.settings, monotonic=rig.ours.clock)
        report = reconcile.resync(object_id, math.inf)
    assert report.state == "incomplete"
    assert f"not every membership was compared (GET {path}: Clerk answered 403" in str(report.reason)


@both_modes
def test_only_the_list_of_domains_says_that_domains_are_switched_off(rig: Rig, mode: str) -> None:
    rig.api.faults.add(NO_DOMAINS, path="/organization_memberships", times=100)
    report = rig.run(mode)
    assert (report.state, switched_off(rig)) == ("incomplete", set())
    assert "memberships were not compared (GET /organization_memberships: Clerk answered 403" in str(report.reason)


@both_modes
@pytest.mark.parametrize("kind", BILLING)
def test_a_list_that_lacks_billing_while_clerk_gives_another_one_leaves_a_run_incomplete(
    rig: Rig, mode: str, kind: Kind
) -> None:
    rig.api.faults.add(NO_BILLING, path=PATHS[kind], times=100)
    report = rig.run(mode)
    assert (report.state, switched_off(rig)) == ("incomplete", set())
    assert f"{KIND_NAMES[kind]} were not compared (GET {PATHS[kind]}: Clerk answered 403" in str(report.reason)


@both_modes
def test_billing_that_every_list_calls_switched_off_leaves_a_run_complete(rig: Rig, mode: str) -> None:
    rig.api.answers.no_billing = (403, "feature_not_enabled")
    report = rig.run(mode)
    assert report.state == "complete"
    assert report.reason == (
        "Billing is switched off in Clerk: plans, subscriptions, their items and payment attempts were not compared"
    )
    assert switched_off(rig) == {kind for kind in BILLING if FACTS[kind].list_path}
