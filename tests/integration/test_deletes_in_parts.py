"""Deletes with more rows than a statement should hide: applied part by part, and seen by nobody from the first on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any, LiteralString

import pytest

from clerk_supabase.credentials import Fixed
from clerk_supabase.errors import ChangeRefused, DeleteUnfinished, RowUnavailable
from clerk_supabase.model.changes import Changes, Delete, Reconciled, Source, Upsert, Version
from clerk_supabase.postgres import store as of_store
from clerk_supabase.postgres.store import Store
from clerk_supabase.reconcile.corrections.unfinished import finish_deletes
from clerk_supabase_cli.operate.monitor.database_state import read_database
from clerk_supabase_cli.operate.monitor.problems import unfinished_problems
from tests.kit import billing
from tests.kit.databases import Connection, Database, Databases, acting_as, rows, value
from tests.kit.feeding import switch as switch_feed
from tests.kit.histories import CREATED_AT
from tests.kit.parked import Command
from tests.kit.polling import eventually
from tests.kit.webhooks import deleted, membership, organization, user

MEMBERS = 60
# Of each kind.
ROWS_IN_PART = 1


@pytest.fixture
def store(store: Store, admin: Connection) -> Store:
    admin.execute(
        "create or replace function clerk_sync.rows_in_part() returns integer language sql immutable "
        f"set search_path = pg_catalog, pg_temp as 'select {ROWS_IN_PART}'"
    )
    return store


@pytest.fixture
def another(databases: Databases) -> Iterator[Database]:
    """A database in which every delete is applied at once."""
    database = databases.take()
    yield database
    databases.give_back(database)


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time of a batch is over after its first part, as after a crash."""
    monkeypatch.setattr(of_store, "_SECONDS_FOR_PARTS", -1.0)


def populate(store: Store) -> None:
    people = [user(f"user_{n}", at=1) for n in range(MEMBERS)]
    members = [membership(f"orgmem_{n}", user_id=f"user_{n}", at=1) for n in range(MEMBERS)]
    items = [billing.item(f"csub_item_{n}", at=1, user_id="", org_id="org_1") for n in range(MEMBERS)]
    for answer in store.apply([*people, organization("org_1", at=1), *members, *items]):
        assert answer == "created"


def shown(admin: Connection) -> int:
    """The number of child rows of org_1 that are not hidden yet."""
    return int(
        value(
            admin,
            "select (select count(*) from clerk.organization_memberships where deleted_at is null)"
            " + (select count(*) from clerk.subscription_items where deleted_at is null)",
        )
    )


def unfinished(admin: Connection) -> list[tuple[Any, ...]]:
    return rows(admin, "select kind, id, is_deleted from clerk_sync.unfinished_deletes order by kind, id")


def child_rows(admin: Connection) -> list[tuple[Any, ...]]:
    return rows(
        admin,
        "select clerk_membership_id, deleted_at from clerk.organization_memberships"
        " union all select clerk_subscription_item_id, deleted_at from clerk.subscription_items order by 1",
    )


def apply_until_done(store: Store, event: tuple[Changes, Source]) -> int:
    """The number of times that SQS delivers an event until the last part is applied."""
    for number in range(1, 50):
        [answer] = store.apply([event])
        if not isinstance(answer, DeleteUnfinished):
            assert answer == "deleted"
            return number
    raise AssertionError("the delete does not end")


def test_a_delete_with_many_rows_is_applied_within_one_call_if_there_is_time(store: Store, admin: Connection) -> None:
    populate(store)
    assert store.apply([deleted("organization", "org_1", at=5, svix_id="msg_1"), user("user_0", at=5)]) == [
        "deleted",
        "unchanged",
    ]
    assert (shown(admin), unfinished(admin)) == (0, [])
    assert len({moment for _, moment in child_rows(admin)}) == 1
    assert rows(admin, "select outcome from clerk_sync.deliveries where svix_id = 'msg_1'") == [("deleted",)]


