"""Feeds whose table of the app fails, waits or changes: no event of the mirror is parked, failed or delayed by it."""

from __future__ import annotations

import time
from contextlib import closing
from typing import LiteralString

import pytest
from psycopg.errors import LockNotAvailable
from psycopg.types.json import Jsonb

from clerk_supabase.credentials import Fixed
from clerk_supabase.postgres.store import Store
from tests.kit.databases import Connection, Database, rows, value
from tests.kit.feeding import USERS, switch, unfed, users_of_app
from tests.kit.histories import alone, delete, upsert
from tests.kit.meanwhile import started

BATCH = alone(upsert("user_1"), upsert("user_2", first_name="Bad"), upsert("user_3"))
RETRY: LiteralString = """select clerk_sync.retry_unfed('{"limit": 100, "seconds": 5}')"""


@pytest.fixture(autouse=True)
def _app(admin: Connection) -> None:
    admin.execute(USERS)


def trigger(admin: Connection, body: LiteralString, when: LiteralString = "before insert or update") -> None:
    """A trigger of the app on its table, for each row."""
    admin.execute(
        b"create or replace function public.of_app() returns trigger language plpgsql as $$ begin "
        + body.encode()
        + b" return new; end $$"
    )
    admin.execute(
        b"create or replace trigger of_app " + when.encode() + b" on public.users "
        b"for each row execute function public.of_app()"
    )


FAILURES: list[tuple[LiteralString, str, str]] = [
    ("alter table public.users add constraint no_bad check (first_name <> 'Bad')", "23514", "no_bad"),
    ("insert into public.users (email) values ('2@example.test')", "23505", "users_email_key"),
]


@pytest.mark.parametrize(("planted", "code", "reason"), FAILURES)
def test_a_row_that_breaks_a_constraint_is_listed_and_the_others_are_written(
    planted: LiteralString, code: str, reason: str, store: Store, admin: Connection
) -> None:
    switch(admin)
    admin.execute(planted)
    assert store.apply(BATCH) == ["created"] * 3
    assert {user for user, _, _ in users_of_app(admin)} >= {"user_1", "user_3"}
    assert unfed(admin) == [("user_2", code, reason)]
    # The object changes, and the row can be written.
    admin.execute("delete from public.users where clerk_user_id is null")
    store.apply(alone(upsert("user_2", version=2, first_name="Good")))
    assert unfed(admin) == []
    assert value(admin, "select count(*) from public.users") == 3


def test_of_two_rows_the_other_one_is_written(store: Store, admin: Connection) -> None:
    switch(admin)
    admin.execute("alter table public.users add constraint no_bad check (first_name <> 'Bad')")
    store.apply(BATCH[:2])
    assert [user for user, _, _ in users_of_app(admin)] == ["user_1"]
    assert unfed(admin) == [("user_2", "23514", "no_bad")]


def test_an_error_of_any_code_in_the_apps_trigger_is_caught(store: Store, admin: Connection) -> None:
    codes = ("40001", "40P01", "57014", "55P03", "P0004", "42501", "53200", "54001", "25006", "XX000", "57P01", "08006")
    switch(admin)
    trigger(admin, "if new.first_name ~ '^[0-9A-Z]{5}$' then raise exception using errcode = new.first_name; end if;")
    failing = [upsert(f"user_{code}", first_name=code) for code in codes]
    assert store.apply(alone(upsert("user_1"), *failing)) == ["created"] * (len(codes) + 1)
    assert users_of_app(admin) == [("user_1", "1@example.test", "Ada")]
    assert unfed(admin) == [(f"user_{code}", code, f"SQLSTATE {code} in of_app()") for code in sorted(codes)]
    admin.execute("drop trigger of_app on public.users")
    retried = value(admin, RETRY)
    assert (retried["tried"], retried["written"], retried["left"]) == (len(codes), len(codes), 0)
    assert len(users_of_app(admin)) == len(codes) + 1


ALTERED: list[tuple[LiteralString, str]] = [
    ("drop table public.users", "42P01"),
    ("alter table public.users drop column first_name", "42703"),
    ("alter table public.users rename column email to mail", "42703"),
    ("alter table public.users alter column first_name type int using null", "42804"),
    ("drop function clerk_sync.write_feed_1(text[], jsonb)", "42883"),
    ("alter table public.users add column must text not null", "23502"),
]


