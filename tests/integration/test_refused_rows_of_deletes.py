"""A row that the app refuses or locks holds up no other row of a delete, also in the part that apply() itself hides."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import LiteralString

import psycopg
import pytest

from clerk_supabase.credentials import Fixed
from clerk_supabase.errors import ChangeRefused, Retryable, RowUnavailable
from clerk_supabase.model.changes import Changes, Delete, Reconciled, Upsert, Version
from clerk_supabase.postgres.store import Store
from clerk_supabase.reconcile.corrections.unfinished import finish_deletes
from clerk_supabase.reconcile.runs import Runs
from tests.kit.databases import Connection, Database, acting_as, rows, value
from tests.kit.histories import CREATED_AT
from tests.kit.reconciling import rig_with
from tests.kit.reconciling import user as member
from tests.kit.webhooks import deleted, membership, organization, user

MEMBERS = 5
VISIBLE: LiteralString = (
    "select 'organization', clerk_org_id from clerk.organizations where deleted_at is null union all "
    "select 'membership', clerk_membership_id from clerk.organization_memberships where deleted_at is null "
    "order by 1, 2"
)
UNFINISHED: LiteralString = "select kind, id, is_deleted from clerk_sync.unfinished_deletes"


def populate(store: Store) -> None:
    people = [user(f"user_{n}", at=1) for n in range(MEMBERS)]
    store.apply([*people, organization("org_1", at=1)])
    store.apply([membership(f"orgmem_{n}", user_id=f"user_{n}", at=1) for n in range(MEMBERS)])


def ended_run(admin: Connection) -> int:
    """The id of a comparison that has ended."""
    return int(
        value(
            admin,
            "insert into clerk_sync.reconcile_runs (mode, is_dry_run, versions_only, as_of, state) "
            "values ('full', false, false, 0, 'complete') returning run_id",
        )
    )


def trigger(table: LiteralString, when: LiteralString, body: LiteralString) -> LiteralString:
    """Creates a trigger of the app before updates of some rows of a table."""
    return (
        f"create function public.keep() returns trigger language plpgsql as $$ begin {body}; end $$; "
        f"create trigger keep before update on clerk.{table} for each row when ({when}) execute function public.keep()"
    )


REMOVE: LiteralString = (
    "drop function if exists public.keep cascade; "
    "alter table clerk.organization_memberships drop constraint if exists stays"
)
MEMBER: LiteralString = "old.clerk_membership_id = 'orgmem_2'"
POISON: dict[str, LiteralString] = {
    "an error of a trigger": trigger("organization_memberships", MEMBER, "raise 'no'"),
    "an error in a trigger": trigger("organization_memberships", MEMBER, "perform 1 / 0; return new"),
    "a failed assertion in a trigger": trigger("organization_memberships", MEMBER, "assert false; return new"),
    "a check": (
        "alter table clerk.organization_memberships add constraint stays "
        "check (clerk_membership_id <> 'orgmem_2' or deleted_at is null)"
    ),
}
POISON_AT_THE_END: dict[str, LiteralString] = {
    "a trigger at the end of the transaction": (
        "create function public.keep() returns trigger language plpgsql as $$ begin raise 'no'; end $$; "
        "create constraint trigger keep after update on clerk.organization_memberships deferrable initially deferred "
        f"for each row when ({MEMBER}) execute function public.keep()"
    ),
}
NAMED = "rows of the deleted organization that were not written: 1; the first is membership orgmem_2: "


@pytest.mark.parametrize(
    "statement", [*POISON.values(), *POISON_AT_THE_END.values()], ids=[*POISON, *POISON_AT_THE_END]
)
def test_a_row_that_the_app_refuses_in_the_first_part_of_a_delete_holds_up_no_other_row_and_is_named_once(
    statement: LiteralString, store: Store, admin: Connection
) -> None:
    populate(store)
    admin.execute(statement)
    event = deleted("organization", "org_1", at=5, svix_id="msg_1")
    for _ in range(2):
        [answer, other] = store.apply([event, user("user_9", at=1)])
        assert isinstance(answer, ChangeRefused)
        assert not isinstance(other, Exception)
        assert str(answer).startswith(NAMED)
        assert rows(admin, VISIBLE) == [("membership", "orgmem_2")]
        assert rows(admin, UNFINISHED) == [("organization", "org_1", True)]
        assert rows(admin, "select from clerk_sync.deliveries where svix_id = 'msg_1'") == []
    with acting_as(admin, "authenticated", {"sub": "user_2", "role": "authenticated"}):
        assert rows(admin, "select from clerk.organization_memberships") == []
    admin.execute(REMOVE)
    # A replay of the parked event.
    assert store.apply([event]) == ["deleted"]
    assert (rows(admin, VISIBLE), rows(admin, UNFINISHED)) == ([], [])
    assert store.apply([event]) == ["duplicate"]


def test_a_refused_row_holds_up_no_other_row_of_a_delete_without_a_webhook_either(
    store: Store, admin: Connection
) -> None:
    populate(store)
    admin.execute(POISON["an error of a trigger"])
    [answer] = store.apply([(Changes(Delete("organization", "org_1", CREATED_AT + 5)), None)])
    assert isinstance(answer, ChangeRefused)
    assert str(answer).startswith(NAMED)
    assert rows(admin, VISIBLE) == [("membership", "orgmem_2")]


def test_an_object_whose_own_row_the_app_refuses_to_hide_loses_its_other_rows_and_its_access(
    store: Store, admin: Connection
) -> None:
    populate(store)
    admin.execute(trigger("users", "old.clerk_id = 'user_2'", "raise 'no'"))
    event = deleted("user", "user_2", at=5)
    [answer] = store.apply([event])
    assert isinstance(answer, ChangeRefused)
    assert str(answer).startswith("rows of the deleted user that were not written: 1; the first is user user_2: ")
    assert ("membership", "orgmem_2") not in rows(admin, VISIBLE)
    with acting_as(admin, "authenticated", {"sub": "user_2", "role": "authenticated"}):
        assert rows(admin, "select from clerk.users") == []
        assert rows(admin, "select from clerk.users_public") == []
    assert value(admin, "select clerk_sync.rows_left(u) from clerk_sync.unfinished_deletes as u") == 1
    admin.execute(REMOVE)
    finish_deletes(store, lambda: True)
    assert rows(admin, "select clerk_id from clerk.users where deleted_at is not null") == [("user_2",)]
    assert store.apply([event]) == ["deleted"]


def test_an_object_without_children_whose_row_the_app_refuses_is_not_deleted(store: Store, admin: Connection) -> None:
    populate(store)
    admin.execute(POISON["an error of a trigger"])
    [answer] = store.apply([deleted("organizationMembership", "orgmem_2", at=5)])
    assert isinstance(answer, ChangeRefused)
    assert ("membership", "orgmem_2") in rows(admin, VISIBLE)
    assert rows(admin, UNFINISHED) == []


def test_a_row_that_the_app_has_locked_holds_up_no_other_row_of_the_first_part(
    store: Store, admin: Connection, database: Database
) -> None:
    populate(store)
    event = deleted("organization", "org_1", at=5)
    hasty = Store(Fixed(database.worker_url_with(lock_timeout="200ms")))
    with closing(hasty), database.connect() as app:
        app.execute("begin")
        app.execute("select from clerk.organization_memberships where clerk_membership_id = 'orgmem_2' for update")
        [answer] = hasty.apply([event])
        assert isinstance(answer, RowUnavailable)
        assert "membership orgmem_2: locked by another transaction" in str(answer)
        assert rows(admin, VISIBLE) == [("membership", "orgmem_2")]
        app.rollback()
    assert store.apply([event]) == ["deleted"]
    assert (rows(admin, VISIBLE), rows(admin, UNFINISHED)) == ([], [])


def test_an_object_whose_own_row_the_app_has_locked_is_deleted_as_a_whole_when_the_event_comes_again(
    store: Store, admin: Connection, database: Database
) -> None:
    populate(store)
    event = deleted("user", "user_2", at=5)
    hasty = Store(Fixed(database.worker_url_with(lock_timeout="200ms")))
    with closing(hasty), database.connect() as app:
        app.execute("begin")
        app.execute("select from clerk.users where clerk_id = 'user_2' for update")
        assert isinstance(hasty.apply([event])[0], RowUnavailable)
        assert rows(admin, UNFINISHED) == []
        assert rows(admin, "select from clerk_sync.entities where deleted_at is not null") == []
        app.rollback()
    assert store.apply([event]) == ["deleted"]


def test_a_comparison_calls_a_delete_whose_rows_the_app_refuses_not_settled(database: Database) -> None:
    with rig_with(database, 3) as rig:
        rig.run()
        rig.admin.execute(trigger("users", "old.clerk_id like '%1'", "raise 'no'"))
        del rig.world.users[member(1)]
        for _ in range(2):
            report = rig.run()
            assert report.counts["user"].get("deleted", 0) == 0
        assert member(1) in rig.shown()
        rig.admin.execute(REMOVE)
        rig.run()
        assert rig.shown() == {member(0), member(2)}


def test_a_trigger_that_takes_longer_than_a_statement_may_still_postpones_the_whole_delete(
    store: Store, admin: Connection, database: Database
) -> None:
    """The time is over for every row: Postgres limits the rest of such a statement no more."""
    populate(store)
    admin.execute(trigger("organization_memberships", MEMBER, "perform pg_sleep(9); return new"))
    hasty = Store(Fixed(database.worker_url_with(statement_timeout="300ms")))
    with closing(hasty):
        assert isinstance(hasty.apply([deleted("organization", "org_1", at=5)])[0], RowUnavailable)
    assert len(rows(admin, VISIBLE)) == MEMBERS + 1


def test_a_proof_of_a_comparison_and_its_repair_hold_up_no_other_row_either(store: Store, admin: Connection) -> None:
    populate(store)
    admin.execute(POISON["an error of a trigger"])
    proof = Changes(Delete("organization", "org_1", CREATED_AT + 5)), Reconciled("reconcile-0-org_1")
    assert str(store.apply([proof])[0]).startswith(NAMED)
    assert rows(admin, VISIBLE) == [("membership", "orgmem_2")]
    admin.execute(REMOVE)
    assert store.apply([proof]) == ["deleted"]
    assert rows(admin, VISIBLE) == []

    admin.execute(POISON["an error of a trigger"])
    content = {"clerk_org_id": "org_1", "name": "Back"}
    back = Upsert("organization", "org_1", Version(CREATED_AT + 9, CREATED_AT + 9), content)
    restored = Changes(back), Reconciled("reconcile-0-org_1")
    answer = store.apply([restored])[0]
    assert isinstance(answer, ChangeRefused)
    assert "membership orgmem_2" in str(answer)
    assert len(rows(admin, VISIBLE)) == MEMBERS
    assert rows(admin, UNFINISHED) == [("organization", "org_1", False)]
    admin.execute(REMOVE)
    finish_deletes(store, lambda: True)
    assert len(rows(admin, VISIBLE)) == MEMBERS + 1


def test_an_undone_run_shows_all_rows_but_the_refused_one_again(store: Store, admin: Connection) -> None:
    populate(store)
    run = ended_run(admin)
    proof = Changes(Delete("organization", "org_1", CREATED_AT + 5)), Reconciled(f"reconcile-{run}-org_1")
    assert store.apply([proof]) == ["deleted"]
    admin.execute(POISON["an error of a trigger"])
    admin.execute("select clerk_sync.undo_run(jsonb_build_object('run', %s::bigint))", [run])
    assert rows(admin, UNFINISHED) == [("organization", "org_1", False)]
    finish_deletes(store, lambda: True)
    assert len(rows(admin, VISIBLE)) == MEMBERS
    admin.execute(REMOVE)
    finish_deletes(store, lambda: True)
    assert len(rows(admin, VISIBLE)) == MEMBERS + 1
    assert rows(admin, UNFINISHED) == []


def test_an_undone_run_shows_all_memberships_but_the_refused_one_again(store: Store, admin: Connection) -> None:
    populate(store)
    run = ended_run(admin)
    for number in range(1, 4):
        membership_id = f"orgmem_{number}"
        proof = Delete("membership", membership_id, CREATED_AT + 5), Reconciled(f"reconcile-{run}-{membership_id}")
        assert store.apply([(Changes(proof[0]), proof[1])]) == ["deleted"]
    admin.execute(POISON["an error of a trigger"])
    admin.execute("select clerk_sync.undo_run(jsonb_build_object('run', %s::bigint))", [run])
    hidden: LiteralString = (
        "select clerk_membership_id from clerk.organization_memberships where deleted_at is not null"
    )
    assert rows(admin, hidden) == [("orgmem_2",)]
    assert rows(admin, UNFINISHED) == [("membership", "orgmem_2", False)]
    finish_deletes(store, lambda: True)
    assert rows(admin, UNFINISHED) == [("membership", "orgmem_2", False)]
    admin.execute(REMOVE)
    finish_deletes(store, lambda: True)
    assert (rows(admin, hidden), rows(admin, UNFINISHED)) == ([], [])


def test_an_undone_run_shows_all_rows_but_the_one_refused_at_the_end_of_the_transaction(
    store: Store, admin: Connection, database: Database
) -> None:
    populate(store)
    run = ended_run(admin)
    proof = Changes(Delete("organization", "org_1", CREATED_AT + 5)), Reconciled(f"reconcile-{run}-org_1")
    assert store.apply([proof]) == ["deleted"]
    for statement in POISON_AT_THE_END.values():
        admin.execute(statement)
    with closing(Store(Fixed(f"{database.url}?sslmode=disable"))) as operator:
        assert Runs(operator).undo(run).restored == [("organization", "org_1")]
    assert len(rows(admin, VISIBLE)) == MEMBERS
    assert rows(admin, UNFINISHED) == [("organization", "org_1", False)]


def test_a_delete_killed_after_its_refused_row_was_left_ends_with_the_next_delivery(
    store: Store, admin: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    populate(store)
    admin.execute(POISON["an error of a trigger"])
    event = deleted("organization", "org_1", at=5, svix_id="msg_1")

    def killed(*_: object) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as dying:
        dying.setattr(store, "finish_delete", killed)
        with pytest.raises(KeyboardInterrupt):
            store.apply([event])
    assert rows(admin, UNFINISHED) == [("organization", "org_1", True)]
    assert ("organization", "org_1") not in rows(admin, VISIBLE)
    with acting_as(admin, "authenticated", {"sub": "user_1", "role": "authenticated"}):
        assert rows(admin, "select from clerk.organization_memberships") == []
    # An older change of the organization and a new member come in between.
    answers = store.apply([organization("org_1", at=2, name="Late"), membership("orgmem_9", user_id="user_1", at=9)])
    assert not any(isinstance(answer, Exception) for answer in answers)
    assert isinstance(store.apply([event])[0], ChangeRefused)
    assert rows(admin, VISIBLE) == [("membership", "orgmem_2")]
    admin.execute(REMOVE)
    assert store.apply([event, event]) == ["deleted", "duplicate"]
    assert rows(admin, VISIBLE) == []


@pytest.mark.parametrize("seed", range(3))
def test_many_deletes_with_refused_rows_beside_each_other_come_to_one_end(
    seed: int, store: Store, admin: Connection, database: Database
) -> None:
    """No two sessions wait for each other, and no row is left that the app does not refuse."""
    populate(store)
    admin.execute(POISON["an error of a trigger"])
    events = [deleted("organization", "org_1", at=5), *(deleted("user", f"user_{n}", at=6) for n in range(MEMBERS))]

    def work(first: int) -> None:
        with closing(Store(Fixed(database.worker_url))) as worker:
            for place in range(len(events)):
                answer = worker.apply([events[(first + place * (seed + 1)) % len(events)]])[0]
                assert not isinstance(answer, Exception) or "orgmem_2" in str(answer)

    with ThreadPoolExecutor() as threads:
        for each in [threads.submit(work, first) for first in range(4)]:
            each.result()
    finish_deletes(store, lambda: True)
    assert rows(admin, VISIBLE) == [("membership", "orgmem_2")]
    assert value(admin, "select deadlocks from pg_stat_database where datname = current_database()") == 0
    admin.execute(REMOVE)
    finish_deletes(store, lambda: True)
    assert (rows(admin, VISIBLE), rows(admin, UNFINISHED)) == ([], [])


@pytest.mark.parametrize("what", ["apply", "undo"])
def test_a_missing_column_is_no_fault_of_a_row_and_leaves_everything_as_it_was(
    what: str, store: Store, admin: Connection
) -> None:
    """As in a database of another version: the event waits for the right one, and nothing is parked."""
    populate(store)
    run = ended_run(admin)
    if what == "undo":
        proof = Changes(Delete("user", "user_1", CREATED_AT + 5)), Reconciled(f"reconcile-{run}-user_1")
        assert store.apply([proof]) == ["deleted"]
    before = rows(admin, VISIBLE)
    # The projection of a user reads the column.
    admin.execute("alter table clerk.users rename column first_name to given_name")
    if what == "undo":
        with pytest.raises(psycopg.errors.UndefinedColumn):
            admin.execute("select clerk_sync.undo_run(jsonb_build_object('run', %s::bigint))", [run])
    else:
        with pytest.raises(Retryable):
            store.apply([deleted("user", "user_1", at=5)])
    assert (rows(admin, VISIBLE), rows(admin, UNFINISHED)) == (before, [])
