"""The row that a user makes at first login, before the webhook arrives: a stub that every later event completes."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from psycopg.errors import InsufficientPrivilege, UniqueViolation

from clerk_supabase.postgres.store import Store
from tests.kit.databases import Connection, Database, acting_as, empty, rows, tables, value
from tests.kit.histories import alone, delete, upsert
from tests.kit.meanwhile import started, waiting
from tests.kit.polling import eventually
from tests.kit.webhooks import deleted, membership

ADA = {"sub": "user_1", "role": "authenticated"}


def sign_in(connection: Connection, claims: Any = ADA, role: str = "authenticated") -> None:
    with acting_as(connection, role, claims):
        connection.execute("insert into clerk.users (clerk_id) values ('user_1')")


def test_the_row_is_there_at_once_and_its_owner_sees_it(admin: Connection) -> None:
    sign_in(admin)
    with acting_as(admin, "authenticated", ADA):
        assert rows(admin, "select clerk_id, email, banned from clerk.users") == [("user_1", None, False)]
    assert rows(admin, "select clerk_id from clerk.users_public") == [("user_1",)]
    # Below the version of every event, and of the stub that sync makes of a parent.
    assert value(admin, "select version::text from clerk_sync.entities") == f"(0,0,{-(2**63)})"
    assert rows(admin, "select cause from clerk_sync.audit_log") == [("direct:authenticated",)]


def test_every_event_overrides_it_also_the_oldest(admin: Connection, store: Store, database: Database) -> None:
    sign_in(admin)
    store.apply(alone(upsert("user_1", version=(1, 0), first_name="Ada")))
    after_a_stub = tables(admin)
    assert after_a_stub["users"][0][3] == "Ada"

    empty(admin)
    store.apply(alone(upsert("user_1", version=(1, 0), first_name="Ada")))
    assert tables(admin) == after_a_stub


def test_a_login_and_a_membership_end_the_same_in_both_orders(admin: Connection, store: Store) -> None:
    sign_in(admin)
    store.apply([membership(at=1)])
    login_first = tables(admin)

    empty(admin)
    store.apply([membership(at=1)])
    with pytest.raises(UniqueViolation):
        sign_in(admin)
    assert tables(admin) == login_first


def test_a_second_login_changes_nothing(admin: Connection, store: Store) -> None:
    store.apply(alone(upsert("user_1", version=5)))
    before = tables(admin)
    with acting_as(admin, "authenticated", ADA):
        admin.execute("insert into clerk.users (clerk_id) values ('user_1') on conflict do nothing")
    assert tables(admin) == before


@pytest.mark.parametrize("role", ["authenticated", "service_role"])
def test_a_late_login_does_not_restore_a_deleted_user(role: str, admin: Connection, store: Store) -> None:
    store.apply(alone(delete("user_1", at=2)))
    before = tables(admin)
    with pytest.raises(InsufficientPrivilege, match="deleted"):
        sign_in(admin, role=role)
    assert tables(admin) == before


@pytest.mark.parametrize("role", ["authenticated", "service_role"])
def test_a_deleted_user_is_refused_even_when_only_the_tombstone_is_left(
    role: str, admin: Connection, store: Store
) -> None:
    store.apply(alone(upsert("user_1", version=1)))
    store.apply(alone(delete("user_1", at=2)))
    admin.execute("delete from clerk.users")
    with pytest.raises(InsufficientPrivilege, match="deleted"):
        sign_in(admin, role=role)
    assert rows(admin, "select clerk_id from clerk.users") == []


def test_a_row_with_the_id_of_another_user_is_refused_without_a_trace(admin: Connection, store: Store) -> None:
    store.apply(alone(delete("user_1", at=2)))
    before = tables(admin)
    with pytest.raises(InsufficientPrivilege, match="row-level security"):
        sign_in(admin, ADA | {"sub": "user_2"})
    assert tables(admin) == before


def test_a_delete_that_arrives_during_the_login_waits_and_hides_the_row(
    admin: Connection, store: Store, database: Database
) -> None:
    with database.connect() as browser:
        with acting_as(browser, "authenticated", ADA):
            browser.execute("insert into clerk.users (clerk_id) values ('user_1')")
            deleting = started(lambda: store.apply([deleted("user", "user_1", at=2)]))
            eventually(lambda: waiting(admin), lambda number: number == 1)
        deleting.join(timeout=60)
    assert value(admin, "select deleted_at is not null from clerk.users")
    assert rows(admin, "select clerk_id from clerk.users_public where deleted_at is null") == []


def test_a_login_that_arrives_during_the_delete_waits_and_is_refused(admin: Connection, database: Database) -> None:
    refused: list[str] = []

    def log_in() -> None:
        with database.connect() as browser:
            try:
                sign_in(browser)
            except InsufficientPrivilege as error:
                refused.append(str(error.diag.message_primary))

    batch = '[{"kind": "user", "id": "user_1", "deleted_at": 2}]'
    with psycopg.connect(database.worker_url) as worker:
        worker.execute("select * from clerk_sync.apply(%s::jsonb)", [batch])
        login = started(log_in)
        eventually(lambda: waiting(admin), lambda number: number == 1)
    login.join(timeout=60)
    assert refused == ["this user was deleted in Clerk"]
    assert rows(admin, "select * from clerk.users") == []


def test_a_login_and_the_first_webhook_at_the_same_moment_make_one_row(
    admin: Connection, store: Store, database: Database
) -> None:
    with database.connect() as browser:
        with acting_as(browser, "authenticated", ADA):
            browser.execute("insert into clerk.users (clerk_id) values ('user_1')")
            applying = started(lambda: store.apply(alone(upsert("user_1", version=3, first_name="Ada"))))
            eventually(lambda: waiting(admin), lambda number: number == 1)
        applying.join(timeout=60)
    assert rows(admin, "select clerk_id, first_name from clerk.users") == [("user_1", "Ada")]
    assert value(admin, "select (version).source_updated_at from clerk_sync.entities") == 3


def test_rows_for_which_nobody_signed_in_are_not_asked_about_one_by_one(admin: Connection) -> None:
    with admin.transaction():
        admin.execute("set local track_functions = 'all'")
        admin.execute("insert into clerk.users (clerk_id) select 'user_' || n from generate_series(1, 3) as n")
        asked = rows(admin, "select funcname from pg_stat_xact_user_functions where funcname like 'requesting%'")
    assert asked == []