@pytest.mark.parametrize(("alteration", "code"), ALTERED)
def test_an_altered_table_only_leaves_rows_unfed(
    alteration: LiteralString, code: str, store: Store, admin: Connection
) -> None:
    feed = switch(admin)
    admin.execute(alteration.replace("feed_1(", f"feed_{feed}("), prepare=False)
    assert store.apply(BATCH) == ["created"] * 3
    assert value(admin, "select count(*) from clerk.users") == 3
    assert [(each, code) for each, code, _ in unfed(admin)] == [(f"user_{n}", code) for n in (1, 2, 3)]
    assert value(admin, RETRY)["left"] == 3
    assert value(admin, "select fault from clerk_sync.faults_of_feeds()") is not None


@pytest.mark.parametrize("key", ["foreign key", "unique", "constraint trigger"])
def test_a_constraint_checked_at_the_commit_is_checked_in_time(key: str, store: Store, admin: Connection) -> None:
    if key == "foreign key":
        admin.execute("create table public.names (name text primary key)")
        admin.execute("insert into public.names values ('Ada')")
        admin.execute(
            "alter table public.users add constraint late foreign key (first_name) references public.names "
            "deferrable initially deferred"
        )
    elif key == "unique":
        admin.execute("insert into public.users (first_name) values ('Bad')")
        admin.execute(
            "alter table public.users add column n int "
            "generated always as (case first_name when 'Bad' then 1 end) stored"
        )
        admin.execute("alter table public.users add constraint late unique (n) deferrable initially deferred")
    else:
        trigger(admin, "")
        admin.execute("drop trigger of_app on public.users")
        admin.execute(
            "create function public.late() returns trigger language plpgsql as $$ begin "
            "if new.first_name = 'Bad' then raise check_violation using constraint = 'late'; end if; "
            "return null; end $$"
        )
        admin.execute(
            "create constraint trigger late after insert on public.users deferrable initially deferred "
            "for each row execute function public.late()"
        )
    switch(admin)
    assert store.apply(BATCH) == ["created"] * 3
    assert [(object_id, reason) for object_id, _, reason in unfed(admin)] == [("user_2", "late")]
    assert value(admin, "select count(*) from clerk.users") == 3


def test_a_locked_row_delays_the_event_for_a_moment_only(store: Store, admin: Connection, database: Database) -> None:
    switch(admin)
    store.apply(BATCH)
    with database.connect() as other, other.transaction():
        other.execute("select from public.users where clerk_user_id = 'user_2' for update")
        began = time.monotonic()
        changed = [upsert(f"user_{n}", version=2, first_name="New") for n in (1, 2, 3)]
        assert store.apply(alone(*changed)) == ["updated"] * 3
        # Without a limit of its own, the write would wait as long as any other of the worker: for 5 s.
        assert time.monotonic() - began < 4
        assert unfed(admin) == [("user_2", "55P03", "locked by another transaction")]
        assert [name for _, _, name in users_of_app(admin)] == ["New", "Bad", "New"]
    assert value(admin, RETRY)["left"] == 0
    assert [name for _, _, name in users_of_app(admin)] == ["New", "New", "New"]


def test_a_locked_table_costs_a_bounded_time_for_a_large_batch(
    store: Store, admin: Connection, database: Database
) -> None:
    switch(admin)
    with database.connect() as other, other.transaction():
        other.execute("lock table public.users")
        began = time.monotonic()
        batch = alone(*(upsert(f"user_{n}") for n in range(300)))
        assert store.apply(batch) == ["created"] * 300
        # A moment for each row would be more than a minute.
        assert time.monotonic() - began < 30
        assert len(unfed(admin)) == 300
    assert value(admin, """select clerk_sync.retry_unfed('{"limit": 1000, "seconds": 60}')""")["left"] == 0
    assert len(users_of_app(admin)) == 300


def test_a_comparison_of_a_locked_table_ends_with_the_lock_and_counts_no_object_as_failing(
    store: Store, admin: Connection, database: Database
) -> None:
    feed = switch(admin)
    store.apply(BATCH)
    admin.execute("set lock_timeout = '20ms'")
    with database.connect() as other, other.transaction():
        other.execute("lock table public.users")
        with pytest.raises(LockNotAvailable):
            admin.execute("select clerk_sync.fill_feed(%s)", [Jsonb({"feed": feed, "limit": 10})])
        with pytest.raises(LockNotAvailable):
            admin.execute(
                "select clerk_sync.compare_page(f, null, 10, true, '1 second') from clerk_sync.feeds as f "
                "where f.feed_id = %s",
                [feed],
            )


