"""Checks of rows beside an app that holds locks, or whose triggers take long: no delay, and the run continues."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import LiteralString

import pytest

from clerk_supabase.credentials import Fixed
from clerk_supabase.model.changes import Delete
from clerk_supabase.postgres.store import Store
from clerk_supabase.reconcile.report import Report
from clerk_supabase.reconcile.runs import Runs
from tests.kit.databases import rows, value
from tests.kit.histories import alone
from tests.kit.meanwhile import started, waiting
from tests.kit.polling import eventually
from tests.kit.reconciling import Rig, RigMaker

USERS = 40

pytestmark = pytest.mark.mirror(USERS)
HELD, SHOWN, EDITED = (f"user_{number:026}" for number in (5, 6, 7))


@pytest.fixture
def rig(mirrored: RigMaker) -> Iterator[Rig]:
    """40 users, two of them deleted and made visible by hand; and an edited profile."""
    with mirrored() as rig:
        for user_id in (HELD, SHOWN):
            rig.world.remove_user(user_id)
            rig.store.apply(alone(Delete("user", user_id, rig.world.now)))
        rig.admin.execute("update clerk.users set deleted_at = null where deleted_at is not null")
        rig.admin.execute("update clerk.users_public set first_name = 'Edited' where clerk_id = %s", [EDITED])
        yield rig


def run_hastily(rig: Rig) -> Report:
    """A run of a worker that waits for nothing longer than a test does."""
    url = rig.database.worker_url_with(lock_timeout="300ms", statement_timeout="3s")
    with closing(Store(Fixed(url))) as hasty:
        before, rig.store = rig.store, hasty
        try:
            return rig.run()
        finally:
            rig.store = before


def all_but_the_held_one_are_right(rig: Rig, report: Report, held: str = "held up") -> bool:
    assert report.state == "complete"
    assert str(report.reason).startswith({"held up": "rows held up by locks", "refused": "1 objects could not"}[held])
    outcomes = {key: each.outcome for key, each in rig.findings(report).items()}
    assert outcomes == {HELD: held, SHOWN: "settled", EDITED: "settled"}
    edited = value(rig.admin, "select count(*) from clerk.users_public where first_name = 'Edited'")
    return (HELD in rig.shown(), SHOWN in rig.shown(), edited) == (True, False, 0)


@pytest.mark.parametrize(
    "lock",
    [
        "select from clerk_sync.entities where id = %s for update",
        "select from clerk.users where clerk_id = %s for update",
        "select from clerk.users_public where clerk_id = %s for update",
    ],
    ids=["entity", "row", "profile"],
)
def test_a_locked_row_is_skipped_and_the_others_are_repaired(rig: Rig, lock: LiteralString) -> None:
    with rig.database.connect() as app, app.transaction():
        app.execute(lock, [HELD])
        report = run_hastily(rig)
    assert all_but_the_held_one_are_right(rig, report)
    assert rig.run().counts["user"]["repaired"] == 1
    assert HELD not in rig.shown()


def test_a_repair_row_by_row_waits_for_no_lock_because_earlier_rows_stay_locked(rig: Rig) -> None:
    repair: LiteralString = """
        select (clerk_sync.repair_rows(k, %s, true)).* from clerk_sync.kinds as k where k.kind = 'user'
    """
    repaired: list[object] = []
    with rig.database.connect() as checking:
        with rig.database.connect() as app, app.transaction():
            app.execute("select from clerk_sync.entities where id = %s for update", [HELD])
            check = started(lambda: repaired.extend(rows(checking, repair, [HELD, SHOWN])))
            eventually(lambda: repaired, bool)
        check.join(60)
    assert repaired == [([], None)]
    assert (HELD in rig.shown(), SHOWN in rig.shown()) == (True, False)


def test_a_row_whose_trigger_takes_longer_than_a_statement_may_is_skipped_and_the_others_are_repaired(rig: Rig) -> None:
    rig.admin.execute(
        """
        create function public.slow() returns trigger language plpgsql as $$
        begin perform pg_sleep(60); return new; end $$
        """
    )
    rig.admin.execute(
        "create trigger slow before update on clerk.users for each row "
        f"when (new.clerk_id = '{HELD}') execute function public.slow()"
    )
    assert all_but_the_held_one_are_right(rig, run_hastily(rig), "refused")


def test_an_undo_and_a_check_of_the_same_rows_do_not_deadlock(rig: Rig) -> None:
    run_id, lease = rig.admin.execute(
        """
        insert into clerk_sync.reconcile_runs (mode, is_dry_run, versions_only, as_of, lease)
        values ('full', false, false, 1, gen_random_uuid()) returning run_id, lease::text
        """
    ).fetchone() or (0, "")
    rig.admin.execute("update clerk_sync.entities set delete_run = %s where id = %s", [run_id, SHOWN])
    # It was found before, as by an invocation that was cut off: then no finding is written, which would lock the run.
    rig.admin.execute(
        """
        insert into clerk_sync.reconcile_findings (run_id, kind, entity_id, difference, action, cause)
        select %s, 'user', clerk_id, 'different', 'repair', '' from clerk.users
        """,
        [run_id],
    )
    checked: list[object] = []
    with rig.database.connect() as undo, undo.transaction():
        undo.execute("select from clerk_sync.reconcile_runs where run_id = %s for update", [run_id])
        check = started(lambda: checked.append(Runs(rig.store).check_rows(run_id, lease, "user", 1000)))
        eventually(lambda: waiting(rig.admin), lambda number: number == 1)
        undo.execute("select from clerk_sync.entities where delete_run = %s for update nowait", [run_id])
    check.join()
    assert checked == [(True, 0)]
