"""`resync` of objects deleted here: the restored ones, the ones that stay deleted, and the true reason for each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from clerk_supabase.credentials import Fixed
from clerk_supabase.model.changes import Changes, Delete, Reconciled
from clerk_supabase.postgres.batch import as_json, element_of
from clerk_supabase.postgres.store import Store
from clerk_supabase.reconcile.runs import Runs
from clerk_supabase_cli.standin.faults import answering, without_date
from clerk_supabase_cli.standin.worlds import World
from tests.kit.aws import Account
from tests.kit.databases import value
from tests.kit.histories import alone, delivered, upsert
from tests.kit.parked import Command
from tests.kit.purging import allow_at_once, purge
from tests.kit.reconciling import MINUTE, Queued, Rig, RigMaker

KEY = "sk_live_standin"
ADA, BEN, CAL = (f"user_{number:026}" for number in range(3))
LATER = 6 * MINUTE


def with_members(world: World) -> None:
    organization = world.create_organization({"name": "Analysts"})
    world.add_membership(organization["id"], ADA, role="org:member")


pytestmark = pytest.mark.mirror(3, with_members)


@pytest.fixture
def rig(mirrored: RigMaker) -> Iterator[Rig]:
    """Three users, the first of them a member of an organization, all of them mirrored, six minutes ago."""
    with mirrored() as rig:
        rig.api.answers.key = KEY
        rig.world.now += LATER
        yield rig


@pytest.fixture
def command(rig: Rig) -> Command:
    return Command({"DATABASE_URL": rig.database.url, "CLERK_API_URL": rig.api.url, "CLERK_SECRET_KEY": KEY})


def delete_by(rig: Rig, run: int, user_id: str) -> None:
    """A false delete, made by a comparison; run 0: by a resync."""
    proof = (Changes(Delete("user", user_id, rig.world.now)), Reconciled(f"reconcile-{run}-{user_id}"))
    assert rig.store.apply([proof]) == ["deleted"]


def first_run(rig: Rig) -> int:
    return int(value(rig.admin, "select min(run_id) from clerk_sync.reconcile_runs"))


def result(command: Command, *arguments: str, status: int = 0) -> dict[str, tuple[Any, Any]]:
    """The outcome of each object in the output of the command, and the reason."""
    report = command.json("resync", *arguments, status=status)
    return {each["id"]: (each["done"], each["why"]) for each in report["objects"]}


@pytest.mark.parametrize("is_purged", [False, True])
def test_whether_an_object_was_purged_is_told_as_a_flag(is_purged: bool, rig: Rig) -> None:
    delete_by(rig, 0, ADA)
    if is_purged:
        allow_at_once(rig.admin)
        assert purge(rig.database, hold_back="0")
    with closing(Store(Fixed(f"{rig.database.url}?sslmode=disable"))) as operator:
        told = Runs(operator).look_at([as_json(element_of(upsert(ADA)))])
    assert told["user", ADA].is_purged is is_purged


@pytest.mark.parametrize("is_by_resync", [False, True])
def test_a_user_deleted_by_a_comparison_or_a_resync_alone_is_restored(
    rig: Rig, command: Command, is_by_resync: bool
) -> None:
    delete_by(rig, 0 if is_by_resync else first_run(rig), ADA)
    rig.world.now += MINUTE
    assert ADA not in rig.shown()
    assert result(command, ADA)[ADA] == ("restored", None)
    assert rig.agrees()


def test_through_the_queue_no_reason_is_given_why_a_restored_user_would_stay_deleted(
    rig: Rig, command: Command, account: Account
) -> None:
    delete_by(rig, first_run(rig), CAL)
    rig.world.now += MINUTE
    assert result(command, CAL, "--sync-queue-url", account.sync_queue_url) == {CAL: ("sent", None)}
    Queued(account, rig.store).drain()
    assert rig.agrees()


def test_an_answer_that_is_not_later_than_the_comparison_says_so_and_not_that_an_event_deleted(
    rig: Rig, command: Command
) -> None:
    run = first_run(rig)
    delete_by(rig, run, CAL)
    [(done, why)] = result(command, CAL, status=3).values()
    assert done == "not changed"
    assert f"by the comparison of run {run}: Clerk's answer is not later than the delete" in why


def test_an_answer_without_a_date_restores_nobody_and_the_reason_says_so(rig: Rig, command: Command) -> None:
    delete_by(rig, 0, CAL)
    rig.world.now += MINUTE
    rig.api.faults.add(without_date(), path=f"/users/{CAL}")
    [(done, why)] = result(command, CAL, status=3).values()
    assert (done, "by an earlier resync: Clerk's answer has no believable Date" in why) == ("not changed", True)


def test_a_user_deleted_by_a_comparison_and_purged_stays_deleted_for_that_reason(rig: Rig, command: Command) -> None:
    delete_by(rig, first_run(rig), CAL)
    rig.admin.execute("select clerk_sync.purge('0', 'scrub')")
    rig.world.now += MINUTE
    [(done, why)] = result(command, CAL, status=3).values()
    assert (done, "purged since: no row is written" in why, "event" in why) == ("not changed", True, False)


def test_a_user_deleted_by_an_event_after_the_comparison_stays_deleted(rig: Rig, command: Command) -> None:
    delete_by(rig, first_run(rig), CAL)
    rig.store.apply([delivered(Delete("user", CAL, rig.world.now), "msg_1")])
    rig.world.now += MINUTE
    [(done, why)] = result(command, CAL, status=3).values()
    assert (done, "an object deleted by an event of Clerk's stays deleted" in why) == ("not changed", True)


def test_a_user_whom_clerks_api_does_not_show_yet_is_not_deleted(rig: Rig, command: Command) -> None:
    # The webhook of the sign-up was faster than the API.
    rig.store.apply(alone(upsert("user_new", version=rig.world.now)))
    rig.world.now += 2_000
    assert "an event about it was applied in the last 5 minutes" in result(command, "user_new", status=3)["user_new"][1]
    assert "user_new" in rig.shown()
    rig.world.now += LATER
    assert result(command, "user_new")["user_new"][0] == "deleted"


def test_a_delete_that_a_table_refuses_is_named_with_its_rule(rig: Rig, command: Command) -> None:
    rig.world.remove_user(CAL)
    rig.admin.execute("alter table clerk.users add constraint always_there check (deleted_at is null)")
    done, why = result(command, CAL, status=3)[CAL]
    assert (done, "always_there" in why) == ("not changed", True)
    assert CAL in rig.shown()


def test_a_404_that_is_older_than_another_answer_is_not_called_a_delete(rig: Rig, command: Command) -> None:
    rig.admin.execute("update clerk_sync.entities set shown_at = %s where id = %s", [rig.world.now + MINUTE, CAL])
    rig.api.faults.add(answering(404, code="resource_not_found"), path=f"/users/{CAL}")
    assert result(command, CAL, status=3)[CAL] == (
        "not changed",
        "gone from Clerk, but a later event or answer of Clerk has the object: try again",
    )
    assert CAL in rig.shown()
