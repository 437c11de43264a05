"""Memberships of users in organizations, in every order of events, and with any number of workers."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from random import Random

import pytest

from clerk_supabase.credentials import Fixed
from clerk_supabase.postgres.store import Store
from clerk_supabase_cli.standin import samples
from tests.kit.databases import WORKER, Connection, Database, acting_as, empty, rows, tables, value
from tests.kit.histories import CREATED_AT, Applied
from tests.kit.polling import eventually
from tests.kit.webhooks import deleted, domain, invitation, membership, organization, told, user

VISIBLE = "select clerk_membership_id from clerk.organization_memberships where deleted_at is null order by 1"


def apply_each(store: Store, events: Sequence[Applied]) -> None:
    """Applies the events one by one, as a worker that receives them one by one."""
    for event in events:
        store.apply([event])


def visible(admin: Connection) -> list[str]:
    return [key for (key,) in rows(admin, VISIBLE)]


def ends_the_same(orders: Sequence[Sequence[Applied]], store: Store, admin: Connection) -> None:
    """Applies the events in each of these orders, one by one, and compares the tables."""
    first = None
    for order in orders:
        empty(admin)
        apply_each(store, order)
        found = tables(admin)
        first = first or found
        assert found == first


# Parents that have not arrived


@pytest.mark.parametrize("order", [1, -1], ids=["the user first", "the membership first"])
def test_a_membership_does_not_restore_the_access_of_a_deprovisioned_user(
    order: int, store: Store, admin: Connection
) -> None:
    for event in [user(at=1, deprovisioned=True), told_of_member(at=9, deprovisioned=False)][::order]:
        store.apply([event])
    assert value(admin, "select deprovisioned from clerk.users")
    assert rows_seen_by_member(admin) == 0


def test_a_user_known_from_a_membership_alone_is_deprovisioned_if_the_membership_says_so(
    store: Store, admin: Connection
) -> None:
    store.apply([told_of_member(at=1, deprovisioned=True)])
    assert rows_seen_by_member(admin) == 0
    # Once Clerk has said it of the user, a membership no longer counts.
    store.apply([user(at=2)])
    assert rows_seen_by_member(admin) == 1
    store.apply([told_of_member(at=3, deprovisioned=True)])
    assert rows_seen_by_member(admin) == 1


def told_of_member(*, at: int, deprovisioned: bool) -> Applied:
    """A membership of user_1, with the field that tells whether its user is deprovisioned."""
    member = samples.user("user_1", created_at=CREATED_AT, updated_at=CREATED_AT, deprovisioned=deprovisioned)
    org = samples.organization("org_1", created_at=CREATED_AT, updated_at=CREATED_AT)
    data = samples.membership("orgmem_1", org, member, created_at=CREATED_AT, updated_at=CREATED_AT + at)
    return told("organizationMembership.updated", data, at=at)


def rows_seen_by_member(admin: Connection) -> int:
    """Counts the organizations that user_1 sees."""
    with acting_as(admin, "authenticated", {"sub": "user_1"}):
        return len(rows(admin, "select clerk_org_id from clerk.organizations"))


def test_a_membership_that_arrives_first_makes_its_organization_and_its_user(store: Store, admin: Connection) -> None:
    assert store.apply([membership(at=5)]) == ["created"]
    assert rows(admin, "select clerk_org_id, name, slug from clerk.organizations") == [
        ("org_1", "Example Labs", "org-1")
    ]
    assert rows(admin, "select clerk_id, first_name, email, email_addresses, created_at from clerk.users") == [
        ("user_1", "Ada", None, [], None)
    ]
    assert rows(admin, "select clerk_id, first_name from clerk.users_public") == [("user_1", "Ada")]
    assert visible(admin) == ["orgmem_1"]


def test_a_membership_and_its_parents_end_the_same_in_every_order(store: Store, admin: Connection) -> None:
    # By Clerk's clock the parents are older than the membership that tells of them.
    events = [user(at=1, last_name="True"), organization(at=1, name="True"), membership(at=5)]
    ends_the_same([*itertools.permutations(events)], store, admin)
    assert value(admin, "select email from clerk.users") == "1@example.test"
    assert value(admin, "select last_name from clerk.users_public") == "True"
    assert value(admin, "select name from clerk.organizations") == "True"


def test_parents_in_the_same_batch_as_the_membership_end_the_same(store: Store, admin: Connection) -> None:
    events = [user(at=1, last_name="True"), organization(at=1, name="True"), membership(at=5)]
    apply_each(store, events)
    one_by_one = tables(admin)
    for order in itertools.permutations(events):
        empty(admin)
        assert store.apply(order) == ["created"] * 3
        assert tables(admin) == one_by_one


def test_a_membership_takes_nothing_from_what_is_known_of_its_parents(store: Store, admin: Connection) -> None:
    store.apply([user(at=1, last_name="True", username="ada"), organization(at=1, name="True", slug="true")])
    before = tables(admin)
    assert store.apply([membership(at=99)]) == ["created"]
    after = tables(admin)
    assert [after[name] for name in ("users", "users_public", "organizations")] == [
        before[name] for name in ("users", "users_public", "organizations")
    ]


def test_of_two_memberships_of_an_unknown_user_the_later_one_wins(store: Store, admin: Connection) -> None:
    def telling(name: str, membership_id: str, at: int) -> Applied:
        org = samples.organization("org_1", created_at=CREATED_AT, updated_at=CREATED_AT + at, name=name)
        member = samples.user("user_1", created_at=CREATED_AT, updated_at=CREATED_AT, last_name=name)
        data = samples.membership(membership_id, org, member, created_at=CREATED_AT, updated_at=CREATED_AT + at)
        return told("organizationMembership.created", data, at=at)

    life = [telling("Old", "orgmem_1", 1), telling("Newer", "orgmem_2", 2), telling("Newest", "orgmem_3", 3)]
    ends_the_same([*itertools.permutations(life)], store, admin)
    assert value(admin, "select last_name from clerk.users") == "Newest"
    assert value(admin, "select name from clerk.organizations") == "Newest"


def test_a_parent_that_a_membership_made_can_be_deleted_like_any_other(store: Store, admin: Connection) -> None:
    store.apply([membership(at=5)])
    assert store.apply([deleted("user", "user_1", at=9)]) == ["deleted"]
    assert visible(admin) == []
    assert value(admin, "select deleted_at is not null from clerk.users")


# Deleted parents


@pytest.mark.parametrize("parent", [("user", "user_1"), ("organization", "org_1")], ids=["user", "organization"])
def test_a_membership_never_restores_a_deleted_parent(parent: tuple[str, str], store: Store, admin: Connection) -> None:
    kind, parent_id = parent
    for known_before in (True, False):
        empty(admin)
        if known_before:
            store.apply([user(at=1), organization(at=1)])
        apply_each(store, [deleted(kind, parent_id, at=2), membership(at=99), membership("orgmem_2", at=100)])
        assert visible(admin) == []
        table = {
            "user": "select deleted_at from clerk.users",
            "organization": "select deleted_at from clerk.organizations",
        }
        assert value(admin, table[kind]) is not None
        if kind == "user":
            assert rows(admin, "select clerk_id from clerk.users_public where deleted_at is null") == []


@pytest.mark.parametrize("parent", [("user", "user_1"), ("organization", "org_1")], ids=["user", "organization"])
def test_deleting_a_parent_hides_its_memberships_whatever_the_order(
    parent: tuple[str, str], store: Store, admin: Connection
) -> None:
    kind, parent_id = parent
    events = [user(at=1), organization(at=1), membership(at=2), deleted(kind, parent_id, at=9)]
    ends_the_same([*itertools.permutations(events)], store, admin)
    assert visible(admin) == []


def test_a_membership_is_hidden_since_the_earliest_delete_that_concerns_it(store: Store, admin: Connection) -> None:
    deletes = [
        deleted("user", "user_1", at=7_000),
        deleted("organization", "org_1", at=5_000),
        deleted("organizationMembership", "orgmem_1", at=6_000),
    ]
    ends_the_same([*itertools.permutations([membership(at=1), *deletes])], store, admin)
    hidden_since = value(admin, "select extract(epoch from deleted_at) * 1000 from clerk.organization_memberships")
    assert hidden_since == CREATED_AT + 5_000


def test_deletes_that_come_in_one_batch_hide_a_membership_since_the_earliest(store: Store, admin: Connection) -> None:
    deletes = [
        deleted("user", "user_1", at=7_000),
        deleted("organization", "org_1", at=5_000),
        deleted("organizationMembership", "orgmem_1", at=6_000),
    ]
    for together in itertools.chain(itertools.permutations(deletes), itertools.permutations(deletes[:2])):
        empty(admin)
        store.apply([membership(at=1)])
        store.apply(together)
        hidden_since = value(admin, "select extract(epoch from deleted_at) * 1000 from clerk.organization_memberships")
        assert hidden_since == CREATED_AT + 5_000


def test_each_membership_is_hidden_since_the_delete_of_its_own_organization(store: Store, admin: Connection) -> None:
    store.apply([membership(at=1), membership("orgmem_2", org_id="org_2", at=1)])
    store.apply([deleted("organization", "org_1", at=5_000), deleted("organization", "org_2", at=7_000)])
    hidden = rows(
        admin,
        """
        select clerk_membership_id, (extract(epoch from deleted_at) * 1000)::bigint
        from clerk.organization_memberships order by 1
        """,
    )
    assert hidden == [("orgmem_1", CREATED_AT + 5_000), ("orgmem_2", CREATED_AT + 7_000)]


def test_the_delete_of_an_organization_does_not_wait_for_a_membership_of_another_one(
    store: Store, admin: Connection
) -> None:
    store.apply([membership(at=1), membership("orgmem_2", org_id="org_2", at=1)])
    with admin.transaction():
        admin.execute("select from clerk.organization_memberships where clerk_org_id = 'org_2' for update")
        store.apply([deleted("organization", "org_1", at=2)])
    assert visible(admin) == ["orgmem_2"]


def test_deleting_a_user_leaves_the_organization_and_the_other_members(store: Store, admin: Connection) -> None:
    store.apply([membership(at=1), membership("orgmem_2", user_id="user_2", at=1), invitation(at=1), domain(at=1)])
    store.apply([deleted("user", "user_1", at=2)])
    assert visible(admin) == ["orgmem_2"]
    for table in ("organizations", "invitations", "domains"):
        assert len(tables(admin)[table]) == 1
    assert value(admin, "select deleted_at from clerk.organizations") is None


# Leaving and coming back


def test_a_member_who_left_and_returned_is_a_member_although_the_old_delete_arrives_last(
    store: Store, admin: Connection
) -> None:
    apply_each(store, [membership("orgmem_old", at=1), membership("orgmem_new", at=3)])
    assert store.apply([deleted("organizationMembership", "orgmem_old", at=2)]) == ["deleted"]
    assert visible(admin) == ["orgmem_new"]


def test_leaving_and_joining_again_ends_the_same_in_every_order(store: Store, admin: Connection) -> None:
    life = [
        membership("orgmem_old", at=1),
        deleted("organizationMembership", "orgmem_old", at=2),
        membership("orgmem_new", at=3),
        membership("orgmem_new", at=4, role="org:admin"),
    ]
    ends_the_same([*itertools.permutations(life)], store, admin)
    assert visible(admin) == ["orgmem_new"]
    assert value(admin, "select role from clerk.organization_memberships where deleted_at is null") == "org:admin"


def test_a_late_update_does_not_restore_a_membership_that_ended(store: Store, admin: Connection) -> None:
    store.apply([membership(at=1), deleted("organizationMembership", "orgmem_1", at=2)])
    assert store.apply([membership(at=99, role="org:admin")]) == ["deleted_before"]
    assert visible(admin) == []


# Several workers at once


def at_once(database: Database, tasks: Sequence[Callable[[Store], object]]) -> None:
    """Runs each task in a thread with a store of its own; all start together. Raises an error of a task."""
    start = threading.Barrier(len(tasks))

    def run(store: Store, task: Callable[[Store], object]) -> object:
        store.apply([user("user_warm", at=1)])
        start.wait(60)
        return task(store)

    with ExitStack() as stack:
        stores = [stack.enter_context(closing(Store(Fixed(database.worker_url)))) for _ in tasks]
        pool = stack.enter_context(ThreadPoolExecutor(len(tasks)))
        for done in [pool.submit(run, store, task) for store, task in zip(stores, tasks, strict=True)]:
            done.result(60)


def deadlocks(database: Database) -> int:
    """The number of deadlocks counted by Postgres; sessions report theirs at their end, so this waits for them."""
    with database.connect() as admin:
        sessions = "select pid from pg_stat_activity where datname = current_database() and usename = %s"
        eventually(lambda: rows(admin, sessions, WORKER), lambda found: found == [])
        return int(value(admin, "select deadlocks from pg_stat_database where datname = current_database()"))


@pytest.mark.parametrize("parent", ["organization", "user"])
def test_a_membership_made_while_its_parent_is_deleted_is_never_seen(parent: str, database: Database) -> None:
    rounds = 60
    meeting = threading.Barrier(3)

    def joining(store: Store) -> None:
        for number in range(rounds):
            event = membership(f"mem_{number}", org_id=f"org_{number}", user_id=f"user_{number}", at=1)
            meeting.wait(60)
            store.apply([event])

    def telling(store: Store) -> None:
        # Knowing the parents or not makes other statements meet; so does a second membership.
        for number in range(rounds):
            ids = {"org_id": f"org_{number}", "user_id": f"user_{number}"}
            event = (
                membership(f"mem_again_{number}", at=2, **ids) if number % 2 else organization(f"org_{number}", at=1)
            )
            meeting.wait(60)
            store.apply([event])

    def deleting(store: Store) -> None:
        prefix = {"organization": "org", "user": "user"}[parent]
        for number in range(rounds):
            event = deleted(parent, f"{prefix}_{number}", at=5)
            meeting.wait(60)
            store.apply([event])

    at_once(database, [joining, telling, deleting])
    with database.connect() as admin:
        assert visible(admin) == []
        assert value(admin, "select count(*) from clerk.organization_memberships") >= rounds


@pytest.mark.parametrize(("kind", "parent_id"), [("user", "user_1"), ("organization", "org_1")])
def test_memberships_are_locked_in_one_order_whichever_parent_is_deleted(
    kind: str, parent_id: str, database: Database, store: Store, admin: Connection
) -> None:
    # Else two deletes that share members could each hold what the other waits for.
    for number in range(9, -1, -1):
        store.apply([membership(f"mem_{number}", at=1)])
    locked = (
        "select clerk_membership_id from clerk.organization_memberships where clerk_membership_id = 'mem_0' for update"
    )
    free = "select clerk_membership_id from clerk.organization_memberships for update skip locked"
    waiting = "select pid from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
    with ThreadPoolExecutor(1) as pool, database.connect() as blocker:
        with blocker.transaction():
            assert rows(blocker, locked) == [("mem_0",)]
            applied = pool.submit(store.apply, [deleted(kind, parent_id, at=9)])
            eventually(lambda: rows(admin, waiting), len)
            assert len(rows(admin, free)) == 9
        assert applied.result(60) == ["deleted"]
    assert visible(admin) == []


def test_workers_that_delete_users_and_organizations_with_common_members_never_deadlock(
    database: Database,
) -> None:
    size, rounds = 16, 10
    with database.connect() as admin:
        # Two that lock each other out are found sooner.
        admin.execute(f"alter database {database.name} set deadlock_timeout = '20ms'")
    meeting = threading.Barrier(2)

    def ids(kind: str, turn: int) -> list[str]:
        return [f"{kind}_{turn}_{number}" for number in range(size)]

    def work(store: Store, kind: str, prefix: str) -> None:
        for turn in range(rounds):
            events = [deleted(kind, each, at=100) for each in ids(prefix, turn)]
            Random(prefix).shuffle(events)
            meeting.wait(60)
            store.apply(events)

    with closing(Store(Fixed(database.worker_url))) as store:
        for turn in range(rounds):
            pairs = itertools.product(ids("org", turn), ids("user", turn))
            store.apply([membership(f"mem_{org}_{user}", org_id=org, user_id=user, at=1) for org, user in pairs])
    at_once(
        database,
        [partial(work, kind=kind, prefix=prefix) for kind, prefix in (("user", "user"), ("organization", "org"))],
    )

    assert deadlocks(database) == 0
    with database.connect() as admin:
        assert visible(admin) == []
        assert value(admin, "select count(*) from clerk.organization_memberships") == rounds * size * size
