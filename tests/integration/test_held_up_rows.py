"""Rows locked by the app when they should be repaired: the run tries them again at its end, and so do later runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from psycopg import sql

from clerk_supabase.credentials import Fixed
from clerk_supabase.model.changes import Delete
from clerk_supabase.postgres.store import Store
from clerk_supabase.reconcile.report import Report
from clerk_supabase_cli.standin.worlds import World
from tests.kit.databases import rows, value
from tests.kit.histories import alone
from tests.kit.reconciling import Rig, happening_after
from tests.kit.webhooks import domain, invitation

HELD = f"user_{5:026}"
HELD_UP = (
    "rows held up by locks of other transactions, or kept by triggers of the app: 1; the next run tries them again"
)


def populate(world: World) -> None:
    organization = world.create_organization({"name": "Acme"})
    for number in (1, 2):
        world.add_membership(organization["id"], f"user_{number:026}", role="org:admin")


pytestmark = pytest.mark.mirror(620, populate)
"""620 users and an organization with two admins, all of them mirrored."""


@contextmanager
def locked(rig: Rig, table: str, key: str, row_id: str) -> Iterator[None]:
    """An app that holds a lock on a row."""
    query = sql.SQL("select from clerk.{} where {} = %s for update").format(sql.Identifier(table), sql.Identifier(key))
    with rig.database.connect() as app, app.transaction():
        app.execute(query, [row_id])
        yield


def run_hastily(rig: Rig, mode: str = "full", **request: Any) -> Report:
    """A run of a worker that waits for no lock longer than a test does."""
    url = rig.database.worker_url_with(lock_timeout="200ms")
    with closing(Store(Fixed(url))) as hasty:
        before, rig.store = rig.store, hasty
        try:
            return rig.run(mode, **request)
        finally:
            rig.store = before


def show_deleted(rig: Rig) -> None:
    rig.world.remove_user(HELD)
    rig.store.apply(alone(Delete("user", HELD, rig.world.now)))
    rig.admin.execute("update clerk.users set deleted_at = null where clerk_id = %s", [HELD])


def edit(rig: Rig) -> None:
    """An edit by hand of a user who changed before the page of users that a quick run reads."""
    rig.admin.execute("update clerk.users set last_name = 'By hand' where clerk_id = %s", [HELD])


# Rows that contradict their tombstones


def test_a_run_comes_back_at_its_end_to_a_row_that_was_locked_when_it_was_checked(rig: Rig) -> None:
    show_deleted(rig)
    with rig.database.connect() as app:
        app.execute("begin")
        app.execute("select from clerk.users where clerk_id = %s for update", [HELD])
        rig.ours.http.get = happening_after(rig.ours.http.get, "/users", app.rollback)  # type: ignore[method-assign]
        report = rig.run()
    assert (report.state, report.reason) == ("complete", None)
    assert (rig.findings(report)[HELD].outcome, report.counts["user"]["repaired"]) == ("settled", 1)
    assert HELD not in rig.shown()


def test_a_row_locked_to_the_end_is_reported_as_held_up_and_repaired_by_a_quick_run(rig: Rig) -> None:
    show_deleted(rig)
    with locked(rig, "users", "clerk_id", HELD):
        report = rig.run()
    assert (report.state, report.reason) == ("complete", HELD_UP)
    assert rig.findings(report)[HELD].outcome == "held up"
    quick = rig.run("quick")
    assert (quick.reason, quick.counts["user"]["repaired"], rig.findings(quick)[HELD].outcome) == (None, 1, "settled")
    assert HELD not in rig.shown()


# Rows that differ from Clerk


def test_a_repair_of_a_locked_row_is_held_up_and_made_by_a_quick_run(rig: Rig) -> None:
    edit(rig)
    with locked(rig, "users", "clerk_id", HELD):
        report = run_hastily(rig)
    assert (report.state, report.reason) == ("complete", HELD_UP)
    assert rig.findings(report)[HELD].outcome == "held up"
    assert "repaired" not in report.counts["user"]

    quick = rig.run("quick")

    assert (quick.state, quick.reason, quick.counts["user"]["repaired"]) == ("complete", None, 1)
    assert rig.column(HELD, "last_name") != "By hand"
    assert (rig.findings(report)[HELD].outcome, rig.findings(quick)[HELD].outcome) == ("settled", "settled")


def test_at_its_end_a_run_reads_no_object_again_that_it_has_repaired(rig: Rig) -> None:
    edit(rig)
    rig.world.update("user", f"user_{6:026}", {"last_name": "Newer"})
    rig.api.requests.clear()
    with locked(rig, "users", "clerk_id", HELD):
        assert run_hastily(rig).reason == HELD_UP
    asked = [str(request) for request in rig.api.requests]
    times = [len([each for each in asked if user_id in each]) for user_id in (HELD, f"user_{6:026}")]
    assert times == [1, 0]


def test_a_demotion_delayed_by_a_lock_is_made_by_the_next_run(rig: Rig) -> None:
    member = next(iter(rig.world.memberships))
    rig.world.update("membership", member, {"role": "org:member"})
    with locked(rig, "organization_memberships", "clerk_membership_id", member):
        assert run_hastily(rig).reason == HELD_UP
    rig.run("quick")
    query = "select role from clerk.organization_memberships where clerk_membership_id = %s"
    assert value(rig.admin, query, member) == "org:member"


def test_a_repair_held_up_by_a_lock_is_made_at_the_end_of_the_run_if_the_lock_is_gone(rig: Rig) -> None:
    rig.world.update("user", HELD, {"last_name": "Newer"})
    with rig.database.connect() as app:
        app.execute("begin")
        app.execute("select from clerk.users where clerk_id = %s for update", [HELD])
        get = rig.ours.http.get
        rig.ours.http.get = happening_after(get, "/organization_memberships", app.rollback)  # type: ignore[method-assign]
        report = run_hastily(rig)
    assert (report.state, report.reason) == ("complete", None)
    assert (rig.findings(report)[HELD].outcome, report.counts["user"]["repaired"]) == ("settled", 1)
    assert rig.column(HELD, "last_name") == "Newer"


def test_a_value_that_a_locked_row_would_lose_is_held_up_and_lost_by_a_quick_run(rig: Rig) -> None:
    assert rig.column(HELD, "last_name") is not None
    rig.world.update("user", HELD, {"last_name": None})
    with locked(rig, "users", "clerk_id", HELD):
        report = run_hastily(rig)
    assert (report.state, report.reason) == ("complete", HELD_UP)
    assert rig.findings(report)[HELD].outcome == "held up"
    assert rig.run("quick").state == "complete"
    assert rig.column(HELD, "last_name") is None


def test_a_missing_membership_whose_organization_is_locked_is_found_again_by_the_next_quick_run(rig: Rig) -> None:
    member = next(iter(rig.world.memberships))
    [(org_id,)] = rows(rig.admin, "select clerk_org_id from clerk.organizations")
    rig.admin.execute("delete from clerk.organization_memberships where clerk_membership_id = %s", [member])
    with locked(rig, "organizations", "clerk_org_id", org_id):
        report = run_hastily(rig)
    assert HELD_UP in str(report.reason)
    assert rig.run("quick").state == "complete"
    assert rig.agrees()


def test_a_repair_held_up_for_a_day_is_left_to_the_full_run(rig: Rig) -> None:
    edit(rig)
    with locked(rig, "users", "clerk_id", HELD):
        run_hastily(rig)
        assert run_hastily(rig, "quick").reason == HELD_UP
    rig.admin.execute("update clerk_sync.reconcile_findings set found_at = found_at - interval '25 hours'")
    assert HELD not in rig.findings(rig.run("quick"))
    assert rig.column(HELD, "last_name") == "By hand"
    rig.run()
    assert rig.column(HELD, "last_name") != "By hand"


def test_a_delete_of_a_locked_row_is_reported_as_held_up_and_made_by_a_quick_run(rig: Rig) -> None:
    rig.world.remove_user(HELD)
    with locked(rig, "users", "clerk_id", HELD):
        report = run_hastily(rig)
    assert (report.state, report.reason) == ("complete", HELD_UP)
    assert rig.findings(report)[HELD].outcome == "held up"
    quick = rig.run("quick")
    assert (quick.reason, quick.counts["user"]["deleted"]) == (None, 1)
    assert rig.agrees()


# Quick runs


def test_quick_runs_look_at_all_rows_portion_by_portion(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clerk_supabase.reconcile.corrections.row_checks._ROWS_AT_ONCE", 100)
    monkeypatch.setattr("clerk_supabase.reconcile.run.ROWS_OF_QUICK_RUN", 310)
    show_deleted(rig)
    edited = f"user_{610:026}"
    rig.admin.execute("update clerk.users_public set first_name = 'By hand' where clerk_id = %s", [edited])
    checked = "select rows_checked -> 'user' ->> 'after' from clerk_sync.reconcile_runs order by run_id desc limit 1"
    found: list[tuple[set[str], str]] = []
    for _ in range(4):
        findings = rig.findings(rig.run("quick"))
        found.append(({HELD, edited} & findings.keys(), value(rig.admin, checked)))
    middle, end = f"user_{399:026}", f"user_{619:026}"
    assert found == [({HELD}, middle), ({edited}, end), (set(), middle), (set(), end)]
    assert HELD not in rig.shown()


@pytest.mark.parametrize("table", ["organization_invitations", "organization_domains"])
def test_a_quick_run_hides_deleted_rows_of_small_tables_each_time(rig: Rig, table: str) -> None:
    org_id = next(iter(rig.world.organizations))
    rig.store.apply([invitation(at=1, org_id=org_id), domain(at=1, org_id=org_id)])
    rig.world.remove_organization(org_id)
    rig.store.apply(alone(Delete("organization", org_id, rig.world.now)))
    name = sql.Identifier(table)
    for _ in range(2):
        rig.admin.execute(sql.SQL("update clerk.{} set deleted_at = null").format(name))
        rig.run("quick")
        shown = rig.admin.execute(sql.SQL("select from clerk.{} where deleted_at is null").format(name))
        assert shown.fetchall() == []
