"""Clerk bumps a user's version at every sign-in: such a write touches no data that the app sees."""

from __future__ import annotations

from typing import Any, LiteralString

import pytest
from psycopg import sql

from clerk_supabase.postgres.store import Store
from tests.kit.databases import Connection, rows, value
from tests.kit.histories import alone, delete, delivered, upsert

SIGN_IN: dict[str, Any] = {"last_sign_in_at": 1_700_000_000_000, "last_active_at": 1_700_000_000_000}


def place(admin: Connection, table: LiteralString = "clerk.users") -> object:
    """The physical place of a row, and the transaction that wrote it: both change with every write."""
    statement = sql.SQL("select (ctid, xmin)::text from {}").format(sql.Identifier(*table.split(".")))
    return admin.execute(statement).fetchone()


@pytest.fixture
def fired(admin: Connection) -> Connection:
    """A table in which triggers of the app on clerk.users record each call."""
    admin.execute("create table public.fired (what text)")
    admin.execute(
        """
        create function public.note() returns trigger language plpgsql security definer as $$
        begin
            insert into public.fired values (concat_ws(' ', tg_when, tg_op, tg_level));
            return new;
        end $$
        """
    )
    return admin


def test_a_sign_in_moves_the_version_and_leaves_the_row_where_it_is(store: Store, admin: Connection) -> None:
    store.apply(alone(upsert(version=1)))
    before = place(admin), place(admin, "clerk.users_public")

    assert store.apply(alone(upsert(version=7, **SIGN_IN))) == ["unchanged"]

    assert (place(admin), place(admin, "clerk.users_public")) == before
    assert value(admin, "select (version).source_updated_at from clerk_sync.entities") == 7


def test_after_a_sign_in_an_older_event_is_stale(store: Store, admin: Connection) -> None:
    # The version must move although nothing else does, or the older content would win.
    store.apply(alone(upsert(version=1, first_name="Ada")))
    store.apply(alone(upsert(version=7, first_name="Ada", **SIGN_IN)))
    assert store.apply(alone(upsert(version=4, first_name="Older"))) == ["stale"]
    assert value(admin, "select first_name from clerk.users") == "Ada"


@pytest.mark.parametrize("event", ["before insert", "after insert", "before update", "after update"])
def test_a_sign_in_fires_no_trigger_of_the_app_for_the_row(
    event: LiteralString, store: Store, fired: Connection
) -> None:
    store.apply(alone(upsert(version=1)))
    fired.execute("create trigger app " + event + " on clerk.users for each row execute function public.note()")
    assert store.apply(alone(upsert(version=7, **SIGN_IN))) == ["unchanged"]
    assert rows(fired, "select what from public.fired") == []


@pytest.mark.parametrize("event", ["insert", "update"])
def test_a_sign_in_fires_no_trigger_of_the_app_for_the_statement(
    event: LiteralString, store: Store, fired: Connection
) -> None:
    store.apply(alone(upsert(version=1)))
    fired.execute("create trigger app after " + event + " on clerk.users execute function public.note()")
    assert store.apply(alone(upsert(version=7, **SIGN_IN))) == ["unchanged"]
    assert rows(fired, "select what from public.fired") == []


def test_a_real_change_fires_the_apps_trigger_once(store: Store, fired: Connection) -> None:
    store.apply(alone(upsert(version=1)))
    fired.execute("create trigger app after update on clerk.users for each row execute function public.note()")
    store.apply(alone(upsert(version=7, first_name="Augusta")))
    assert rows(fired, "select what from public.fired") == [("AFTER UPDATE ROW",)]


def test_only_the_changed_users_of_a_batch_are_written(store: Store, admin: Connection) -> None:
    store.apply(alone(upsert("user_1"), upsert("user_2")))
    before = place_of(admin, "user_1")
    batch = alone(upsert("user_1", version=2, **SIGN_IN), upsert("user_2", version=2, first_name="New"))
    assert store.apply(batch) == ["unchanged", "updated"]
    assert place_of(admin, "user_1") == before


def place_of(admin: Connection, user_id: str) -> object:
    return value(admin, "select (ctid, xmin)::text from clerk.users where clerk_id = %s", user_id)


def test_a_stale_event_writes_nothing_but_its_delivery(store: Store, admin: Connection) -> None:
    store.apply(alone(upsert(version=5)))
    before = place(admin), place(admin, "clerk_sync.entities")
    assert store.apply([delivered(upsert(version=4, first_name="Old"), "msg_1")]) == ["stale"]
    assert (place(admin), place(admin, "clerk_sync.entities")) == before
    assert rows(admin, "select outcome from clerk_sync.deliveries") == [("stale",)]


def test_a_second_delete_writes_nothing_but_its_delivery(store: Store, admin: Connection) -> None:
    store.apply(alone(upsert(version=1), delete(at=10)))
    before = place(admin), place(admin, "clerk_sync.entities")
    assert store.apply([delivered(delete(at=20), "msg_1")]) == ["deleted"]
    assert (place(admin), place(admin, "clerk_sync.entities")) == before


def test_a_user_edited_by_hand_is_repaired_by_the_next_event(store: Store, admin: Connection) -> None:
    store.apply(alone(upsert(version=1)))
    admin.execute("update clerk.users set first_name = 'Edited'")
    assert store.apply(alone(upsert(version=2))) == ["updated"]
    assert value(admin, "select first_name from clerk.users") == "Ada"
