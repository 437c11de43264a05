"""Deletes of reconcile: none without proof, none against the brake, and each can be undone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from clerk_supabase.model.changes import Delete
from clerk_supabase.reconcile.drift import Brake
from clerk_supabase_cli.operate.reconcile_report import what_was_done
from clerk_supabase_cli.standin.faults import (
    Fault,
    answering,
    called_deleted,
    deleted_with_200,
    firewall,
    no_elements,
    without_date,
    without_every,
)
from clerk_supabase_cli.standin.worlds import World
from tests.kit.databases import rows, tables, value
from tests.kit.histories import alone
from tests.kit.reconciling import MINUTE, Rig, user


def found_organizations(world: World) -> None:
    for _ in range(3):
        organization = world.create_organization({})
        for number in (1, 2, 3):
            world.add_membership(organization["id"], user(number), role="org:member")


pytestmark = pytest.mark.mirror(1_201, found_organizations)
"""1,201 users, three organizations with three members each, all of them mirrored."""


def test_a_user_is_deleted_after_clerk_said_by_id_that_the_user_is_gone(rig: Rig) -> None:
    rig.world.remove_user(user(6))
    rig.api.requests.clear()
    report = rig.run()
    assert (report.state, report.counts["user"]["deleted"]) == ("complete", 1)
    assert f"/users/{user(6)}" in [request.path for request in rig.api.requests]
    assert rig.agrees()
    assert value(rig.admin, "select cause from clerk_sync.audit_log where entity_id = %s and operation = 'update'",
        user(6)) == "reconcile"  # fmt: skip


def leaving_out(user_id: str) -> Fault:
    """A valid answer without this user."""
    return Fault(alter=lambda elements: [each for each in elements if user_id.encode() not in each])


def test_a_user_missing_from_a_list_is_kept_because_clerk_has_them_by_id(rig: Rig) -> None:
    # Of the last page, so that the list does not end there; and the counts agree with it.
    rig.api.faults.add(leaving_out(user(1_100)), path="/users", skip=2)
    rig.api.faults.add(Fault(body=b'{"object":"total_count","total_count":1200}'), path="/users/count", times=2)
    report = rig.run()
    assert (report.state, report.findings) == ("incomplete", 0)
    assert report.reason == "Clerk has users that it did not list: 1"
    assert rig.agrees()


def test_a_list_by_id_that_is_too_short_deletes_nobody(rig: Rig) -> None:
    rig.world.remove_user(user(1_150))
    rig.api.faults.add(leaving_out(user(1_100)), path="/users", skip=2, times=2)
    rig.api.faults.add(Fault(body=b'{"object":"total_count","total_count":1199}'), path="/users/count", times=2)
    report = rig.run()
    assert (report.state, report.counts["user"]["deleted"]) == ("incomplete", 1)
    assert rig.agrees()


def test_a_user_created_after_the_start_of_a_run_is_no_candidate_for_a_delete(rig: Rig) -> None:
    def live() -> None:
        rig.world.now += 5_000
        rig.world.create_user({})

    rig.api.faults.add(Fault(happening=live), path="/users/count")
    assert rig.run().state == "complete"
    assert rig.agrees()


@pytest.mark.parametrize("fault", [answering(404, code="not_found"), answering(403)])
def test_an_answer_that_is_no_proof_deletes_nobody(rig: Rig, fault: Fault) -> None:
    rig.world.remove_user(user(6))
    rig.api.faults.add(fault, path=f"/users/{user(6)}")
    report = rig.run()
    assert report.state == "incomplete"
    assert f"GET /users/{user(6)}: Clerk answered" in str(report.reason)
    assert "no user is deleted" in str(report.reason)
    assert user(6) in rig.shown()


# The brake


def test_more_deletes_than_the_brake_allows_are_not_begun(rig: Rig) -> None:
    before = tables(rig.admin)
    for number in range(100, 113):
        rig.world.remove_user(user(number))
    report = rig.run()
    assert report.state == "stopped"
    assert report.reason == (
        "more than 12 of 1,201 users are gone from Clerk: check whether that is right, then allow so many deletes"
    )
    assert tables(rig.admin) == before
    allowed = rig.run(allow_deletes=13)
    assert (allowed.state, allowed.counts["user"]["deleted"]) == ("complete", 13)
    assert rig.agrees()


def test_as_many_as_the_brake_allows_are_deleted(rig: Rig) -> None:
    for number in range(100, 112):
        rig.world.remove_user(user(number))
    assert rig.run().state == "complete"
    assert rig.agrees()


def test_the_brake_of_one_kind_holds_the_deletes_of_all(rig: Rig) -> None:
    organization = rig.world.create_organization({})
    for number in range(200, 230):
        rig.world.add_membership(organization["id"], user(number), role="org:member")
    assert rig.run().state == "complete"
    rig.world.remove_user(user(100))
    for membership_id in [key for key, each in rig.world.memberships.items() if each["organization"] == organization]:
        rig.world.remove_membership(membership_id)
    report = rig.run()
    assert report.state == "stopped"
    assert "memberships are gone" in str(report.reason)
    assert user(100) in rig.shown()


def test_an_instance_that_seems_empty_deletes_nothing(rig: Rig) -> None:
    for path in ("/users", "/organizations", "/organization_memberships"):
        rig.api.faults.add(without_every(1), path=path, times=1_000)
    rig.api.faults.add(Fault(body=b'{"object":"total_count","total_count":0}'), path="/users/count", times=2)
    report = rig.run()
    assert report.state in ("stopped", "incomplete")
    assert len(rig.shown()) == 1_201


# Organizations and memberships


def test_organizations_and_memberships_are_compared_and_repaired_too(rig: Rig) -> None:
    [first, second, third] = list(rig.world.organizations)
    memberships = list(rig.world.memberships)
    rig.world.now += 5_000
    rig.world.update("organization", first, {"name": "Newer"})
    rig.world.remove_organization(second)
    rig.world.remove_membership(memberships[0])
    rig.admin.execute("update clerk.organization_memberships set role = 'org:admin' where clerk_membership_id = %s",
        [memberships[1]])  # fmt: skip
    rig.forget(third)
    report = rig.run()
    assert (report.state, report.reason) == ("complete", None)
    found = rig.findings(report)
    assert (found[first].difference, found[second].difference) == ("stale", "extra")
    assert (found[memberships[0]].difference, found[memberships[1]].difference) == ("extra", "different")
    assert rig.agrees()
    assert rig.run().findings == 0


def test_one_false_404_of_an_organization_with_sixty_members_hides_none_of_them(rig: Rig) -> None:
    organization = rig.world.create_organization({})
    for number in range(200, 260):
        rig.world.add_membership(organization["id"], user(number), role="org:member")
    assert rig.run().state == "complete"
    before = tables(rig.admin)
    rig.world.remove_organization(organization["id"])
    report = rig.run()
    assert report.state == "stopped"
    assert report.reason == (
        "1 organization gone from Clerk would hide 61 rows (1 organization, 60 memberships), and 10 may go at once: "
        "check whether that is right, then allow so many deletes"
    )
    assert tables(rig.admin) == before
    allowed = rig.run(allow_deletes=61)
    assert (allowed.state, allowed.counts["organization"]["deleted"]) == ("complete", 1)
    assert rig.agrees()


def test_users_weigh_as_much_as_the_memberships_that_go_with_them(rig: Rig) -> None:
    organization = rig.world.create_organization({})
    for number in (100, 101, 102, 103):
        for other in [*list(rig.world.organizations)[:2], organization["id"]]:
            rig.world.add_membership(other, user(number), role="org:member")
    assert rig.run().state == "complete"
    for number in (100, 101, 102):
        rig.world.remove_user(user(number))
    assert rig.run().state == "complete"
    rig.world.remove_user(user(103))
    for number in range(300, 309):
        rig.world.remove_user(user(number))
    report = rig.run()
    assert "10 users gone from Clerk would hide 13 rows (10 users, 3 memberships), and 11" in str(report.reason)
    assert user(103) in rig.shown()


def test_rows_that_go_with_several_objects_count_once_for_their_own_kind(rig: Rig) -> None:
    organization = rig.world.create_organization({})
    for number in range(100, 105):
        rig.world.add_membership(organization["id"], user(number), role="org:member")
    assert rig.run().state == "complete"
    for number in range(100, 105):
        rig.world.remove_user(user(number))
    rig.world.remove_organization(organization["id"])
    assert rig.run().state == "complete"
    assert rig.agrees()


def test_members_hidden_with_their_organization_or_user_are_reported_as_such(rig: Rig) -> None:
    [_, member, with_user, *_] = list(rig.world.memberships)
    organization = rig.world.memberships[member]["organization"]["id"]
    in_it = {key for key, each in rig.world.memberships.items() if each["organization"]["id"] == organization}
    assert with_user in in_it
    other = next(key for key in rig.world.memberships if key not in in_it)
    member_of_other = rig.world.memberships[other]["public_user_data"]["user_id"]
    rig.world.remove_organization(organization)
    rig.world.remove_user(member_of_other)
    report = rig.run()
    outcomes = {key: each.outcome for key, each in rig.findings(report).items()}
    assert {outcomes[key] for key in in_it} == {"hidden with its organization"}
    assert outcomes[other] == "hidden with its user"
    assert outcomes[organization] == outcomes[member_of_other] == "settled"
    rig.undo(report)
    assert rig.findings(report)[member].outcome == "not sent"


def test_a_delete_that_waits_for_its_second_proof_is_reported_as_such(rig: Rig) -> None:
    rig.settings = replace(rig.settings, delete_margin_ms=5 * MINUTE)
    rig.world.now += 10 * MINUTE
    rig.world.remove_user(user(6))
    dry = rig.run(dry_run=True)
    assert rig.findings(dry)[user(6)].outcome == "not sent"
    first = rig.run()
    [finding] = rig.findings(first).values()
    assert (finding.action, finding.sent_at, finding.outcome) == ("delete", None, "waiting for proof")
    assert what_was_done(finding) == "delete waits for its second proof, by a later run"
    assert rig.findings(dry)[user(6)].outcome == "not sent"
    rig.world.now += 6 * MINUTE
    second = rig.run()
    assert rig.findings(second)[user(6)].outcome == rig.findings(first)[user(6)].outcome == "settled"


def test_a_member_who_left_and_joined_again_keeps_the_new_membership(rig: Rig) -> None:
    [old, *_] = list(rig.world.memberships)
    org_id, user_id = (rig.world.memberships[old][key] for key in ("organization", "public_user_data"))
    rig.world.remove_membership(old)
    rig.world.now += 1_000
    new = rig.world.add_membership(org_id["id"], user_id["user_id"], role="org:admin")
    assert rig.run().state == "complete"
    assert rig.agrees()
    assert new["id"] in rig.shown("organization_memberships", "clerk_membership_id")


def test_half_a_list_of_memberships_deletes_none_and_the_run_says_why(rig: Rig) -> None:
    rig.world.remove_membership(next(iter(rig.world.memberships)))
    rig.api.faults.add(without_every(2), path="/organization_memberships")
    report = rig.run()
    assert report.state == "incomplete"
    assert report.reason == "Clerk listed 4 memberships, but says there are 8: no membership is deleted"
    assert len(rig.shown("organization_memberships", "clerk_membership_id")) == 9


def test_one_more_user_than_may_go_is_asked_for_and_no_other(rig: Rig) -> None:
    for number in range(150):
        rig.world.remove_user(user(number))
    rig.api.requests.clear()
    assert rig.run(allow_deletes=110).state == "stopped"
    assert len({request.path for request in rig.api.requests if request.path.startswith("/users/user_")}) == 111


def test_an_instance_without_organizations_is_compared_all_the_same(rig: Rig) -> None:
    rig.api.answers.no_organizations = (403, "organization_not_enabled_in_instance")
    rig.world.remove_user(user(6))
    report = rig.run()
    assert report.state == "complete"
    assert report.reason == "organizations are switched off in Clerk: organizations and their objects were not compared"
    assert user(6) not in rig.shown()
    off = rows(
        rig.admin, "select is_switched_off from clerk_sync.compared_until() where kind in ('user', 'membership')"
    )
    assert sorted(off) == [(False,), (True,)]
    assert len(rig.shown("organizations", "clerk_org_id")) == 3
    assert rig.run("quick").state == "complete"


@pytest.mark.each_value("fault", "said", "mode")
@pytest.mark.parametrize("mode", ["full", "quick"])
@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (answering(402, code="unsupported_subscription_plan_features"), "_plan_features): the plan of the instance at"),
        (answering(403, code="forbidden"), "403 (forbidden)"),
        (firewall(), "403, and not in Clerk's format"),
        (answering(404, code="not_found"), "404 (not_found)"),
    ],
)
def test_any_other_refusal_of_organizations_is_reported_and_users_are_still_compared(
    rig: Rig, mode: str, fault: Fault, said: str
) -> None:
    rig.world.remove_user(user(6))
    rig.api.faults.add(fault, path="/organizations")
    rig.api.faults.add(fault, path="/organization_memberships")
    report = rig.run(mode)
    assert report.state == "incomplete"
    for kind in ("organization", "membership"):
        assert f"{kind}s were not compared (GET /organization" in str(report.reason)
        assert f"no {kind} is deleted" in str(report.reason)
    assert said in str(report.reason)
    assert user(6) not in rig.shown()


@pytest.mark.parametrize("fault", [answering(403), firewall()])
def test_a_refusal_of_the_memberships_of_a_user_deletes_none_of_them(rig: Rig, fault: Fault) -> None:
    [gone, *_] = rig.world.memberships.values()
    rig.world.remove_membership(gone["id"])
    user_id = gone["public_user_data"]["user_id"]
    rig.api.faults.add(fault, path=f"/users/{user_id}/organization_memberships")
    assert rig.run().state == "incomplete"
    assert gone["id"] in rig.shown("organization_memberships", "clerk_membership_id")


@pytest.mark.parametrize("path", ["/organizations", "/organization_memberships"])
def test_a_list_of_nothing_that_answers_by_id_contradict_is_no_complete_run(rig: Rig, path: str) -> None:
    rig.api.faults.add(Fault(body=b'{"data":[],"total_count":0}'), path=path)
    report = rig.run()
    assert report.state == "incomplete"
    assert "that it did not list" in str(report.reason)
    assert rig.agrees()


def test_no_users_at_all_where_answers_by_id_contradict_are_no_complete_run(rig: Rig) -> None:
    rig.api.faults.add(no_elements(), path="/users", times=100, without="user_id")
    rig.api.faults.add(Fault(body=b'{"object":"total_count","total_count":0}'), path="/users/count", times=100)
    report = rig.run()
    assert report.state == "incomplete"
    assert report.reason == "Clerk has users that it did not list: 1,201"
    assert rig.agrees()


def test_a_user_whom_clerk_answers_as_deleted_with_200_is_neither_deleted_nor_passed_over(rig: Rig) -> None:
    rig.world.remove_user(user(6))
    rig.api.faults.add(deleted_with_200("user", user(6)), path=f"/users/{user(6)}")
    report = rig.run()
    assert report.state == "incomplete"
    assert f"Clerk answered 200 for {user(6)}, and calls it deleted" in str(report.reason)
    assert user(6) in rig.shown()
    assert rig.run().state == "complete"
    assert user(6) not in rig.shown()


def test_a_list_that_calls_a_user_deleted_is_not_relied_on(rig: Rig) -> None:
    rig.api.faults.add(called_deleted(user(6)), path="/users", times=3)
    report = rig.run()
    assert report.state == "incomplete"
    assert "called deleted" in str(report.reason)
    assert rig.agrees()


def test_a_404_without_a_date_deletes_nobody_and_the_run_says_so(rig: Rig) -> None:
    rig.world.remove_user(user(6))
    rig.api.faults.add(without_date(), path=f"/users/{user(6)}")
    report = rig.run()
    assert report.state == "incomplete"
    assert report.reason == "Clerk did not say when users were gone: 1"
    assert user(6) in rig.shown()


# Undo


def test_undo_restores_the_deletes_of_a_run_with_everything_that_was_hidden_with_them(rig: Rig) -> None:
    before = tables(rig.admin)
    rig.world.remove_user(user(1))
    rig.world.remove_organization(next(iter(rig.world.organizations)))
    report = rig.run()
    assert tables(rig.admin) != before
    assert {kind for kind, _ in rig.undo(report)} == {"user", "organization"}
    after = tables(rig.admin)
    for name in ("users", "users_public", "organizations", "memberships"):
        assert after[name] == before[name], name
    assert [each[3] for each in after["entities"]] == [None] * len(after["entities"])
    assert rig.undo(report) == []
    assert value(rig.admin, "select count(*) from clerk_sync.audit_log where cause = 'operator'") == 2


def test_after_an_undo_the_next_run_deletes_again_unless_deletes_are_forbidden(rig: Rig) -> None:
    rig.world.remove_user(user(7))
    rig.undo(rig.run())
    assert user(7) in rig.shown()
    allowing, rig.settings = rig.settings, replace(rig.settings, brake=Brake(rows=0, percent=0))
    rig.forget(user(3))
    report = rig.run()
    assert report.state == "stopped"
    assert {user(3), user(7)} <= rig.shown()
    rig.settings = allowing
    assert rig.run().state == "complete"
    assert user(7) not in rig.shown()


def test_undo_leaves_deletes_of_others(rig: Rig) -> None:
    rig.world.remove_user(user(1))
    rig.world.remove_user(user(5))
    deleted_at = rig.world.now
    rig.world.now += MINUTE
    report = rig.run()
    # The webhook was only late.
    rig.store.apply(alone(Delete("user", user(5), deleted_at)))
    assert rig.undo(report) == [("user", user(1))]
    assert user(5) not in rig.shown()


def test_undo_shows_no_row_of_which_a_parent_is_still_deleted(rig: Rig) -> None:
    organization = next(iter(rig.world.organizations))
    rig.world.remove_user(user(1))
    report = rig.run()
    rig.store.apply(alone(Delete("organization", organization, rig.world.now)))
    rig.undo(report)
    shown = rows(
        rig.admin,
        "select clerk_org_id from clerk.organization_memberships where clerk_user_id = %s and deleted_at is null",
        user(1),
    )
    assert len(shown) == 2
    assert (organization,) not in shown


def test_undo_does_not_restore_purged_data(rig: Rig) -> None:
    rig.world.remove_user(user(6))
    report = rig.run()
    rig.admin.execute("update clerk_sync.entities set purged_at = now() where id = %s", [user(6)])
    assert rig.undo(report) == []
    assert user(6) not in rig.shown()


# Failures during a run


@pytest.mark.parametrize("function", ["settle_findings", "delete_candidates", "find_unseen", "end_run"])
def test_a_run_killed_among_its_deletes_is_continued_and_deletes_the_rest(rig: Rig, function: str) -> None:
    rig.world.remove_user(user(6))
    rig.world.remove_user(user(7))
    rig.die_at(function)
    report = rig.run()
    assert (report.state, report.is_resumed) == ("complete", True)
    assert report.counts["user"]["deleted"] == 2
    assert rig.agrees()


def test_a_continued_run_asks_nothing_more_about_what_it_deleted(rig: Rig) -> None:
    rig.world.remove_user(user(6))
    rig.die_at("end_run")
    assert user(6) not in rig.shown()
    rig.api.requests.clear()
    report = rig.run()
    assert (report.state, report.is_resumed, report.counts["user"]["deleted"]) == ("complete", True, 1)
    assert f"/users/{user(6)}" not in [request.path for request in rig.api.requests]
