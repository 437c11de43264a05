"""The guard: mapped columns of the app's table keep the mirror's value, whoever writes."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Any

import pytest
from psycopg.errors import UniqueViolation

from clerk_supabase.postgres.store import Store
from tests.kit.databases import Connection, Database, rows, value
from tests.kit.feeding import USERS, switch, unfed, users_of_app
from tests.kit.histories import alone, delete, upsert
from tests.kit.meanwhile import started

# The statements of a pasted handler.
UPSERT = (
    "insert into public.users (clerk_user_id, email, first_name) values (%s, 'late@example.test', 'Late') "
    "on conflict (clerk_user_id) do update set email = excluded.email, first_name = excluded.first_name"
)
DELETE = "delete from public.users where clerk_user_id = %s"


@pytest.fixture(autouse=True)
def _app(admin: Connection) -> None:
    admin.execute(USERS)


def test_a_late_upsert_and_a_late_delete_of_the_old_handler_change_nothing(store: Store, admin: Connection) -> None:
    switch(admin, guard=True)
    store.apply(alone(upsert("user_1")))
    for statement in (UPSERT, DELETE, "update public.users set clerk_user_id = 'user_2' where clerk_user_id = %s"):
        admin.execute(statement, ["user_1"])
        assert users_of_app(admin) == [("user_1", "1@example.test", "Ada")]
    admin.execute("update public.users set role = 'admin'")
    assert value(admin, "select role from public.users") == "admin"


@pytest.mark.parametrize(
    ("on_delete", "left"),
    [
        ("keep", [("user_1", "late@example.test", "Late")]),
        ("delete", []),
        ({"clear": ["email", "first_name"]}, [("user_1", None, None)]),
    ],
)
@pytest.mark.parametrize("purged", [False, True])
def test_a_late_upsert_of_a_deleted_object(
    on_delete: Any, left: Any, purged: bool, store: Store, admin: Connection
) -> None:
    switch(admin, guard=True, on_delete=on_delete)
    store.apply(alone(upsert("user_1"), delete("user_1", at=10)))
    if purged:
        admin.execute("delete from clerk.users")
    admin.execute(UPSERT, ["user_1"])
    assert users_of_app(admin) == left or (purged and on_delete != "delete")


def test_an_expression_means_the_same_in_the_guard_as_in_the_feed(store: Store, admin: Connection) -> None:
    switch(
        admin,
        guard=True,
        update={
            # A column without `mirror.`, and names that a variable of the guard could have.
            "first_name": "upper(first_name) || (select kept || new from (values ('!', '?')) as v (kept, new))",
            "email": "to_jsonb(mirror) ->> 'email'",
        },
    )
    store.apply(alone(upsert("user_1")))
    admin.execute(UPSERT, ["user_1"])
    assert users_of_app(admin) == [("user_1", "1@example.test", "ADA!?")]


def test_the_row_of_a_deleted_object_may_become_the_row_of_a_living_one(store: Store, admin: Connection) -> None:
    switch(admin, guard=True, insert=False)
    admin.execute("insert into public.users (clerk_user_id) values ('user_1')")
    store.apply(alone(upsert("user_1")))
    store.apply(alone(upsert("user_2"), delete("user_1", at=10)))
    admin.execute("update public.users set clerk_user_id = 'user_2'")
    assert users_of_app(admin) == [("user_2", "2@example.test", "Ada")]


def test_rows_of_the_app_alone_are_free(store: Store, admin: Connection) -> None:
    switch(admin, guard=True, on_delete="delete")
    admin.execute(UPSERT, ["user_9"])
    admin.execute("insert into public.users (email) values ('guest@example.test')")
    assert len(users_of_app(admin)) == 2
    admin.execute("delete from public.users")
    assert users_of_app(admin) == []


def test_a_cascade_is_not_stopped_because_a_foreign_key_would_be_broken(store: Store, admin: Connection) -> None:
    admin.execute("create table public.teams (id int primary key)")
    admin.execute("insert into public.teams values (1)")
    admin.execute("alter table public.users add column team int references public.teams on delete cascade")
    switch(admin, guard=True)
    store.apply(alone(upsert("user_1")))
    admin.execute("update public.users set team = 1")
    admin.execute("delete from public.teams")
    assert users_of_app(admin) == []


def test_an_altered_table_does_not_stop_the_app(store: Store, admin: Connection) -> None:
    switch(admin, guard=True)
    store.apply(alone(upsert("user_1")))
    admin.execute("alter table public.users rename column first_name to name")
    admin.execute("update public.users set role = 'admin'")
    admin.execute("insert into public.users (clerk_user_id) values ('user_2')")
    assert value(admin, "select count(*) from public.users") == 2


def test_a_second_writer_at_full_speed_leaves_the_values_of_the_mirror(
    store: Store, admin: Connection, database: Database
) -> None:
    switch(admin, guard=True, on_delete="delete")
    names = [f"user_{n}" for n in range(5)]
    store.apply(alone(*(upsert(name) for name in names)))
    is_over = threading.Event()

    def old_handler() -> None:
        with database.connect() as other:
            while not is_over.is_set():
                for name in names:
                    # Two handlers at once meet in the unique e-mail address, for which the upsert has no rule.
                    with suppress(UniqueViolation):
                        other.execute(UPSERT, [name])
                    other.execute(DELETE, [name])

    handlers = [started(old_handler) for _ in range(2)]
    for version in range(2, 30):
        outcomes = store.apply(alone(*(upsert(name, version=version, first_name=f"V{version}") for name in names)))
        assert outcomes == ["updated"] * 5
    store.apply(alone(delete("user_4", at=100)))
    is_over.set()
    for handler in handlers:
        handler.join()
    admin.execute("""select clerk_sync.retry_unfed('{"limit": 100, "seconds": 5}')""")
    assert unfed(admin) == []
    assert rows(admin, "select clerk_user_id, first_name from public.users order by 1") == [
        (name, "V29") for name in names[:4]
    ]
