"""A full run compares the rows that the app sees: rows with their tombstones, and profiles with users."""

from __future__ import annotations

from contextlib import closing
from typing import LiteralString

import pytest
from psycopg import sql

from clerk_supabase.model.changes import Delete
from clerk_supabase.postgres.batch import as_json, element_of
from clerk_supabase.reconcile.request import Request
from clerk_supabase.reconcile.runs import Runs
from clerk_supabase_cli.standin.worlds import World
from tests.kit.aws import Account
from tests.kit.databases import rows, value
from tests.kit.histories import alone, upsert
from tests.kit.kinds import OURS
from tests.kit.meanwhile import started, waiting
from tests.kit.polling import eventually
from tests.kit.reconciling import MINUTE, Queued, Rig, user
from tests.kit.webhooks import domain, invitation

BY_HAND = "somebody edited the row"
TABLES = {
    "user": ("users", "clerk_id"),
    "organization": ("organizations", "clerk_org_id"),
    "membership": ("organization_memberships", "clerk_membership_id"),
    "invitation": ("organization_invitations", "clerk_invitation_id"),
    "domain": ("organization_domains", "clerk_domain_id"),
}
PROFILE = "select username, first_name, last_name, avatar_url, deleted_at from clerk.users_public where clerk_id = %s"


def with_members(world: World) -> None:
    for name in ("first", "second"):
        organization = world.create_organization({"name": name})
        for number in (1, 2, 3):
            world.add_membership(organization["id"], user(number), role="org:member")


pytestmark = pytest.mark.mirror(30, with_members)
"""30 users, and two organizations with three members, all of them mirrored."""


def as_service_role(rig: Rig, statement: sql.Composed | LiteralString, *parameters: object) -> int:
    with rig.database.connect() as connection:
        connection.execute("set role service_role")
        return connection.execute(statement, parameters).rowcount


def show(rig: Rig, table: str) -> int:
    """Makes every hidden row of a table visible, as an app with the service role can."""
    hidden = sql.SQL("update clerk.{} set deleted_at = null where deleted_at is not null")
    return as_service_role(rig, hidden.format(sql.Identifier(table)))


def test_rows_of_every_kind_that_are_hidden_do_not_count_as_those_that_a_brake_is_for(rig: Rig) -> None:
    delete_with_all_kinds(rig)
    # Of six memberships one is of the user, and three are of the organization, one of which is the user's, too.
    wanted = dict.fromkeys(OURS, 0) | {"user": 29, "organization": 1, "membership": 2}
    assert rig.runs.count_rows() == wanted


def delete_with_all_kinds(rig: Rig) -> str:
    """A user, and an organization with rows of every kind, deleted by webhooks; returns the organization's id."""
    organization = next(iter(rig.world.organizations))
    rig.store.apply([invitation(at=1, org_id=organization), domain(at=1, org_id=organization)])
    rig.world.remove_user(user(1))
    rig.world.remove_organization(organization)
    rig.store.apply(alone(Delete("user", user(1), rig.world.now)))
    rig.store.apply(alone(Delete("organization", organization, rig.world.now)))
    return organization


# Rows that are deleted


def test_deleted_rows_of_every_kind_that_were_made_visible_by_hand_are_found_and_hidden_again(rig: Rig) -> None:
    delete_with_all_kinds(rig)
    changed = {kind: show(rig, table) for kind, (table, _) in TABLES.items()}
    assert changed == {"user": 1, "organization": 1, "membership": 4, "invitation": 1, "domain": 1}

    report = rig.run()

    assert (report.state, report.reason) == ("complete", None)
    found = rig.findings(report).values()
    assert {(each.difference, each.action, each.cause, *(each.fields or ())) for each in found} == {
        ("different", "repair", BY_HAND, "deleted_at")
    }
    assert {kind: report.counts[kind]["different"] for kind in TABLES} == changed
    # What is set right is no answer that is older than the row.
    assert not any("older" in report.counts[kind] for kind in TABLES)
    assert {kind: report.counts[kind]["repaired"] for kind in TABLES} == changed
    assert not any(of_kind.get("extra") or of_kind.get("deleted") for of_kind in report.counts.values())
    assert {each.outcome for each in found} == {"settled"}
    assert rig.agrees()
    assert value(rig.admin, PROFILE.replace("username, first_name, last_name, avatar_url, ", ""), user(1)) is not None
    assert rig.run().findings == 0


