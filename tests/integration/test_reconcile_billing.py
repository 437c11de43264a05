"""Subscriptions and their items: compared by every run, repaired by their payer, and never deleted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, LiteralString

import pytest

from clerk_supabase.clerk.api import Clerk
from clerk_supabase.reconcile.request import Mode
from clerk_supabase.telemetry import metrics
from clerk_supabase_cli.standin.billing.objects import attempt, feature
from clerk_supabase_cli.standin.faults import Fault, answering
from clerk_supabase_cli.standin.worlds import World
from tests.kit.aws import Account
from tests.kit.databases import rows, value
from tests.kit.reconciling import Queued, Rig, RigMaker

PAYERS = 40


def populate(world: World) -> None:
    organization = world.create_organization({"name": "Acme"})
    world.add_membership(organization["id"], next(iter(world.users)), role="org:admin")
    for _ in range(PAYERS):
        world.bill()


pytestmark = pytest.mark.mirror(12, populate)


@pytest.fixture
def rig(mirrored: RigMaker) -> Iterator[Rig]:
    with mirrored() as rig:
        yield rig


def in_tables(rig: Rig) -> set[tuple[str, ...]]:
    return {
        *rows(
            rig.admin,
            """
            select i.clerk_subscription_item_id, i.clerk_subscription_id, i.status, i.plan_name, s.status
            from clerk.subscription_items as i left join clerk.subscriptions as s using (clerk_subscription_id)
            """,
        )
    }


def in_clerk(rig: Rig) -> set[tuple[str, ...]]:
    billing = rig.world.billing
    return {
        (
            item["id"],
            item["subscription_id"],
            item["status"],
            item["plan"]["name"],
            billing.subscriptions[item["subscription_id"]]["status"],
        )
        for item in billing.items.values()
    }


def test_the_first_run_fills_subscriptions_with_their_items(rig: Rig) -> None:
    assert in_tables(rig) == in_clerk(rig)
    assert len(in_clerk(rig)) > len(rig.world.billing.subscriptions) > 5


@pytest.mark.parametrize("mode", ["full", "quick"])
def test_lost_events_and_edits_by_hand_are_repaired_by_reading_only_the_payers_that_differ(
    rig: Rig, mode: Mode
) -> None:
    edited, orphan, late = list(rig.world.billing.subscriptions)[:3]
    rig.admin.execute(
        "update clerk.subscription_items set status = 'by hand' where clerk_subscription_id = %s", [edited]
    )
    rig.admin.execute("delete from clerk.subscriptions where clerk_subscription_id = %s", [orphan])
    rig.admin.execute("update clerk.subscriptions set status = 'past_due' where clerk_subscription_id = %s", [late])
    report = rig.run(mode)
    assert (report.state, report.reason) == ("complete", None)
    assert sum(times for name, times in rig.api.counts.items() if name.endswith("/billing/subscription")) == 3
    assert in_tables(rig) == in_clerk(rig)


def test_a_missing_or_wrong_subscription_counts_as_drift_although_its_items_agree(rig: Rig) -> None:
    of_items: LiteralString = "select count(*) from clerk.subscription_items where clerk_subscription_id = any(%s)"
    lost, late = list(rig.world.billing.subscriptions)[:2]
    rig.admin.execute("delete from clerk.subscriptions where clerk_subscription_id = %s", [lost])
    rig.admin.execute("update clerk.subscriptions set status = 'past_due' where clerk_subscription_id = %s", [late])
    metrics.clear_metrics()
    report = rig.run()
    assert report.findings == value(rig.admin, of_items, [lost, late]) > 1
    assert metrics.serialize_metric_set()["Drift"] == [report.findings]  # type: ignore[typeddict-item]


def test_repairs_of_items_go_through_the_queue(rig: Rig, account: Account) -> None:
    queued = Queued(account, rig.store)
    while rig.world.events[-1]["type"] != "subscription.updated":
        rig.world.bill()
    assert rig.run(repairs=queued.repairs).state == "complete"
    assert queued.drain() > 0
    assert in_tables(rig) == in_clerk(rig)


@pytest.mark.parametrize("mode", ["full", "quick"])
def test_an_item_that_clerk_does_not_list_stays(rig: Rig, mode: Mode) -> None:
    del rig.world.billing.items[next(iter(rig.world.billing.items))]
    before = in_tables(rig)
    report = rig.run(mode)
    assert (report.state, report.findings) == ("complete", 0)
    assert in_tables(rig) == before


def test_only_the_code_of_a_missing_feature_says_that_billing_is_switched_off(rig: Rig) -> None:
    rig.api.answers.no_billing = (403, "feature_not_enabled")
    report = rig.run()
    assert report.state == "complete"
    assert "Billing is switched off" in str(report.reason)
    rig.api.answers.no_billing = (404, "resource_not_found")
    report = rig.run()
    assert report.state == "incomplete"
    assert "subscription items were not compared" in str(report.reason)
    assert value(rig.admin, "select count(*) from clerk.subscription_items where deleted_at is not null") == 0


def test_a_list_that_clerk_gives_newest_first_is_read_oldest_first_also_while_it_grows(rig: Rig) -> None:
    clerk = Clerk(rig.ours.http)
    oldest_first = sorted(rig.world.billing.items.values(), key=lambda each: (each["created_at"], each["id"]))
    ids = [each["id"] for each in oldest_first]
    newest = oldest_first[-1] | {"id": "subi_axnew", "created_at": rig.world.now}

    def grow() -> None:
        rig.world.billing.items[newest["id"]] = newest

    rig.api.faults.add(Fault(happening=grow), path="/billing/subscription_items", skip=1)
    assert [item.id for item in clerk.page_at("subscription_item", 0, 4).items] == ids[:4]
    assert newest["id"] in rig.world.billing.items
    assert [item.id for item in clerk.page_at("subscription_item", len(ids) - 1, 4).items] == [ids[-1], newest["id"]]
    assert clerk.page_at("subscription_item", len(ids) + 1, 4).items == []


@pytest.mark.parametrize("mode", ["full", "quick"])
def test_an_item_that_its_subscription_lacks_is_repaired_from_the_list(rig: Rig, mode: Mode) -> None:
    """Clerk does not document that a subscription of the Backend API holds the items of the past."""
    world = rig.world
    without = Fault(
        alter=lambda found: [json.dumps(json.loads(each) | {"subscription_items": []}).encode() for each in found]
    )
    for parent in (
        *(f"/users/{each}" for each in world.users),
        *(f"/organizations/{each}" for each in world.organizations),
    ):
        rig.api.faults.add(without, path=f"{parent}/billing/subscription", times=9)
    lost = list(world.billing.items)[:2]
    rig.admin.execute("delete from clerk.subscription_items where clerk_subscription_item_id = %s", [lost[0]])
    rig.admin.execute(
        "update clerk.subscription_items set status = 'x' where clerk_subscription_item_id = %s", [lost[1]]
    )
    report = rig.run(mode)
    assert (report.state, report.reason, report.findings) == ("complete", None, 2)
    assert in_tables(rig) == in_clerk(rig)


def test_an_item_of_a_payer_without_a_subscription_in_clerk_is_repaired_from_the_list(rig: Rig) -> None:
    rig.admin.execute("update clerk.subscription_items set status = 'x' where clerk_user_id is not null")
    gone = answering(404, code="resource_not_found")
    for user_id in rig.world.users:
        rig.api.faults.add(gone, path=f"/users/{user_id}/billing/subscription", times=9)
    assert rig.run().state == "complete"
    assert in_tables(rig) == in_clerk(rig)


def test_an_item_whose_payer_clerk_does_not_name_is_unusable_and_not_repaired_from_the_list(rig: Rig) -> None:
    lost = next(iter(rig.world.billing.items))
    rig.admin.execute("delete from clerk.subscription_items where clerk_subscription_item_id = %s", [lost])
    nameless = Fault(
        alter=lambda found: [json.dumps(json.loads(each) | {"payer": None}).encode() for each in found],
    )
    rig.api.faults.add(nameless, path="/billing/subscription_items", times=9)
    report = rig.run()
    counted = report.counts["subscription_item"]
    # Counted once: as the object of a list that names no payer, and not as a repair that the database refused.
    assert (counted["missing"], counted["unusable"], counted.get("refused", 0)) == (1, 1, 0)
    here = "select clerk_user_id, clerk_org_id from clerk.subscription_items where clerk_subscription_item_id = %s"
    assert rows(rig.admin, here, lost) == []


# Plans, of which Clerk sends no event


def features_here(rig: Rig) -> list[tuple[str, list[str]]]:
    return rows(rig.admin, "select clerk_plan_id, features from clerk.plans where deleted_at is null order by 1")


def features_in_clerk(rig: Rig) -> list[tuple[str, list[str]]]:
    plans = rig.world.others["plan"].items()
    return sorted((key, sorted(feature["slug"] for feature in plan["features"])) for key, plan in plans)


@pytest.mark.parametrize("mode", ["full", "quick"])
def test_each_run_compares_all_plans_and_an_unchanged_plan_is_not_written_again(rig: Rig, mode: Mode) -> None:
    versions = "select id, version::text from clerk_sync.entities where kind = 'plan'"
    before = rows(rig.admin, versions)
    assert features_here(rig) == features_in_clerk(rig)
    assert len(before) == 4
    plans = rig.world.others["plan"]
    changed, bare, gone, left = plans
    # A plan that lost all its features; Clerk does not document that it names the empty list.
    plans[bare] = {name: each for name, each in plans[bare].items() if name != "features"}
    plans[changed] = plans[changed] | {"features": [feature("search"), feature("audit")]}
    plans["cplan_new"] = plans[changed] | {"id": "cplan_new"}
    del plans[gone]
    report = rig.run(mode)
    assert (report.state, report.reason) == ("complete", None)
    plans[bare]["features"] = []
    assert features_here(rig) == features_in_clerk(rig)
    assert [each for each in before if each[0] == left] == rows(rig.admin, f"{versions} and id = %s", left)


def test_a_quick_run_compares_all_plans_of_a_list_of_several_pages(rig: Rig) -> None:
    """Clerk tells no times of a plan: no part of the list can be called new, or is compared by a later run."""
    plans = rig.world.others["plan"]
    some = next(iter(plans.values()))
    plans |= {f"cplan_{n}": some | {"id": f"cplan_{n}", "slug": f"plan_{n}"} for n in range(1_100)}
    report = rig.run("quick")
    assert (report.state, report.reason) == ("complete", None)
    assert features_here(rig) == features_in_clerk(rig)
    assert len(features_here(rig)) == 1_104
    # Of the first page, of the middle, and of the last.
    for changed in [list(plans)[n] for n in (0, 600, -1)]:
        plans[changed] = plans[changed] | {"features": [feature("search")]}
    del plans["cplan_42"]
    report = rig.run("quick")
    assert (report.state, report.reason) == ("complete", None)
    assert features_here(rig) == features_in_clerk(rig)


def test_a_plan_that_clerk_lists_again_is_there_again(rig: Rig) -> None:
    plan_id, plan = rig.world.others["plan"].popitem()
    rig.run()
    rig.world.now += 600_000
    assert plan_id not in dict(features_here(rig))
    rig.world.others["plan"][plan_id] = plan
    assert rig.run().state == "complete"
    assert features_here(rig) == features_in_clerk(rig)


# Payment attempts, which Clerk lists inside billing statements only

ATTEMPTS = "select clerk_payment_attempt_id, status, amount, statement_id from clerk.payment_attempts"


def attempts_in_clerk(rig: Rig) -> set[tuple[object, ...]]:
    return {
        (each["id"], each["status"], each["totals"]["grand_total"]["amount"], each["statement_id"])
        for each in rig.world.billing.attempts.values()
    }


def requests_for_statements(rig: Rig) -> int:
    return sum(times for path, times in rig.api.counts.items() if path.endswith("/billing/statements"))


def test_the_first_run_fills_payment_attempts(rig: Rig) -> None:
    assert {*rows(rig.admin, ATTEMPTS)} == attempts_in_clerk(rig)
    assert len(attempts_in_clerk(rig)) > 3


@pytest.mark.parametrize("mode", ["full", "quick"])
def test_lost_and_edited_payment_attempts_are_repaired(rig: Rig, mode: Mode) -> None:
    lost, edited = list(rig.world.billing.attempts)[:2]
    rig.admin.execute("delete from clerk.payment_attempts where clerk_payment_attempt_id = %s", [lost])
    rig.admin.execute(
        "update clerk.payment_attempts set status = 'by hand' where clerk_payment_attempt_id = %s", [edited]
    )
    report = rig.run(mode)
    assert (report.state, report.reason) == ("complete", None)
    assert report.counts["payment_attempt"]["repaired"] == 2
    assert {*rows(rig.admin, ATTEMPTS)} == attempts_in_clerk(rig)


@pytest.mark.parametrize("mode", ["full", "quick"])
def test_a_payment_attempt_that_no_statement_holds_stays(rig: Rig, mode: Mode) -> None:
    rig.world.billing.attempts.clear()
    before = rows(rig.admin, ATTEMPTS)
    report = rig.run(mode)
    assert (report.state, report.findings) == ("complete", 0)
    assert rows(rig.admin, ATTEMPTS) == before != []


def test_a_full_run_reads_all_statements_and_a_quick_run_the_newest_page(rig: Rig) -> None:
    payer, items = next(iter(rig.world.billing.attempts.values()))["payer"], [*rig.world.billing.items.values()][:1]
    for number in range(600):
        made: dict[str, Any] = {"created_at": 1 + number, "updated_at": 1 + number, "statement_id": f"stmt_{number}"}
        rig.world.billing.attempts[f"cpa_old{number}"] = attempt(f"cpa_old{number}", payer, items, **made)
    before = requests_for_statements(rig)
    assert rig.run("quick").state == "complete"
    assert requests_for_statements(rig) == before + 1
    assert {*rows(rig.admin, ATTEMPTS)} < attempts_in_clerk(rig)
    report = rig.run()
    assert (report.state, requests_for_statements(rig)) == ("complete", before + 3)
    assert {*rows(rig.admin, ATTEMPTS)} == attempts_in_clerk(rig)


def test_what_only_webhooks_tell_of_a_payment_attempt_outlives_a_comparison(rig: Rig) -> None:
    columns = "select subtotal, tax, billing_date, subscription_item_ids, failure_code from clerk.payment_attempts"
    rig.admin.execute(
        "update clerk.payment_attempts set subtotal = 7, tax = 1, billing_date = '2026-01-01', "
        "failure_code = 'declined', subscription_item_ids = '{subi_1,subi_2}'"
    )
    before = rows(rig.admin, columns)
    assert rig.run().findings == 0
    rig.admin.execute("update clerk.payment_attempts set status = 'by hand'")
    report = rig.run()
    assert report.counts["payment_attempt"]["repaired"] == len(before)
    assert rows(rig.admin, columns) == before


@pytest.mark.parametrize("groups", [None, [{}], "none"])
def test_a_statement_without_readable_attempts_leaves_a_run_incomplete(rig: Rig, groups: object) -> None:
    broken = Fault(alter=lambda found: [json.dumps(json.loads(each) | {"groups": groups}).encode() for each in found])
    rig.api.faults.add(broken, path="/billing/statements")
    before = rows(rig.admin, ATTEMPTS)
    report = rig.run()
    assert report.state == "incomplete"
    assert "payment attempts" in str(report.reason)
    assert rows(rig.admin, ATTEMPTS) == before


def test_refused_statements_leave_a_run_incomplete_and_all_else_compared(rig: Rig) -> None:
    rig.api.faults.add(answering(404, code="resource_not_found"), path="/billing/statements", times=10)
    report = rig.run()
    assert report.state == "incomplete"
    assert "payment attempts were not compared" in str(report.reason)
    assert report.counts["subscription_item"]["compared"] > 0