@pytest.mark.usefixtures("stopped")
def test_each_part_is_kept_and_the_event_is_recorded_after_the_last(store: Store, admin: Connection) -> None:
    populate(store)
    event = deleted("organization", "org_1", at=5, svix_id="msg_1")
    left = [shown(admin)]
    while isinstance(store.apply([event])[0], DeleteUnfinished):
        left.append(shown(admin))
        assert unfinished(admin) == [("organization", "org_1", True)]
        assert rows(admin, "select from clerk_sync.deliveries where svix_id = 'msg_1'") == []
        total = value(admin, "select clerk_sync.rows_left(u) from clerk_sync.unfinished_deletes as u")
        assert total == left[-1]
    assert left == sorted(set(left), reverse=True)
    assert len(left) == 3
    assert (shown(admin), unfinished(admin)) == (0, [])
    assert rows(admin, "select outcome from clerk_sync.deliveries where svix_id = 'msg_1'") == [("deleted",)]
    assert store.apply([event]) == ["duplicate"]


OF_MEMBERS: dict[str, LiteralString] = {
    "organizations": "select count(*) from clerk.organizations where clerk_org_id = 'org_1'",
    "memberships": "select count(*) from clerk.organization_memberships where clerk_org_id = 'org_1'",
    "items": "select count(*) from clerk.subscription_items where clerk_org_id = 'org_1'",
    "profiles": "select count(*) from clerk.users_public where clerk_id <> 'user_59'",
    "a table of the app": "select count(*) from public.notes",
}


@pytest.mark.usefixtures("stopped")
def test_from_the_first_part_on_a_member_sees_nothing_of_the_organization(store: Store, admin: Connection) -> None:
    populate(store)
    may_read_billing = ["org:sys_billing:manage"]
    store.apply([membership("orgmem_59", user_id="user_59", at=2, role="org:admin", permissions=may_read_billing)])
    admin.execute(
        "create table public.notes (id int primary key, organization_id text); "
        "insert into public.notes values (1, 'org_1'); "
        "select clerk_sync.secure('public.notes', 'organization'); "
        "select clerk_sync.set_profile_visibility('organizations')"
    )
    claims = {"sub": "user_59", "v": 2, "o": {"id": "org_1", "rol": "admin"}}

    def seen() -> dict[str, int]:
        with acting_as(admin, "authenticated", claims):
            return {name: value(admin, query) for name, query in OF_MEMBERS.items()}

    assert seen() == {
        "organizations": 1,
        "memberships": MEMBERS,
        "items": MEMBERS,
        "profiles": MEMBERS - 1,
        "a table of the app": 1,
    }
    [answer] = store.apply([deleted("organization", "org_1", at=5)])
    assert isinstance(answer, DeleteUnfinished)
    own = "select deleted_at from clerk.organization_memberships where clerk_membership_id = 'orgmem_59'"
    assert rows(admin, own) == [(None,)]
    assert set(seen().values()) == {0}


@pytest.mark.usefixtures("stopped")
def test_other_members_see_no_row_of_a_user_who_is_half_deleted(store: Store, admin: Connection) -> None:
    store.apply([user("user_1", at=1), user("user_2", at=1)])
    ids = [f"org_{n}" for n in range(MEMBERS)]
    store.apply([organization(each, at=1) for each in ids])
    store.apply([membership(f"orgmem_{each}", org_id=each, user_id="user_1", at=1) for each in ids])
    store.apply([membership(f"orgmem_2{each}", org_id=each, user_id="user_2", at=1) for each in ids])
    [answer] = store.apply([deleted("user", "user_1", at=5)])
    assert isinstance(answer, DeleteUnfinished)
    left = "select count(*) from clerk.organization_memberships where clerk_user_id = 'user_1' and deleted_at is null"
    assert value(admin, left) > 0
    with acting_as(admin, "authenticated", {"sub": "user_2"}):
        assert rows(admin, "select distinct clerk_user_id from clerk.organization_memberships") == [("user_2",)]