def test_a_row_is_hidden_again_with_the_moment_of_its_tombstone_and_the_log_says_by_which_run(rig: Rig) -> None:
    rig.world.remove_user(user(5))
    deleted_at = rig.world.now
    rig.store.apply(alone(Delete("user", user(5), deleted_at)))
    as_service_role(rig, "update clerk.users set deleted_at = '2020-01-01' where clerk_id = %s", user(5))
    report = rig.run()
    assert report.counts["user"]["repaired"] == 1
    moment = value(
        rig.admin, "select extract(epoch from deleted_at) * 1000 from clerk.users where clerk_id = %s", user(5)
    )
    assert moment == deleted_at
    logged = rows(
        rig.admin, "select cause, svix_id from clerk_sync.audit_log where entity_id = %s order by audit_id", user(5)
    )[-1]
    assert logged == ("reconcile", f"reconcile-{report.run_id}-{user(5)}")


def test_a_dry_run_says_which_deleted_rows_are_visible_and_leaves_them_so(rig: Rig) -> None:
    delete_with_all_kinds(rig)
    for table, _ in TABLES.values():
        show(rig, table)
    report = rig.run(dry_run=True)
    assert report.findings == 8
    assert {each.outcome for each in rig.findings(report).values()} == {"not sent"}
    assert not any("repaired" in of_kind for of_kind in report.counts.values())
    assert user(1) in rig.shown()


@pytest.mark.parametrize("mode", ["full", "quick"])
def test_a_deleted_row_that_is_visible_is_never_called_deleted_by_a_run(rig: Rig, mode: str) -> None:
    rig.world.remove_user(user(5))
    rig.store.apply(alone(Delete("user", user(5), rig.world.now)))
    show(rig, "users")
    report = rig.run(mode)
    assert not any(of_kind.get("extra") or of_kind.get("deleted") for of_kind in report.counts.values())


def test_a_row_hidden_by_hand_whose_object_exists_in_clerk_is_shown_again(rig: Rig) -> None:
    for table, _ in list(TABLES.values())[:3]:
        as_service_role(rig, sql.SQL("update clerk.{} set deleted_at = now()").format(sql.Identifier(table)))
    report = rig.run()
    assert (report.state, rig.agrees()) == ("complete", True)
    found = rig.findings(report).values()
    assert {(each.difference, each.cause, *(each.fields or ())) for each in found} == {
        ("different", BY_HAND, "deleted_at")
    }
    assert {kind: report.counts[kind]["repaired"] for kind in ("user", "organization", "membership")} == {
        "user": 30,
        "organization": 2,
        "membership": 6,
    }


def test_a_row_that_a_trigger_of_the_app_keeps_visible_does_not_hold_up_the_others_and_is_named(rig: Rig) -> None:
    for number in (5, 6):
        rig.world.remove_user(user(number))
        rig.store.apply(alone(Delete("user", user(number), rig.world.now)))
    show(rig, "users")
    rig.admin.execute(
        """
        create function public.no() returns trigger language plpgsql as $$
        begin raise sqlstate 'AB123'; end $$;
        create trigger no before update on clerk.users for each row when (new.clerk_id like '%5')
        execute function public.no()
        """
    )
    report = rig.run()
    assert report.state == "complete"
    assert "1 objects could not be compared or applied" in str(report.reason)
    assert {key: each.outcome for key, each in rig.findings(report).items()} == {
        user(5): "refused",
        user(6): "settled",
    }
    assert (user(5) in rig.shown(), user(6) in rig.shown()) == (True, False)


