"""Invitations and domains: compared by every run, deleted only with proof, and expired when their time is over."""

from __future__ import annotations

import json
from typing import Any

import pytest

from clerk_supabase.model.changes import Delivery, changes_of
from clerk_supabase.model.events import parse_event
from clerk_supabase_cli.standin.faults import Fault, no_elements
from clerk_supabase_cli.standin.samples import Json
from clerk_supabase_cli.standin.worlds import World
from tests.kit.aws import Account
from tests.kit.databases import Databases, rows, value
from tests.kit.reconciling import MINUTE, Queued, Rig, mirror

DAY = 24 * 60 * MINUTE


def populate(world: World) -> None:
    world.create_organization({})
    for _ in range(3):
        world.invite()
        world.add_domain()


pytestmark = pytest.mark.mirror(3, populate)
"""An organization with three invitations and three domains, all of them mirrored."""


def shown(rig: Rig) -> tuple[set[str], set[str]]:
    return (
        rig.shown("organization_invitations", "clerk_invitation_id"),
        rig.shown("organization_domains", "clerk_domain_id"),
    )


def in_clerk(rig: Rig) -> tuple[set[str], set[str]]:
    return set(rig.world.invitations), set(rig.world.domains)


def invitation(rig: Rig, invitation_id: str, column: str = "status") -> Any:
    [(row,)] = rows(
        rig.admin,
        "select to_jsonb(i) from clerk.organization_invitations as i where clerk_invitation_id = %s",
        invitation_id,
    )
    return row[column]


def deliver(rig: Rig, event: Json, svix_id: str) -> None:
    parsed = parse_event(json.dumps(event).encode())
    rig.store.apply([(changes_of(parsed, rig.world.now), Delivery(svix_id, parsed.type, rig.world.now))])


def answer(rig: Rig, status: str, **fields: Any) -> str:
    """Somebody answers the first invitation, which no webhook tells."""
    first = next(iter(rig.world.invitations))
    rig.world.now += MINUTE
    rig.world.invitations[first] |= {"status": status, "updated_at": rig.world.now} | fields
    return first


# Compared


def test_the_first_run_fills_invitations_and_domains(rig: Rig) -> None:
    assert shown(rig) == in_clerk(rig)
    assert len(rig.world.domains) == 3


@pytest.mark.parametrize("mode", ["full", "quick"])
def test_lost_events_about_invitations_and_domains_are_repaired(rig: Rig, mode: str) -> None:
    revoked = answer(rig, "revoked")
    rig.world.invite()
    rig.world.add_domain()
    rig.world.verify_domain()
    gone = list(rig.world.domains)[1]
    del rig.world.domains[gone]
    report = rig.run(mode)
    assert report.state == "complete"
    assert shown(rig) == in_clerk(rig)
    assert invitation(rig, revoked) == "revoked"
    found = {each.difference for each in rig.findings(report).values()}
    assert found == {"missing", "stale", "extra"}


@pytest.mark.parametrize("mode", ["full", "quick"])
def test_edits_by_hand_of_invitations_and_domains_are_repaired(rig: Rig, mode: str) -> None:
    rig.admin.execute("update clerk.organization_invitations set role = 'org:admin'")
    rig.admin.execute("update clerk.organization_domains set name = 'mallory.test'")
    report = rig.run(mode)
    assert (report.state, report.counts["invitation"]["different"], report.counts["domain"]["different"]) == (
        "complete",
        3,
        3,
    )
    assert value(rig.admin, "select count(*) from clerk.organization_invitations where role = 'org:admin'") == 0
    assert value(rig.admin, "select count(*) from clerk.organization_domains where name = 'mallory.test'") == 0


def test_repairs_of_invitations_and_domains_go_through_the_queue(rig: Rig, account: Account) -> None:
    queued = Queued(account, rig.store)
    revoked = answer(rig, "revoked")
    rig.world.invite()
    gone_invitation, gone_domain = list(rig.world.invitations)[1], next(iter(rig.world.domains))
    del rig.world.invitations[gone_invitation], rig.world.domains[gone_domain]
    assert rig.run(repairs=queued.repairs).state == "complete"
    assert queued.drain() == 4
    assert shown(rig) == in_clerk(rig)
    assert invitation(rig, revoked) == "revoked"


def test_whether_an_invitation_was_made_by_a_domain_does_not_matter(rig: Rig) -> None:
    rig.api.answers.made_by_domains |= set(rig.world.invitations)
    assert rig.run().findings == 0
    assert rig.run("quick").findings == 0


# Deletes


def test_an_invitation_that_was_answered_is_not_deleted_whether_clerk_lists_it_or_not(rig: Rig) -> None:
    revoked = answer(rig, "revoked")
    assert rig.run().state == "complete"
    rig.api.faults.add(
        Fault(request=lambda request: request_with(request, ("status", "pending"))), path="/organization_invitations"
    )
    report = rig.run()
    assert (report.state, report.findings) == ("complete", 0)
    assert revoked in shown(rig)[0]


def request_with(request: Any, parameter: tuple[str, str]) -> Any:
    return request.__class__(
        request.method, request.path, (*request.parameters, parameter), request.headers, request.body
    )


@pytest.mark.parametrize("mode", ["full", "quick"])
@pytest.mark.parametrize("kind", ["invitation", "domain"])
def test_a_list_alone_deletes_neither_invitations_nor_domains(rig: Rig, kind: str, mode: str) -> None:
    rig.api.faults.add(Fault(alter=lambda elements: elements[1:]), path=f"/organization_{kind}s")
    report = rig.run(mode)
    assert report.state == "incomplete"
    assert f"no {kind} is deleted" in str(report.reason)
    assert shown(rig) == in_clerk(rig)