BETWEEN: dict[str, Sequence[tuple[Changes, Source]]] = {
    "events of the organization and of children": [
        organization("org_1", at=9, name="Late"),
        membership("orgmem_7", user_id="user_7", at=9, role="org:admin"),
        membership("orgmem_new", user_id="user_8", at=9),
        billing.item("csub_item_9", at=9, user_id="", org_id="org_1", status="canceled"),
    ],
    "a member left earlier": [deleted("organizationMembership", f"orgmem_{n}", at=3) for n in range(0, MEMBERS, 7)],
    "a member left later": [deleted("organizationMembership", f"orgmem_{n}", at=8) for n in range(0, MEMBERS, 7)],
    "users were deleted": [deleted("user", f"user_{n}", at=4 + n % 3) for n in range(0, MEMBERS, 5)],
    "an earlier event of the delete": [deleted("organization", "org_1", at=4, svix_id="msg_earlier")],
}


@pytest.mark.usefixtures("stopped")
@pytest.mark.parametrize("between", BETWEEN.values(), ids=BETWEEN)
def test_whatever_comes_between_two_parts_the_end_is_as_if_the_delete_came_at_once(
    between: Sequence[tuple[Changes, Source]], store: Store, admin: Connection, another: Database
) -> None:
    event = deleted("organization", "org_1", at=5)
    populate(store)
    assert isinstance(store.apply([event])[0], DeleteUnfinished)
    for change in between:
        if isinstance(store.apply([change])[0], DeleteUnfinished):
            apply_until_done(store, change)
    apply_until_done(store, event)
    finish_deletes(store, lambda: True)
    in_parts = child_rows(admin)
    assert (shown(admin), unfinished(admin)) == (0, [])

    with closing(Store(Fixed(another.worker_url))) as at_once, another.connect() as connection:
        populate(at_once)
        for change in (*between, event):
            at_once.apply([change])
        assert child_rows(connection) == in_parts


def proof(at: int, run: int = 0) -> tuple[Changes, Source]:
    return Changes(Delete("organization", "org_1", CREATED_AT + at)), Reconciled(f"reconcile-{run}-org_1")


def shown_again(at: int) -> tuple[Changes, Source]:
    content = {"clerk_org_id": "org_1", "name": "Back"}
    change = Upsert("organization", "org_1", Version(CREATED_AT + at, CREATED_AT + at), content)
    return Changes(change), Reconciled("reconcile-0-org_1")


@pytest.mark.usefixtures("stopped")
def test_a_delete_lifted_between_two_parts_shows_all_rows_again(store: Store, admin: Connection) -> None:
    populate(store)
    store.apply([deleted("organizationMembership", "orgmem_3", at=2)])
    assert isinstance(store.apply([proof(5)])[0], DeleteUnfinished)
    assert 0 < shown(admin) < 2 * MEMBERS - 1
    store.apply([shown_again(9)])
    finish_deletes(store, lambda: True)
    assert (shown(admin), unfinished(admin)) == (2 * MEMBERS - 1, [])
    # And gone again, with the older restore still unfinished.
    store.apply([proof(12)])
    store.apply([shown_again(13)])
    store.apply([deleted("organization", "org_1", at=20)])
    assert unfinished(admin) == [("organization", "org_1", True)]
    finish_deletes(store, lambda: True)
    assert (shown(admin), unfinished(admin)) == (0, [])


