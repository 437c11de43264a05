"""Order does not matter, Clerk's clock decides, deletes are final."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest

from clerk_supabase.credentials import Fixed
from clerk_supabase.model.changes import Change
from clerk_supabase.postgres.store import Outcome, Store
from tests.kit.databases import Connection, Database, empty, outcomes, rows, tables, value
from tests.kit.histories import RECEIVED_AT, Applied, alone, delete, delivered, upsert

# A life: signed up, changed, signed in twice in one millisecond, tied with itself, deleted, deleted again.
LIFE: list[Change] = [
    upsert(version=1),
    upsert(version=2, first_name="Augusta"),
    upsert(version=(3, 30), username="ada"),
    upsert(version=(3, 31), username="lovelace"),
    delete(at=50),
]
SHORTER_LIFE: list[Change] = [
    upsert(version=1),
    upsert(version=(2, 20), first_name="Augusta"),
    upsert(version=(2, 20), first_name="Byron"),
    upsert(version=3, first_name="Byron"),
]


def deliveries_of(life: list[Change]) -> list[Applied]:
    return [delivered(change, f"msg_{number}") for number, change in enumerate(life)]


@pytest.mark.parametrize("life", [LIFE, SHORTER_LIFE, [*LIFE[2:], delete(at=40)]], ids=["life", "tie", "two deletes"])
def test_every_order_of_the_events_of_a_user_ends_in_the_same_tables(
    life: list[Change], store: Store, admin: Connection
) -> None:
    seen = []
    for order in itertools.permutations(deliveries_of(life)):
        empty(admin)
        for event in order:
            store.apply([event])
        seen.append(tables(admin))
        assert len(outcomes(admin)) == len(life)
    assert all(each == seen[0] for each in seen)


@pytest.mark.parametrize("life", [LIFE, SHORTER_LIFE], ids=["life", "tie"])
def test_every_order_within_one_batch_ends_in_the_same_tables(
    life: list[Change], store: Store, admin: Connection
) -> None:
    for event in deliveries_of(life):
        store.apply([event])
    one_by_one = tables(admin)
    for order in itertools.permutations(deliveries_of(life)):
        empty(admin)
        store.apply(list(order))
        assert tables(admin) == one_by_one


def splits(events: list[Applied]) -> Iterator[list[list[Applied]]]:
    """Every way to cut a list into batches."""
    for cuts in itertools.product([True, False], repeat=len(events) - 1):
        batches = [[events[0]]]
        for cut, event in zip(cuts, events[1:], strict=True):
            if cut:
                batches.append([])
            batches[-1].append(event)
        yield batches


def test_the_result_does_not_depend_on_how_events_are_cut_into_batches(store: Store, admin: Connection) -> None:
    events = deliveries_of(LIFE)
    seen = []
    for batches in [*splits(events), *splits(events[::-1])]:
        empty(admin)
        for batch in batches:
            store.apply(batch)
        seen.append(tables(admin))
    assert all(each == seen[0] for each in seen)


def test_duplicates_change_nothing(store: Store, admin: Connection) -> None:
    events = deliveries_of(LIFE)
    store.apply(events)
    once = tables(admin), outcomes(admin)
    for event in [*events, *events[::-1]]:
        assert store.apply([event]) == ["duplicate"]
    assert store.apply([*events, *events]) == ["duplicate"] * 10
    assert (tables(admin), outcomes(admin)) == once


def test_a_crash_before_the_acknowledgement_changes_nothing(database: Database, admin: Connection) -> None:
    # The batch was applied, the worker died before SQS heard of it, another worker gets the batch again.
    events = deliveries_of(LIFE)
    with closing(Store(Fixed(database.worker_url))) as first:
        first.apply(events)
    once = tables(admin), outcomes(admin)
    with closing(Store(Fixed(database.worker_url))) as second:
        assert second.apply(events) == ["duplicate"] * len(events)
    assert (tables(admin), outcomes(admin)) == once


# Deletes


def visible_users(admin: Connection) -> list[str]:
    return [clerk_id for (clerk_id,) in rows(admin, "select clerk_id from clerk.users where deleted_at is null")]


def test_a_late_update_does_not_restore_a_deleted_user(store: Store, admin: Connection) -> None:
    store.apply(alone(upsert(version=1)))
    assert store.apply(alone(delete(at=10))) == ["deleted"]
    assert store.apply(alone(upsert(version=5, first_name="Late"))) == ["deleted_before"]
    assert store.apply(alone(upsert(version=99, first_name="Later than the delete"))) == ["deleted_before"]
    assert visible_users(admin) == []
    assert rows(admin, "select clerk_id from clerk.users_public where deleted_at is null") == []


def test_a_delete_that_arrives_before_the_user_is_final_too(store: Store, admin: Connection) -> None:
    assert store.apply(alone(delete(at=10))) == ["deleted"]
    assert store.apply(alone(upsert(version=1))) == ["deleted_before"]
    assert visible_users(admin) == []
    assert rows(admin, "select clerk_id from clerk.users_public where deleted_at is null") == []


def test_a_user_created_and_deleted_in_one_batch_is_never_seen(store: Store, admin: Connection) -> None:
    assert store.apply(alone(upsert(version=1), delete(at=10))) == ["deleted_before", "deleted"]
    assert visible_users(admin) == []


def test_a_user_is_deleted_at_the_earliest_time_that_proves_it(store: Store, admin: Connection) -> None:
    store.apply(alone(upsert(version=1)))
    for at in (50_000, 40_000, 60_000):
        store.apply(alone(delete(at=at)))
    assert value(admin, "select deleted_at from clerk_sync.entities") == 40_000
    assert value(admin, "select extract(epoch from deleted_at)::int from clerk.users") == 40


def test_a_deleted_user_keeps_what_was_known_hidden_until_it_is_purged(store: Store, admin: Connection) -> None:
    store.apply(alone(upsert(version=1)))
    store.apply(alone(delete(at=10)))
    assert value(admin, "select first_name from clerk.users where deleted_at is not null") == "Ada"


def test_deleting_one_user_leaves_the_others_alone(store: Store, admin: Connection) -> None:
    store.apply(alone(upsert("user_1"), upsert("user_2"), upsert("user_3")))
    store.apply(alone(delete("user_2", at=10)))
    assert sorted(visible_users(admin)) == ["user_1", "user_3"]


def test_ids_that_differ_in_case_are_different_users(store: Store, admin: Connection) -> None:
    store.apply(alone(upsert("user_a"), upsert("user_A")))
    store.apply(alone(delete("user_A", at=10)))
    assert visible_users(admin) == ["user_a"]


# Versions


def test_an_older_event_that_arrives_late_is_stale(store: Store, admin: Connection) -> None:
    assert store.apply(alone(upsert(version=5, first_name="New"))) == ["created"]
    assert store.apply(alone(upsert(version=4, first_name="Old"))) == ["stale"]
    assert value(admin, "select first_name from clerk.users") == "New"


def test_of_two_events_in_one_millisecond_the_one_that_happened_later_wins(store: Store, admin: Connection) -> None:
    store.apply(alone(upsert(version=(5, 11), first_name="Later")))
    assert store.apply(alone(upsert(version=(5, 10), first_name="Earlier"))) == ["stale"]
    assert value(admin, "select first_name from clerk.users") == "Later"


def test_the_users_own_time_decides_before_the_time_of_the_event(store: Store, admin: Connection) -> None:
    store.apply(alone(upsert(version=(5, 10), first_name="New")))
    assert store.apply(alone(upsert(version=(4, 99), first_name="Old, told late"))) == ["stale"]
    assert value(admin, "select first_name from clerk.users") == "New"


def test_an_exact_tie_is_decided_the_same_in_both_orders(store: Store, admin: Connection) -> None:
    one, other = upsert(version=(5, 5), first_name="One"), upsert(version=(5, 5), first_name="Other")
    winners = []
    for batches in ([[one], [other]], [[other], [one]], [[one, other]], [[other, one]]):
        empty(admin)
        for batch in batches:
            store.apply(alone(*batch))
        winners.append(value(admin, "select first_name from clerk.users"))
    assert len(set(winners)) == 1


def test_when_ingest_received_an_event_does_not_order_it(store: Store, admin: Connection) -> None:
    store.apply([delivered(upsert(version=2, first_name="New"), "msg_1", received_at=RECEIVED_AT)])
    later = delivered(upsert(version=1, first_name="Old"), "msg_2", received_at=RECEIVED_AT + 60_000)
    assert store.apply([later]) == ["stale"]
    assert value(admin, "select first_name from clerk.users") == "New"


def test_the_clock_of_the_database_does_not_order_anything(store: Store, admin: Connection) -> None:
    # Versions far in the future and far in the past are compared with each other, never with today.
    far_future = 253_402_300_799_999
    assert store.apply(alone(upsert(version=far_future, first_name="Future"))) == ["created"]
    assert store.apply(alone(upsert(version=far_future - 1, first_name="Now"))) == ["stale"]
    assert store.apply(alone(upsert("user_2", version=0))) == ["created"]
    assert store.apply(alone(upsert("user_2", version=1, first_name="Past"))) == ["updated"]


def test_the_same_user_twice_in_a_batch_ends_as_the_newer_one(store: Store, admin: Connection) -> None:
    batch = alone(upsert(version=2, first_name="Second"), upsert(version=3, first_name="Third"), upsert(version=1))
    assert store.apply(batch) == ["stale", "created", "stale"]
    assert rows(admin, "select first_name from clerk.users") == [("Third",)]


def test_two_users_may_hold_one_email_and_one_username_for_a_moment(store: Store, admin: Connection) -> None:
    # Out of order, the address that moved from one user to another is at both; a deleted one's may return.
    same = {"username": "ada", "external_id": "7", "email_addresses": upsert().content["email_addresses"]}
    store.apply(alone(upsert("user_1", **same), upsert("user_2", **same)))
    assert sorted(visible_users(admin)) == ["user_1", "user_2"]


# Several workers at once


def test_workers_that_meet_in_opposite_order_neither_deadlock_nor_differ(database: Database, admin: Connection) -> None:
    users = [f"user_{number}" for number in range(30)]
    failures: list[Exception] = []
    start = threading.Barrier(4)

    def work(store: Store, turn: int) -> None:
        ordered = users if turn % 2 else users[::-1]
        start.wait()
        try:
            for version in range(10):
                name = f"Version {version}"
                batch = [upsert(user, version=version, first_name=name) for user in ordered]
                store.apply([delivered(change, f"{turn}-{version}-{change.id}") for change in batch])
        except Exception as error:  # noqa: BLE001 - a thread cannot raise into its test
            failures.append(error)

    with ExitStack() as stores:
        threads = [
            threading.Thread(target=work, args=(stores.enter_context(closing(Store(Fixed(database.worker_url)))), turn))
            for turn in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert failures == []
    assert rows(admin, "select distinct first_name from clerk.users") == [("Version 9",)]
    assert value(admin, "select count(*) from clerk_sync.deliveries") == 4 * 10 * len(users)


def test_outcomes_are_answered_in_the_order_of_the_batch(store: Store) -> None:
    store.apply(alone(upsert("user_2", version=5), delete("user_3", at=1)))
    expected: list[Outcome] = ["created", "stale", "deleted_before", "deleted", "updated"]
    batch = alone(
        upsert("user_9"),
        upsert("user_2", version=1),
        upsert("user_3"),
        delete("user_1", at=5),
        upsert("user_2", version=6, first_name="New"),
    )
    # user_2 is twice in it: its older version is stale, its newer one is an update.
    assert store.apply(batch) == expected