def test_rows_are_checked_in_portions_and_an_interrupted_run_continues(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clerk_supabase.reconcile.corrections.row_checks._ROWS_AT_ONCE", 7)
    for number in (2, 9, 29):
        rig.world.remove_user(user(number))
        rig.store.apply(alone(Delete("user", user(number), rig.world.now)))
    show(rig, "users")
    rig.die_at("check_rows", skip=2)
    checked = value(rig.admin, "select rows_checked -> 'user' from clerk_sync.reconcile_runs where state = 'running'")
    assert checked == {"after": user(13), "is_done": False, "left": 0}
    report = rig.run()
    assert (report.is_resumed, report.counts["user"]["repaired"]) == (True, 3)
    assert rig.agrees()


def test_through_the_queue_repairs_and_deletes_count_as_sent(rig: Rig, account: Account) -> None:
    queued = Queued(account, rig.store)
    rig.world.update("user", user(4), {"last_name": "Newer"})
    rig.world.remove_user(user(5))
    rig.world.now += 10 * MINUTE
    counts = rig.run(repairs=queued.repairs).counts["user"]
    assert (counts["repairs sent"], counts["deletes sent"]) == (1, 1)
    assert not counts.keys() & {"repaired", "deleted"}
    assert user(5) in rig.shown()
    assert queued.drain() == 2


# users_public


@pytest.mark.parametrize("column", ["username", "first_name", "last_name", "avatar_url", "deleted_at"])
def test_a_profile_that_the_owner_edited_is_found_by_the_name_of_its_column_and_repaired(rig: Rig, column: str) -> None:
    before = rows(rig.admin, PROFILE, user(3))
    edited = sql.SQL("update clerk.users_public set {} = '2020-01-01' where clerk_id = %s")
    rig.admin.execute(edited.format(sql.Identifier(column)), [user(3)])
    report = rig.run()
    [found] = rig.findings(report).values()
    assert (found.kind, found.entity_id, found.fields) == ("user", user(3), [f"users_public.{column}"])
    assert (found.difference, found.cause, found.outcome) == ("different", BY_HAND, "settled")
    assert report.counts["user"]["repaired"] == 1
    assert rows(rig.admin, PROFILE, user(3)) == before
    assert rig.run().findings == 0


def test_a_user_whose_delete_was_lost_is_deleted_in_spite_of_edits_of_the_profile(rig: Rig) -> None:
    rig.world.now += 10 * MINUTE
    rig.world.remove_user(user(5))
    edited = [user(5), user(6)]
    rig.admin.execute("update clerk.users_public set first_name = 'Mallory' where clerk_id = any(%s)", [edited])
    report = rig.run()
    assert (report.state, rig.agrees()) == ("complete", True)
    assert {key: (each.difference, each.outcome) for key, each in rig.findings(report).items()} == {
        user(5): ("extra", "settled"),
        user(6): ("different", "settled"),
    }
    assert (report.counts["user"]["deleted"], report.counts["user"]["repaired"]) == (1, 1)


def test_a_profile_without_a_user_is_removed_and_a_user_without_a_profile_gets_one(rig: Rig) -> None:
    before = rows(rig.admin, PROFILE, user(3))
    rig.admin.execute("delete from clerk.users_public where clerk_id = %s", [user(3)])
    # Before, between and behind the keys of users.
    left_over = ["a", "user_0000000000000000000000000x", "user_z", "zzz"]
    rig.admin.execute("insert into clerk.users_public (clerk_id) select unnest(%s::text[])", [left_over])
    report = rig.run()
    assert {key: each.fields for key, each in rig.findings(report).items()} == {
        key: ["users_public"] for key in [user(3), *left_over]
    }
    assert rows(rig.admin, PROFILE, user(3)) == before
    assert value(rig.admin, "select count(*) from clerk.users_public") == 30
    assert rig.run().findings == 0


def test_many_profiles_without_a_user_are_all_found_portion_by_portion(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clerk_supabase.reconcile.corrections.row_checks._ROWS_AT_ONCE", 7)
    rig.admin.execute(
        "insert into clerk.users_public (clerk_id) select p || n from generate_series(10, 40) as n, "
        "unnest('{a,user_0000000000000000000000001,z}'::text[]) as p on conflict do nothing"
    )
    rig.run()
    assert value(rig.admin, "select count(*) from clerk.users_public") == 30


def test_a_webhook_that_writes_the_same_user_meanwhile_is_waited_for(rig: Rig) -> None:
    rig.admin.execute("update clerk.users_public set first_name = 'By hand' where clerk_id = %s", [user(3)])
    begun = rig.runs.begin(Request("full"), rig.api.answers.instance_id, rig.world.now, 120, 0)
    newer = as_json([element_of(upsert(user(3), version=rig.world.now, first_name="Newer"))])
    with closing(rig.store.twin()) as worker:
        with rig.database.connect() as webhook, webhook.transaction():
            webhook.execute("select clerk_sync.apply(%s::jsonb)", [newer])
            checking = started(lambda: Runs(worker).check_rows(begun.run.run_id, begun.lease, "user", 100))
            eventually(lambda: waiting(rig.admin), lambda number: number == 1)
        checking.join()
    assert rows(rig.admin, PROFILE, user(3))[0][1] == "Newer"