def test_a_slow_trigger_delays_one_event_and_suspends_the_feed(store: Store, admin: Connection) -> None:
    switch(admin)
    trigger(admin, "perform pg_sleep(2.1);")
    assert store.apply(alone(upsert("user_1"))) == ["created"]
    began = time.monotonic()
    assert store.apply(alone(upsert("user_2"))) == ["created"]
    assert time.monotonic() - began < 2
    assert unfed(admin) == [("user_2", "57014", "not tried: a write before took too long")]


def test_a_statement_timeout_within_the_apps_trigger_does_not_fail_the_event(
    admin: Connection, database: Database
) -> None:
    switch(admin)
    trigger(admin, "perform pg_sleep(30);")
    with closing(Store(Fixed(database.worker_url_with(statement_timeout="3s")))) as store:
        assert store.apply(alone(upsert("user_1"))) == ["created"]
    [(object_id, code, _)] = unfed(admin)
    assert (object_id, code) == ("user_1", "57014")


def test_a_second_slow_feed_does_not_go_on_without_a_limit_of_time(admin: Connection, database: Database) -> None:
    admin.execute("create table public.copies (clerk_user_id text unique, email text, first_name text)")
    slow = switch(admin), switch(admin, table="public.copies")
    trigger(admin, "perform pg_sleep(6);")
    admin.execute("create trigger of_app before insert on public.copies for each row execute function public.of_app()")
    # Postgres ends a statement once, and the feed goes on after the cancel.
    with closing(Store(Fixed(database.worker_url_with(statement_timeout="2s")))) as store:
        assert store.apply(alone(upsert("user_1"))) == ["created"]
    assert rows(admin, "select feed_id, reason from clerk_sync.unfed_rows order by feed_id") == [
        (slow[0], "SQLSTATE 57014 in of_app()"),
        (slow[1], "not tried: other rows took too long"),
    ]


def test_a_trigger_that_keeps_another_value_is_listed_by_a_comparison(store: Store, admin: Connection) -> None:
    feed = switch(admin)
    trigger(admin, "new.first_name := 'always'; if new.email like '2@%' then return null; end if;")
    store.apply(alone(upsert("user_1"), upsert("user_2")))
    page = value(admin, "select clerk_sync.fill_feed(%s)", Jsonb({"feed": feed, "limit": 10}))
    assert (page["to insert"], page["to update"], page["written"], page["not written"]) == (1, 1, 0, 2)
    assert {(each, code) for each, code, _ in unfed(admin)} == {("user_1", "00000"), ("user_2", "00000")}


def test_a_retry_and_an_event_at_once_leave_the_newest_state(
    store: Store, admin: Connection, database: Database
) -> None:
    feed = switch(admin)
    trigger(admin, "if new.first_name = 'Ada' then perform pg_sleep(0.1); end if;")
    store.apply(alone(upsert("user_1", first_name="First")))
    admin.execute("select clerk_sync.note_unfed(%s, '{user_1}', '55P03', 'planted')", [feed])
    admin.execute("update public.users set first_name = 'stale'")

    def retry() -> None:
        with database.connect() as other:
            for _ in range(20):
                other.execute("select clerk_sync.feed_again(f, '{user_1}', '1 second') from clerk_sync.feeds as f")

    thread = started(retry)
    for version in range(2, 30):
        store.apply(alone(upsert("user_1", version=version, first_name=f"Name {version}")))
    thread.join()
    admin.execute(RETRY)
    assert users_of_app(admin) == [("user_1", "1@example.test", "Name 29")]
    assert unfed(admin) == []


def test_a_message_of_an_unfed_row_quotes_no_value(store: Store, admin: Connection) -> None:
    switch(admin)
    trigger(admin, "raise exception 'cannot take %', new.email;")
    store.apply(alone(upsert("user_1"), delete("user_2", at=5)))
    assert "example.test" not in str(rows(admin, "select * from clerk_sync.unfed_rows"))
    assert len(unfed(admin)) == 1
