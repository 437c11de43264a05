"""`resync` names the outcome of each object, and ends with an error when an object could not be synced."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from clerk_supabase.model.changes import Delete
from clerk_supabase_cli.standin.faults import Fault
from clerk_supabase_cli.standin.worlds import World
from tests.kit.aws import Account
from tests.kit.databases import rows
from tests.kit.histories import alone, delivered, upsert
from tests.kit.parked import Command
from tests.kit.reconciling import MINUTE, Queued, Rig, RigMaker

KEY = "sk_live_standin"
ADA, BEN, CAL = (f"user_{number:026}" for number in range(3))
LATER = 6 * MINUTE


def with_members(world: World) -> None:
    organization = world.create_organization({"name": "Analysts"})
    for user_id in (ADA, BEN):
        world.add_membership(organization["id"], user_id, role="org:member")


pytestmark = pytest.mark.mirror(5, with_members)


@pytest.fixture
def rig(mirrored: RigMaker) -> Iterator[Rig]:
    """Five users, and an organization with two members, all of them mirrored, six minutes ago."""
    with mirrored() as rig:
        rig.api.answers.key = KEY
        rig.world.now += LATER
        yield rig


@pytest.fixture
def command(rig: Rig) -> Command:
    return Command({"DATABASE_URL": rig.database.url, "CLERK_API_URL": rig.api.url, "CLERK_SECRET_KEY": KEY})


def done(command: Command, *arguments: str, status: int = 0) -> dict[str, str]:
    """The outcomes in the output of the command, by id."""
    report = command.json("resync", *arguments, status=status)
    assert report["state"] == ("complete" if status == 0 else "incomplete")
    return {each["id"]: each["done"] for each in report["objects"]}


def membership(rig: Rig, user_id: str) -> str:
    found = rig.world.memberships.items()
    return next(key for key, each in found if each["public_user_data"]["user_id"] == user_id)


def put_back(rig: Rig, user_id: str, **fields: object) -> None:
    """A change in Clerk by a server whose clock is ten milliseconds behind: `updated_at` goes back."""
    before = rig.world.users[user_id]["updated_at"]
    rig.world.update("user", user_id, dict(fields))
    rig.world.users[user_id] |= {"updated_at": before - 10}


def test_created_changed_and_unchanged_objects_are_told_apart(rig: Rig, command: Command) -> None:
    rig.world.update("user", ADA, {"first_name": "Augusta"})
    rig.forget(BEN)
    rig.world.now += LATER
    assert done(command, ADA) == {ADA: "changed", membership(rig, ADA): "left as it was"}
    assert done(command, ADA) == {ADA: "left as it was", membership(rig, ADA): "left as it was"}
    assert done(command, BEN)[BEN] == "created"
    assert done(command, CAL) == {CAL: "left as it was"}


def test_a_row_edited_by_hand_is_changed_back(rig: Rig, command: Command) -> None:
    rig.admin.execute("update clerk.users set first_name = 'Mallory' where clerk_id = %s", [CAL])
    assert done(command, CAL) == {CAL: "changed"}
    assert rig.column(CAL, "first_name") != "Mallory"


def test_an_edited_profile_is_repaired(rig: Rig, command: Command) -> None:
    rig.admin.execute("update clerk.users_public set first_name = 'Mallory' where clerk_id = %s", [CAL])
    printed = command.run("resync", CAL).stdout
    assert f"user {CAL}: changed, its row contradicted its tombstone or users_public, and was corrected\n" in printed
    assert rows(rig.admin, "select from clerk.users_public where first_name = 'Mallory'") == []


def test_a_user_whom_an_event_of_clerks_deleted_stays_so_and_the_command_fails(rig: Rig, command: Command) -> None:
    rig.store.apply([delivered(Delete("user", CAL, rig.world.now), "msg_1")])
    rig.world.now += LATER
    for arguments in ((CAL,), (CAL, "--force")):
        assert done(command, *arguments, status=3) == {CAL: "not changed"}
        printed = command.run("resync", *arguments, status=3).stdout
        assert f"user {CAL}: not changed, deleted here, as of" in printed
        assert f"{CAL}: incomplete, 1 user not changed; 1 of 1 objects could not be changed\n" in printed
    assert CAL not in rig.shown()


def test_a_user_who_is_gone_from_clerk_is_deleted_once_and_a_visible_row_is_hidden_again(
    rig: Rig, command: Command
) -> None:
    rig.world.remove_user(CAL)
    assert done(command, CAL) == {CAL: "deleted"}
    assert done(command, CAL) == {CAL: "left as it was"}
    rig.admin.execute("update clerk.users set deleted_at = null where clerk_id = %s", [CAL])
    assert done(command, CAL) == {CAL: "changed"}
    assert CAL not in rig.shown()


def test_an_answer_that_calls_itself_older_is_applied_only_by_force(rig: Rig, command: Command) -> None:
    put_back(rig, CAL, first_name="Newest")
    assert done(command, CAL, status=3) == {CAL: "not changed"}
    assert f"clerk-supabase resync {CAL} --force applies it" in command.run("resync", CAL, status=3).stdout
    assert done(command, CAL, "--force") == {CAL: "changed"}
    assert rig.column(CAL, "first_name") == "Newest"
    assert done(command, CAL) == {CAL: "left as it was"}
    assert command.json("reconcile")["report"]["findings"] == 0


def test_after_a_forced_answer_the_events_before_it_are_late_and_those_after_it_win(rig: Rig, command: Command) -> None:
    version = rig.world.users[CAL]["updated_at"]
    put_back(rig, CAL, first_name="Forced")
    done(command, CAL, "--force")
    assert rig.store.apply(alone(upsert(CAL, version=(version, version), first_name="Older"))) == ["stale"]
    assert rig.column(CAL, "first_name") == "Forced"
    rig.store.apply(alone(upsert(CAL, version=version + 1, first_name="Newer")))
    assert rig.column(CAL, "first_name") == "Newer"


def test_a_webhook_that_is_newer_than_clerks_answer_is_not_overwritten_by_force(rig: Rig, command: Command) -> None:
    newer = rig.world.now + 5_000
    rig.store.apply(alone(upsert(CAL, version=newer, first_name="Newer")))
    rig.world.now += MINUTE
    # Clerk's API lags: what it answers is older.
    assert done(command, CAL) == {CAL: "left as it was"}
    assert done(command, CAL, "--force", status=3) == {CAL: "not changed"}
    assert rig.column(CAL, "first_name") == "Newer"


def test_a_webhook_between_the_answer_and_its_repair_wins_over_force(rig: Rig, command: Command) -> None:
    put_back(rig, CAL, first_name="Forced")

    def webhook() -> None:
        rig.store.apply(alone(upsert(CAL, version=rig.world.now, first_name="Newest")))

    rig.api.faults.add(Fault(happening=webhook), path=f"/users/{CAL}/organization_memberships")
    done(command, CAL, "--force", status=3)
    assert rig.column(CAL, "first_name") == "Newest"


def test_an_object_that_the_database_refuses_is_named_with_the_rule(rig: Rig, command: Command) -> None:
    rig.admin.execute("alter table clerk.users add constraint no_robots check (last_name <> 'Robot')")
    rig.world.update("user", CAL, {"last_name": "Robot"})
    assert done(command, CAL, status=3) == {CAL: "not changed"}
    assert "constraint no_robots" in command.run("resync", CAL, status=3).stdout


def test_a_row_that_a_trigger_of_the_app_rewrites_is_not_called_changed(rig: Rig, command: Command) -> None:
    rig.admin.execute(
        """
        create function public.keep() returns trigger language plpgsql as $$
        begin new.last_name := 'Kept'; return new; end $$;
        create trigger keep before update on clerk.users for each row execute function public.keep()
        """
    )
    rig.world.update("user", CAL, {"last_name": "New"})
    assert done(command, CAL, status=3) == {CAL: "not changed"}
    assert "a trigger of the app keeps last_name" in command.run("resync", CAL, status=3).stdout


def test_a_list_of_memberships_with_an_unusable_one_is_not_called_whole(rig: Rig, command: Command) -> None:
    odd = Fault(alter=lambda listed: [*listed, b'{"object":"organization_membership"}'])
    rig.api.faults.add(odd, path=f"/users/{CAL}/organization_memberships")
    assert "Clerk did not list every membership" in command.run("resync", CAL, status=3).output


def test_a_membership_that_clerk_no_longer_lists_is_named(rig: Rig, command: Command) -> None:
    left = membership(rig, ADA)
    del rig.world.memberships[left]
    assert done(command, ADA, status=3) == {ADA: "left as it was", left: "not changed"}


def test_through_the_queue_objects_are_sent_and_not_called_changed(
    rig: Rig, command: Command, account: Account
) -> None:
    rig.world.update("user", ADA, {"first_name": "Augusta"})
    rig.world.remove_user(CAL)
    through_queue = ("--sync-queue-url", account.sync_queue_url)
    assert set(done(command, ADA, *through_queue).values()) == {"sent"}
    assert f"user {CAL}: sent, gone from Clerk\n" in command.run("resync", CAL, *through_queue).stdout
    assert rig.column(ADA, "first_name") != "Augusta"
    assert Queued(account, rig.store).drain() == 3
    assert (rig.column(ADA, "first_name"), CAL in rig.shown()) == ("Augusta", False)


def test_private_metadata_that_differs_alone_is_changed(rig: Rig, command: Command) -> None:
    command.environment["KEEP_PRIVATE_METADATA"] = "1"
    assert done(command, CAL) == {CAL: "changed"}
    rig.admin.execute('update clerk_sync.private_metadata set private_metadata = \'{"by": "hand"}\'')
    rig.world.now += 1_000
    assert done(command, CAL) == {CAL: "changed"}
    assert done(command, CAL) == {CAL: "left as it was"}
