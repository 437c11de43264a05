"""Every delivery is recorded, once, in the transaction that applies it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from clerk_supabase.credentials import Fixed
from clerk_supabase.errors import ChangeRefused
from clerk_supabase.postgres.store import Store
from tests.kit.databases import WORKER, Connection, Database, Rows, outcomes, rows, tables, value
from tests.kit.histories import RECEIVED_AT, alone, delete, delivered, upsert
from tests.kit.polling import eventually

LEDGER_REFUSES = """
    create function public.refuse() returns trigger language plpgsql as
    $$ begin raise exception 'the ledger is full'; end $$;
    create trigger refuse before insert on clerk_sync.deliveries for each row execute function public.refuse();
"""


def waiting_workers(admin: Connection) -> Rows:
    """Processes of workers that wait for a lock."""
    return rows(admin, "select pid from pg_stat_activity where usename = %s and wait_event_type = 'Lock'", WORKER)


def test_a_delivery_is_recorded_with_what_became_of_it(store: Store, admin: Connection) -> None:
    for change, svix_id in (
        (upsert(version=2), "msg_created"),
        (upsert(version=3, first_name="New"), "msg_updated"),
        (upsert(version=4, first_name="New"), "msg_unchanged"),
        (upsert(version=1), "msg_stale"),
        (delete(at=9), "msg_deleted"),
        (upsert(version=99), "msg_deleted_before"),
    ):
        store.apply([delivered(change, svix_id)])
    assert outcomes(admin) == {
        "msg_created": "created",
        "msg_updated": "updated",
        "msg_unchanged": "unchanged",
        "msg_stale": "stale",
        "msg_deleted": "deleted",
        "msg_deleted_before": "deleted_before",
    }


def test_a_record_says_what_it_was_about_and_how_long_it_took(store: Store, admin: Connection) -> None:
    store.apply([delivered(upsert(version=(1_600_000_000_123, 1_600_000_000_456)), "msg_1")])
    [record] = rows(
        admin,
        """
        select event_type, entity_id, extract(epoch from occurred_at) * 1000,
            extract(epoch from received_at) * 1000, applied_at between now() - interval '1 minute' and now()
        from clerk_sync.deliveries
        """,
    )
    assert record == ("user.updated", "user_1", 1_600_000_000_456, RECEIVED_AT, True)


def test_a_delivery_is_recorded_once_however_often_it_comes(store: Store, admin: Connection) -> None:
    event = delivered(upsert(version=1), "msg_1")
    assert store.apply([event]) == ["created"]
    assert store.apply([event]) == ["duplicate"]
    assert store.apply([event, event]) == ["duplicate", "duplicate"]
    assert outcomes(admin) == {"msg_1": "created"}


def test_a_delivery_twice_in_its_first_batch_is_recorded_once(store: Store, admin: Connection) -> None:
    event = delivered(upsert(version=1), "msg_1")
    assert store.apply([event, event]) == ["created", "duplicate"]
    assert outcomes(admin) == {"msg_1": "created"}


def test_deliveries_of_one_user_in_one_batch_are_all_recorded(store: Store, admin: Connection) -> None:
    store.apply([delivered(upsert(version=version), f"msg_{version}") for version in (1, 2, 3)])
    assert sorted(outcomes(admin)) == ["msg_1", "msg_2", "msg_3"]


def test_a_change_that_no_webhook_brought_leaves_no_record(store: Store, admin: Connection) -> None:
    assert store.apply(alone(upsert(version=1))) == ["created"]
    assert outcomes(admin) == {}


def test_when_the_delivery_cannot_be_recorded_nothing_is_applied(store: Store, admin: Connection) -> None:
    store.apply(alone(upsert("user_1", version=1)))
    before = tables(admin)
    admin.execute(LEDGER_REFUSES)
    [refused, also_refused] = store.apply(
        [delivered(delete("user_1", at=10), "msg_1"), delivered(upsert("user_2"), "msg_2")]
    )
    assert isinstance(refused, ChangeRefused)
    assert isinstance(also_refused, ChangeRefused)
    assert tables(admin) == before
    assert outcomes(admin) == {}


def test_nobody_sees_a_change_before_its_delivery_is_recorded(
    database: Database, store: Store, admin: Connection
) -> None:
    with ThreadPoolExecutor(1) as pool, database.connect() as blocker:
        with blocker.transaction():
            blocker.execute("lock table clerk_sync.deliveries in exclusive mode")
            applied = pool.submit(store.apply, [delivered(upsert(version=1), "msg_1")])
            eventually(lambda: waiting_workers(admin), len)
            # The row is written, and waits with the record for one commit.
            assert rows(admin, "select clerk_id from clerk.users") == []
        assert applied.result(60) == ["created"]
    assert rows(admin, "select clerk_id from clerk.users") == [("user_1",)]
    assert outcomes(admin) == {"msg_1": "created"}


def test_a_worker_killed_between_the_change_and_its_record_leaves_nothing(
    database: Database, store: Store, admin: Connection
) -> None:
    store.apply(alone(upsert("user_0")))
    seen_between: list[Rows] = []
    with ThreadPoolExecutor(1) as pool, database.connect() as blocker:
        with blocker.transaction():
            blocker.execute("lock table clerk_sync.deliveries in exclusive mode")
            applied = pool.submit(store.apply, [delivered(upsert("user_1"), "msg_1")])
            [(worker,)] = eventually(lambda: waiting_workers(admin), len)
            admin.execute("select pg_terminate_backend(%s)", [worker])
            # The store opens another connection and applies the batch again, which waits in its turn.
            eventually(lambda: waiting_workers(admin), lambda found: found not in ([], [(worker,)]))
            seen_between.append(rows(admin, "select clerk_id from clerk.users"))
        assert applied.result(60) == ["created"]
    assert seen_between == [[("user_0",)]]
    assert sorted(rows(admin, "select clerk_id from clerk.users")) == [("user_0",), ("user_1",)]
    assert outcomes(admin) == {"msg_1": "created"}


def test_two_workers_with_one_delivery_record_it_once(database: Database, admin: Connection) -> None:
    start = threading.Barrier(2)

    def work(store: Store) -> list[object]:
        start.wait(60)
        return [*store.apply([delivered(upsert(version=1), "msg_1")])]

    with (
        ThreadPoolExecutor(2) as pool,
        closing(Store(Fixed(database.worker_url))) as one,
        closing(Store(Fixed(database.worker_url))) as other,
    ):
        answers = sorted(str(answer) for [answer] in pool.map(work, [one, other]))
    assert answers == ["created", "duplicate"]
    assert outcomes(admin) == {"msg_1": "created"}


def test_a_delivery_that_another_worker_records_at_the_same_moment_is_applied_again_and_found_recorded(
    database: Database, store: Store, admin: Connection
) -> None:
    # A stale event takes no lock of its user, so two workers may get as far as the record together.
    store.apply(alone(upsert(version=5)))
    with ThreadPoolExecutor(1) as pool, database.connect() as other:
        with other.transaction():
            other.execute(
                "insert into clerk_sync.deliveries (svix_id, event_type, entity_id, outcome, occurred_at, received_at)"
                " values ('msg_1', 'user.updated', 'user_1', 'stale', now(), now())"
            )
            applied = pool.submit(
                store.apply, [delivered(upsert(version=1), "msg_1"), delivered(upsert("user_2"), "msg_2")]
            )
            eventually(lambda: waiting_workers(admin), len)
        assert applied.result(60) == ["duplicate", "created"]
    assert outcomes(admin) == {"msg_1": "stale", "msg_2": "created"}


@pytest.mark.parametrize("received_at", [0, RECEIVED_AT, RECEIVED_AT + 1, 253_402_214_400_000])
def test_any_time_of_receipt_is_recorded_to_the_millisecond(received_at: int, store: Store, admin: Connection) -> None:
    store.apply([delivered(upsert(version=1), "msg_1", received_at=received_at)])
    recorded = value(admin, "select extract(epoch from received_at) * 1000 from clerk_sync.deliveries")
    assert round(recorded) == received_at
