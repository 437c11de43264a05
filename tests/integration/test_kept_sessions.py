"""The session of a worker is lent to the next test without its settings and locks, and a lost session is replaced."""

from __future__ import annotations

import psycopg
import pytest

from clerk_supabase.postgres.connection import Connection
from clerk_supabase.postgres.store import Store
from tests.kit.databases import Database, Databases
from tests.kit.histories import alone, upsert


@pytest.fixture
def first(databases: Databases, database: Database) -> int:
    """The process of the first session, which ended its test with a setting, a lock and a temporary table."""
    with databases.worker(database) as store:
        store.apply(alone(upsert()))
        session = session_of(store)
        session.execute("set lock_timeout = 1")
        session.execute("set search_path = pg_temp")
        session.execute("select pg_catalog.pg_advisory_lock(1)")
        session.execute("create temporary table left_over ()")
        return session.info.backend_pid


def session_of(store: Store) -> Connection:
    session = store._kept.connection
    assert session is not None
    return session


def test_the_next_test_gets_the_session_and_nothing_of_what_was_left_in_it(
    first: int, databases: Databases, database: Database
) -> None:
    with databases.worker(database) as store, database.connect() as admin:
        session = session_of(store)
        assert session.info.backend_pid == first
        assert session.execute("select to_regclass('left_over')").fetchall() == [(None,)]
        unlike = "select name from pg_settings where source = 'session' and name in ('lock_timeout', 'search_path')"
        assert session.execute(unlike).fetchall() == []
        assert admin.execute("select pg_try_advisory_lock(1)").fetchall() == [(True,)]
        assert store.apply(alone(upsert(version=2, first_name="Grace"))) == ["updated"]


def test_a_session_that_is_gone_or_within_a_transaction_is_not_lent_again(
    first: int, databases: Databases, database: Database
) -> None:
    with database.connect() as admin:
        admin.execute("select pg_terminate_backend(%s, 10000)", [first])
    with databases.worker(database) as store:
        assert store.apply(alone(upsert(version=2, first_name="Grace"))) == ["updated"]
        second = session_of(store)
        assert second.info.backend_pid != first
        second.execute("begin")
    assert second.closed
    with databases.worker(database) as store:
        assert store._kept.connection is None


def test_a_test_that_asks_for_no_worker_gets_a_database_without_its_session(databases: Databases) -> None:
    database = databases.take()
    with databases.worker(database) as store:
        store.apply(alone(upsert()))
        process = session_of(store).info.backend_pid
    databases.give_back(database)

    other = databases.take()
    assert other.name != database.name
    taken = [other, databases.take(with_session=True)]
    # Tests before this one have left sessions, too.
    while taken[-1].name != database.name:
        taken.append(databases.take(with_session=True))
    with databases.worker(taken[-1]) as store:
        assert session_of(store).info.backend_pid == process
    for each in taken:
        databases.give_back(each)


def test_a_dropped_database_takes_its_session_along(first: int, databases: Databases, database: Database) -> None:
    copy = databases.copy(database)
    databases.drop(copy.name)
    with psycopg.connect(database.server.url(), autocommit=True) as admin:
        query = "select count(*) from pg_stat_activity where pid = %s"
        assert admin.execute(query, [first]).fetchall() == [(0,)]