def test_a_domain_is_not_deleted_when_the_list_of_its_organization_is_not_complete(rig: Rig) -> None:
    gone = next(iter(rig.world.domains))
    del rig.world.domains[gone]
    # The list of the instance lacks it; that of the organization has no element, but counts two.
    rig.api.faults.add(no_elements(), path="/organization_domains", having="organization_id", times=10)
    report = rig.run()
    assert report.state == "incomplete"
    assert "domains that it did not list" in str(report.reason)
    assert gone in shown(rig)[1]


def test_more_deletes_of_domains_than_the_brake_allows_are_not_done(databases: Databases) -> None:
    def many(world: World) -> None:
        world.create_organization({})
        for _ in range(12):
            world.add_domain()

    with mirror(databases, 3, many) as mirrored, mirrored() as rig:
        for domain_id in list(rig.world.domains)[:11]:
            del rig.world.domains[domain_id]
        report = rig.run()
        assert report.state == "stopped"
        assert "domains are gone from Clerk" in str(report.reason)
        assert len(shown(rig)[1]) == 12


# Data of webhooks alone


@pytest.mark.parametrize("is_webhook_first", [True, False])
def test_the_user_who_accepted_an_invitation_is_kept_in_both_orders_of_webhook_and_comparison(
    rig: Rig, is_webhook_first: bool
) -> None:
    accepted = answer(rig, "accepted")
    told = {
        **rig.world.events[-1],
        "type": "organizationInvitation.accepted",
        "timestamp": rig.world.now,
        "data": rig.world.invitations[accepted] | {"user_id": "user_guest"},
    }
    if is_webhook_first:
        deliver(rig, told, "msg_1")
        assert rig.run().findings == 0
    else:
        assert rig.run().findings == 1
        assert (invitation(rig, accepted), invitation(rig, accepted, "accepted_by")) == ("accepted", None)
        deliver(rig, told, "msg_1")
    assert rig.run().findings == 0
    assert (invitation(rig, accepted), invitation(rig, accepted, "accepted_by")) == ("accepted", "user_guest")


# Expired


@pytest.mark.parametrize("mode", ["full", "quick"])
@pytest.mark.parametrize("tells_expiry", [True, False])
def test_an_invitation_beyond_its_time_is_shown_as_expired_whatever_clerk_calls_it(
    rig: Rig, mode: str, tells_expiry: bool
) -> None:
    rig.api.answers.tells_expiry = tells_expiry
    rig.world.now += 29 * DAY
    rig.run(mode)
    statuses = "select distinct status from clerk.organization_invitations"
    assert rows(rig.admin, statuses) == [("pending",)]
    rig.world.now += 2 * DAY
    assert rig.run(mode).state == "complete"
    assert rows(rig.admin, statuses) == [("expired",)]
    # And nothing flaps.
    for again in ("quick", "full", mode):
        assert rig.run(again).findings == 0
    assert rows(rig.admin, statuses) == [("expired",)]


def test_invitations_that_no_slice_reaches_expire_with_the_next_quick_run(databases: Databases) -> None:
    def many(world: World) -> None:
        world.create_organization({})
        for _ in range(600):
            world.invite()

    with mirror(databases, 3, many) as mirrored, mirrored() as rig:
        for invited in rig.world.invitations.values():
            invited["expires_at"] = rig.world.now + 10 * MINUTE
        rig.admin.execute(
            "update clerk.organization_invitations set expires_at = to_timestamp(%s / 1000.0)",
            [rig.world.now + 10 * MINUTE],
        )
        rig.world.now += 10 * MINUTE
        assert rig.run("quick").state == "complete"
        assert rows(rig.admin, "select distinct status from clerk.organization_invitations") == [("expired",)]


def test_the_audit_log_says_that_a_comparison_let_an_invitation_expire(rig: Rig) -> None:
    rig.api.answers.tells_expiry = False
    rig.world.now += 31 * DAY
    report = rig.run("quick")
    changes = rows(rig.admin, "select entity_id, cause, svix_id from clerk_sync.audit_log where new_values ? 'status'")
    assert {each for each in changes if each[2] and each[2].startswith(f"reconcile-{report.run_id}-")} == {
        (each, "reconcile", f"reconcile-{report.run_id}-{each}") for each in rig.world.invitations
    }


def test_an_invitation_that_the_app_does_not_let_expire_keeps_no_other_pending(rig: Rig) -> None:
    kept = next(iter(rig.world.invitations))
    rig.admin.execute(f"""
        create function public.keep() returns trigger language plpgsql as $$
        begin
            if new.status = 'expired' and new.clerk_invitation_id = '{kept}' then raise 'not this one'; end if;
            return new;
        end $$;
        create trigger keep before update on clerk.organization_invitations
        for each row execute function public.keep();
    """)
    rig.api.answers.tells_expiry = False
    rig.world.now += 31 * DAY
    rig.run("quick")
    found = rows(rig.admin, "select clerk_invitation_id from clerk.organization_invitations where status = 'pending'")
    assert found == [(kept,)]


def test_an_invitation_that_expired_after_clerk_said_once_that_it_is_gone_is_not_deleted(
    databases: Databases,
) -> None:
    margin = 5 * MINUTE
    with mirror(databases, 3, populate, delete_margin_ms=margin) as mirrored, mirrored() as rig:
        gone = next(iter(rig.world.invitations))
        expires = rig.world.invitations.pop(gone)["expires_at"]
        rig.world.now = expires - 3 * MINUTE
        assert rig.run("quick").counts["invitation"]["awaiting"] == 1
        rig.world.now = expires
        rig.run("quick")
        assert invitation(rig, gone) == "expired"
        rig.world.now += 2 * margin
        assert rig.run("quick").state == "complete"
        assert gone in shown(rig)[0]
