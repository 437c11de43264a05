"""Applying beside the app and beside other workers: the waits for locks, and the rows afterwards."""

from __future__ import annotations

from clerk_supabase.postgres.store import Store
from tests.kit.databases import Connection, Database, rows, value
from tests.kit.histories import alone, delete, upsert
from tests.kit.meanwhile import started, waiting
from tests.kit.polling import eventually
from tests.kit.webhooks import deleted, membership


def test_a_row_that_the_app_inserts_at_this_moment_gets_what_the_event_says(
    database: Database, store: Store, admin: Connection
) -> None:
    with database.connect() as app:
        with app.transaction():
            app.execute("insert into clerk.users (clerk_id) values ('user_1')")
            outcome: list[object] = []
            applying = started(lambda: outcome.extend(store.apply(alone(upsert(first_name="Ada")))))
            eventually(lambda: waiting(admin), bool)
        applying.join()
    assert outcome == ["created"]
    assert rows(admin, "select clerk_id, first_name from clerk.users") == [("user_1", "Ada")]


def test_the_earliest_delete_stays_whatever_comes_with_a_later_one(store: Store, admin: Connection) -> None:
    store.apply(alone(upsert(version=1)))
    store.apply(alone(delete(at=10)))
    store.apply(alone(upsert(version=20), delete(at=30)))
    assert value(admin, "select deleted_at from clerk_sync.entities where kind = 'user'") == 10
    assert value(admin, "select extract(epoch from deleted_at) * 1000 from clerk.users") == 10


def test_an_earlier_delete_that_comes_later_moves_the_tombstone_back(store: Store, admin: Connection) -> None:
    store.apply(alone(upsert(version=1)))
    store.apply(alone(delete(at=30)))
    store.apply(alone(delete(at=10)))
    assert value(admin, "select deleted_at from clerk_sync.entities where kind = 'user'") == 10
    assert value(admin, "select extract(epoch from deleted_at) * 1000 from clerk.users") == 10


def test_rows_below_what_is_deleted_are_locked_in_the_order_of_their_keys(
    database: Database, store: Store, admin: Connection
) -> None:
    # In the table they stand the other way round.
    for number in (3, 2, 1):
        store.apply([membership(f"orgmem_{number}", user_id=f"user_{number}", at=1)])
    with database.connect() as other:
        with other.transaction():
            lock = "select from clerk.organization_memberships where clerk_membership_id = %s for update nowait"
            other.execute(lock, ["orgmem_1"])
            deleting = started(lambda: store.apply([deleted("organization", "org_1", at=2)]))
            eventually(lambda: waiting(admin), bool)
            # Nobody holds those that come after.
            for number in (2, 3):
                other.execute(lock, [f"orgmem_{number}"])
        deleting.join()
    assert value(admin, "select count(*) from clerk.organization_memberships where deleted_at is null") == 0
