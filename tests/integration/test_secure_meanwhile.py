"""Securing a table beside another session that does the same, and with an unusable index."""

from __future__ import annotations

from tests.kit.databases import Connection, Database, rows, value
from tests.kit.meanwhile import started, waiting
from tests.kit.polling import eventually


def test_of_two_sessions_that_secure_a_table_at_once_the_policies_of_the_last_stay(
    database: Database, admin: Connection
) -> None:
    admin.execute("create table public.tasks (id int)")
    with database.connect() as first, database.connect() as second:
        with first.transaction():
            first.execute("select clerk_sync.secure('public.tasks', 'user')")
            securing = started(lambda: second.execute("select clerk_sync.secure('public.tasks', 'organization')"))
            eventually(lambda: waiting(admin), bool)
        securing.join()
    conditions = rows(admin, "select coalesce(qual, with_check) from pg_policies where tablename = 'tasks'")
    assert len(conditions) == 4
    assert all("organization_id" in condition for (condition,) in conditions)


def test_an_index_that_was_never_finished_is_no_index(admin: Connection) -> None:
    admin.execute("create table public.tasks (id int, user_id text)")
    admin.execute("create index half_built on public.tasks (user_id)")
    admin.execute("update pg_index set indisvalid = false where indexrelid = 'public.half_built'::regclass")
    admin.execute("select clerk_sync.secure('public.tasks', 'user')")
    good = "select count(*) from pg_index where indrelid = 'public.tasks'::regclass and indisvalid"
    assert value(admin, good) == 1
    admin.execute("select clerk_sync.secure('public.tasks', 'user')")
    assert value(admin, good) == 1