@pytest.mark.usefixtures("stopped")
def test_a_table_of_the_app_that_follows_the_mirror_follows_each_part(store: Store, admin: Connection) -> None:
    admin.execute("create table public.members (id text primary key, organization text)")
    switch_feed(
        admin,
        kind="membership",
        table="public.members",
        key={"id": "mirror.clerk_membership_id"},
        update={"organization": "mirror.clerk_org_id"},
        on_delete="delete",
    )
    populate(store)
    visible: LiteralString = (
        "select clerk_membership_id from clerk.organization_memberships where deleted_at is null order by 1"
    )
    followed: LiteralString = "select id from public.members order by 1"
    assert len(rows(admin, followed)) == MEMBERS
    event = deleted("organization", "org_1", at=5)
    while isinstance(store.apply([event])[0], DeleteUnfinished):
        assert rows(admin, followed) == rows(admin, visible)
    assert rows(admin, followed) == []


@pytest.mark.usefixtures("stopped")
def test_an_archived_instance_takes_its_unfinished_delete_along_and_brings_it_back(
    store: Store, admin: Connection, database: Database
) -> None:
    populate(store)
    admin.execute("insert into clerk_sync.instance (instance_id) values ('ins_old')")
    event = deleted("organization", "org_1", at=5)
    assert isinstance(store.apply([event])[0], DeleteUnfinished)
    left = shown(admin)
    command = Command({"DATABASE_URL": database.url})
    command.run("switch-instance", "--to", "ins_new", "--write")
    assert (shown(admin), unfinished(admin)) == (0, [])
    finish_deletes(store, lambda: True)
    command.run("switch-instance", "--undo", "--write")
    assert (shown(admin), unfinished(admin)) == (left, [("organization", "org_1", True)])
    apply_until_done(store, event)
    assert (shown(admin), unfinished(admin)) == (0, [])


@pytest.mark.usefixtures("stopped")
def test_a_purge_waits_for_the_last_part(store: Store, admin: Connection) -> None:
    populate(store)
    store.apply([deleted("organization", "org_1", at=5)])
    left = shown(admin)
    purge: LiteralString = "select count(*) from clerk_sync.purge(interval '0', 'delete') where kind = 'organization'"
    assert value(admin, purge) == 0
    assert shown(admin) == left
    finish_deletes(store, lambda: True)
    assert value(admin, purge) == 1
    assert child_rows(admin) == []


@pytest.mark.usefixtures("stopped")
def test_a_trigger_that_keeps_a_row_is_named_and_ends_no_other_delete(store: Store, admin: Connection) -> None:
    populate(store)
    admin.execute(
        "create function public.keep() returns trigger language plpgsql as $$ begin return null; end $$; "
        "create trigger keep before update on clerk.subscription_items for each row "
        "when (old.clerk_subscription_item_id = 'csub_item_31') execute function public.keep()"
    )
    event = deleted("organization", "org_1", at=5)
    answers = [store.apply([event])[0] for _ in range(9)]
    assert isinstance(answers[0], DeleteUnfinished)
    assert isinstance(answers[-1], ChangeRefused)
    assert "a trigger of the app keeps the row" in str(answers[-1])
    finish_deletes(store, lambda: True)
    assert unfinished(admin) == [("organization", "org_1", True)]
    admin.execute("drop trigger keep on clerk.subscription_items")
    finish_deletes(store, lambda: True)
    assert (shown(admin), unfinished(admin)) == (0, [])


POISON: dict[str, LiteralString] = {
    "a trigger": (
        "create function public.keep() returns trigger language plpgsql as $$ begin raise 'no'; end $$; "
        "create trigger keep before update on clerk.subscription_items for each row "
        "when (old.clerk_subscription_item_id = 'csub_item_31') execute function public.keep()"
    ),
    "a check": (
        "alter table clerk.subscription_items add constraint stays "
        "check (clerk_subscription_item_id <> 'csub_item_31' or deleted_at is null)"
    ),
}


@pytest.mark.usefixtures("stopped")
@pytest.mark.parametrize("statement", POISON.values(), ids=POISON)
def test_a_row_that_the_app_refuses_holds_up_no_other_row_and_is_named_once(
    statement: LiteralString, store: Store, admin: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    populate(store)
    admin.execute(statement)
    monkeypatch.setattr(of_store, "_SECONDS_FOR_PARTS", 12.0)
    [answer] = store.apply([deleted("organization", "org_1", at=5, svix_id="msg_1")])
    assert isinstance(answer, ChangeRefused)
    assert str(answer).startswith(
        "rows of the deleted organization that were not written: 1; the first is subscription_item csub_item_31: "
    )
    left = "select clerk_subscription_item_id from clerk.subscription_items where deleted_at is null"
    assert rows(admin, left) == [("csub_item_31",)]
    assert (shown(admin), unfinished(admin)) == (1, [("organization", "org_1", True)])
    admin.execute("drop trigger if exists keep on clerk.subscription_items")
    admin.execute("alter table clerk.subscription_items drop constraint if exists stays")
    # A replay of the parked event.
    assert store.apply([deleted("organization", "org_1", at=5, svix_id="msg_1")]) == ["deleted"]
    assert (shown(admin), unfinished(admin)) == (0, [])


@pytest.mark.usefixtures("stopped")
def test_a_row_that_the_app_has_locked_holds_up_no_other_row_of_a_delete(
    store: Store, admin: Connection, database: Database
) -> None:
    populate(store)
    assert isinstance(store.apply([deleted("organization", "org_1", at=5)])[0], DeleteUnfinished)
    hasty = Store(Fixed(database.worker_url_with(lock_timeout="200ms")))
    with closing(hasty), database.connect() as app:
        app.execute("begin")
        app.execute("select from clerk.subscription_items where clerk_subscription_item_id = 'csub_item_31' for update")
        with pytest.raises(RowUnavailable, match="csub_item_31: locked by another transaction"):
            hasty.finish_delete("organization", "org_1", lambda: True)
        assert shown(admin) == 1
        app.rollback()
    finish_deletes(store, lambda: True)
    assert (shown(admin), unfinished(admin)) == (0, [])


def test_an_app_that_refuses_every_row_of_a_delete_ends_it_after_some_rows(store: Store, admin: Connection) -> None:
    populate(store)
    admin.execute("alter table clerk.subscription_items add constraint stays check (deleted_at is null) not valid")
    admin.execute(
        "create or replace function clerk_sync.hide_subscription_item(deleted clerk_sync.change[], kinds text[]) "
        "returns void language sql as 'select clerk_sync.leave_rest(deleted, ''{organization}'')'"
    )
    [answer] = store.apply([deleted("organization", "org_1", at=5)])
    assert isinstance(answer, ChangeRefused)
    assert f"that were not written: {MEMBERS}; the first is subscription_item csub_item_0: stays" in str(answer)
    assert shown(admin) == MEMBERS


IN_THE_WAY: dict[str, LiteralString] = {
    "a trigger that raises what passes elsewhere": (
        "create function public.keep() returns trigger language plpgsql as $$ begin raise lock_not_available; end $$; "
        "create trigger keep before update on clerk.subscription_items for each row "
        "when (old.clerk_org_id = 'org_1') execute function public.keep()"
    ),
    "a lock": (
        "select from clerk.organization_memberships where clerk_org_id = 'org_1' and deleted_at is null for update"
    ),
}


@pytest.mark.usefixtures("stopped")
@pytest.mark.parametrize("statement", IN_THE_WAY.values(), ids=IN_THE_WAY)
def test_a_row_that_is_not_available_ends_no_other_delete(
    statement: LiteralString, store: Store, admin: Connection, database: Database
) -> None:
    populate(store)
    store.apply([organization("org_2", at=1)])
    store.apply([membership(f"orgmem_of_2_{n}", org_id="org_2", user_id=f"user_{n}", at=1) for n in range(MEMBERS)])
    for org in ("org_1", "org_2"):
        assert isinstance(store.apply([deleted("organization", org, at=5)])[0], DeleteUnfinished)
    hasty = Store(Fixed(database.worker_url_with(lock_timeout="200ms")))
    with closing(hasty), database.connect() as app:
        app.execute("begin")
        app.execute(statement)
        if "trigger" in statement:
            app.execute("commit")
        finish_deletes(hasty, lambda: True)
        assert unfinished(admin) == [("organization", "org_1", True)]
        app.rollback()
    admin.execute("drop trigger if exists keep on clerk.subscription_items")
    finish_deletes(store, lambda: True)
    assert (shown(admin), unfinished(admin)) == (0, [])


def waits_for_advisory_lock(admin: Connection) -> bool:
    return bool(value(admin, "select exists (select from pg_locks where locktype = 'advisory' and not granted)"))


def test_a_trigger_that_takes_its_time_for_each_row_keeps_no_delete_from_its_end(
    database: Database, admin: Connection
) -> None:
    """All rows of the delete take longer than a statement may; those of a part do not."""
    with closing(Store(Fixed(database.worker_url_with(statement_timeout="5s")))) as store:
        people = [user(f"user_{n}", at=1) for n in range(1_400)]
        members = [membership(f"orgmem_{n}", user_id=f"user_{n}", at=1) for n in range(1_400)]
        store.apply([*people, organization("org_1", at=1), *members])
        admin.execute(
            "create function public.slow() returns trigger language plpgsql"
            " as 'begin perform pg_sleep(0.004); return new; end'"
        )
        admin.execute(
            "create trigger slow before update on clerk.organization_memberships"
            " for each row execute function public.slow()"
        )
        assert store.apply([deleted("organization", "org_1", at=5)]) == ["deleted"]
    assert (shown(admin), unfinished(admin)) == (0, [])


@pytest.mark.usefixtures("stopped")
def test_a_tombstone_that_moves_during_a_part_is_no_trigger_that_keeps_a_row(
    store: Store, admin: Connection, database: Database
) -> None:
    """The delete of the user leaves the row that the other session has locked to a later part."""
    populate(store)
    others = [f"org_other_{n}" for n in range(MEMBERS)]
    store.apply([user("user_60", at=1), *(organization(each, at=1) for each in others)])
    store.apply([membership(f"orgmem_{each}", org_id=each, user_id="user_60", at=1) for each in others])
    store.apply([membership("orgmem_60", user_id="user_60", at=1)])
    store.apply([deleted("organization", "org_1", at=5)])
    admin.execute(
        "create function public.wait() returns trigger language plpgsql as "
        "$$ begin perform pg_advisory_xact_lock_shared(1); return new; end $$; "
        "create trigger wait before update on clerk.organization_memberships for each row "
        "when (old.clerk_membership_id = 'orgmem_60') execute function public.wait()"
    )
    is_deleted: LiteralString = "select deleted_at is not null from clerk_sync.entities where id = 'user_60'"
    with ThreadPoolExecutor() as threads, database.connect() as app, closing(store.twin()) as twin:
        app.execute("select pg_advisory_lock(1)")
        organizations = threads.submit(finish_deletes, store, lambda: True)
        eventually(lambda: waits_for_advisory_lock(admin), bool)
        users = threads.submit(twin.apply, [deleted("user", "user_60", at=4)])
        eventually(lambda: value(admin, is_deleted), bool)
        app.execute("select pg_advisory_unlock(1)")
        organizations.result()
        assert not isinstance(users.result()[0], ChangeRefused)
    assert ("organization", "org_1", True) not in unfinished(admin)
    finish_deletes(store, lambda: True)
    assert (shown(admin), unfinished(admin)) == (0, [])
    moment: LiteralString = (
        "select deleted_at = (select deleted_at from clerk.users where clerk_id = 'user_60') "
        "from clerk.organization_memberships where clerk_membership_id = 'orgmem_60'"
    )
    assert value(admin, moment)


@pytest.mark.usefixtures("stopped")
def test_only_the_first_delete_of_a_batch_gets_a_part_when_the_time_is_over(store: Store, admin: Connection) -> None:
    """A part of each would take longer than SyncFunction has."""
    ids = [f"org_{n}" for n in range(4)]
    store.apply([organization(each, at=1) for each in ids])
    store.apply([user(f"user_{n}", at=1) for n in range(9)])
    for each in ids:
        store.apply([membership(f"{each}_{n}", org_id=each, user_id=f"user_{n}", at=1) for n in range(9)])
    events = [deleted("organization", each, at=5) for each in ids]
    left = "select count(*) from clerk.organization_memberships where deleted_at is null and clerk_org_id <> 'org_0'"
    assert store.apply(events)[0] == "deleted"
    # The first three rows of all of them were hidden with the organizations.
    assert value(admin, left) >= 9 * 3 - ROWS_IN_PART
    numbers = [len([each for each in store.apply(events) if isinstance(each, DeleteUnfinished)]) for _ in range(3)]
    assert numbers == [2, 1, 0]
    assert (shown(admin), unfinished(admin)) == (0, [])


@pytest.mark.usefixtures("stopped")
def test_status_says_how_many_rows_are_left(store: Store, admin: Connection, database: Database) -> None:
    populate(store)
    store.apply([deleted("organization", "org_1", at=5)])
    [problem] = unfinished_problems(read_database(database.url, compares_objects=False).unfinished)
    assert problem.startswith("the delete of org_1 (organization) is being applied since ")
    assert problem.endswith(f" UTC: {shown(admin)} rows left")


@pytest.mark.usefixtures("stopped")
def test_many_workers_beside_a_purge_and_new_events_come_to_one_end(
    store: Store, admin: Connection, database: Database
) -> None:
    """No wait of two sessions for each other: Postgres would end one of them with an error."""
    populate(store)
    event = deleted("organization", "org_1", at=5)
    users = [deleted("user", f"user_{n}", at=6) for n in range(MEMBERS)]
    changes = [membership(f"orgmem_{n}", user_id=f"user_{n}", at=7) for n in range(MEMBERS)]

    def apply(events: Sequence[tuple[Changes, Source]]) -> None:
        with closing(Store(Fixed(database.worker_url))) as worker:
            for each in events:
                answers = worker.apply([each])
                assert all(isinstance(answer, str | DeleteUnfinished) for answer in answers)
            finish_deletes(worker, lambda: True)

    def purge() -> None:
        with database.connect() as connection:
            for _ in range(10):
                connection.execute("select clerk_sync.purge(interval '0', 'delete', 5)")

    with ThreadPoolExecutor() as threads:
        at_work = [threads.submit(apply, each) for each in ([event] * 9, [event] * 9, users, users[::-1], changes)]
        for each in [*at_work, threads.submit(purge)]:
            each.result()
    finish_deletes(store, lambda: True)
    assert (shown(admin), unfinished(admin)) == (0, [])


@pytest.mark.parametrize("sizes", [[300] * 10, [40] * 5 + [2_600] + [40] * 4], ids=["ten alike", "a large one"])
def test_many_deletes_of_one_batch_all_come_to_their_end(
    sizes: Sequence[int], database: Database, admin: Connection
) -> None:
    """The children of all deletes of a batch count together towards the limit of a part."""
    with closing(Store(Fixed(database.worker_url))) as store:
        store.apply([user(f"user_{n}", at=1) for n in range(max(sizes))])
        for number, size in enumerate(sizes):
            store.apply([organization(f"org_{number}", at=1)])
            store.apply(
                [
                    membership(f"orgmem_{number}_{n}", org_id=f"org_{number}", user_id=f"user_{n}", at=1)
                    for n in range(size)
                ]
            )
        events = [deleted("organization", f"org_{number}", at=5) for number in range(len(sizes))]
        deliveries = 1
        while any(isinstance(answer, DeleteUnfinished) for answer in store.apply(events)):
            deliveries += 1
            assert deliveries <= len(sizes)
        assert (shown(admin), unfinished(admin)) == (0, [])
