"""Through a pooler in transaction mode, whose connections go from one caller to the next within a moment."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import replace

import psycopg
import pytest

from clerk_supabase.credentials import Fixed
from clerk_supabase.errors import ChangeRefused, DatabaseUnavailable, NotAllowed, Retryable, RowUnavailable
from clerk_supabase.postgres.store import Queries, Store
from tests.kit import webhooks
from tests.kit.credentials import Changing
from tests.kit.databases import SESSION, WORKER, Connection, Database, Databases, rows, tables, value
from tests.kit.histories import Applied, alone, upsert
from tests.kit.polling import eventually
from tests.kit.pooler import pooling
from tests.kit.signed_in import claims_of

ADA = claims_of("user_ada")
EVE = claims_of("user_eve")

USERS = 40
WORKERS = 6
BATCH = 10


@pytest.fixture
def direct(databases: Databases) -> Iterator[Database]:
    """A migrated database without a row and without a pooler."""
    database = databases.take()
    yield database
    databases.give_back(database)


@pytest.fixture
def database(direct: Database) -> Iterator[Database]:
    """The same, for sync behind a pooler that has one connection for each of the roles."""
    passwords = dict.fromkeys((WORKER, SESSION), direct.worker_password)
    with pooling(direct.server.port, passwords, connections=1) as port:
        yield replace(direct, pooler_port=port)


@pytest.fixture
def admin(direct: Database) -> Iterator[Connection]:
    """A superuser's connection."""
    with direct.connect() as connection:
        yield connection


@pytest.fixture
def store(database: Database) -> Iterator[Store]:
    """A worker."""
    with closing(Store(Fixed(database.worker_url))) as store:
        yield store


def workers(admin: Connection) -> list[int]:
    """The server's processes for workers of this database."""
    query = "select pid from pg_stat_activity where datname = current_database() and usename = %s"
    return [pid for (pid,) in rows(admin, query, WORKER)]


def life(number: int) -> list[Applied]:
    """Clerk's events about one user; some users leave."""
    user_id, prefix = f"user_{number}", f"msg_{number}"
    events = [
        webhooks.user(user_id, at=1, svix_id=f"{prefix}a"),
        webhooks.membership(f"orgmem_{number}", at=2, user_id=user_id, svix_id=f"{prefix}b"),
        webhooks.user(user_id, at=3, svix_id=f"{prefix}c", first_name="Later"),
        webhooks.deleted("user", user_id, at=4, svix_id=f"{prefix}d"),
    ]
    return events if number % 3 == 0 else events[:-1]


def apply_each(url: str, batches: list[list[Applied]]) -> None:
    """Applies the events of one worker."""
    with closing(Store(Fixed(url))) as store:
        for batch in batches:
            store.apply(batch)


def test_workers_that_share_a_connection_end_in_the_same_state(
    database: Database, admin: Connection, databases: Databases
) -> None:
    history = [event for number in range(USERS) for event in life(number)]
    in_order = databases.take()
    apply_each(in_order.worker_url, [history])

    twice = history * 2
    random.Random(7).shuffle(twice)
    batches = [twice[start : start + BATCH] for start in range(0, len(twice), BATCH)]
    with ThreadPoolExecutor(WORKERS) as pool:
        work = [pool.submit(apply_each, database.worker_url, batches[first::WORKERS]) for first in range(WORKERS)]
        for done in work:
            done.result(timeout=60)

    assert len(workers(admin)) == 1
    with in_order.connect() as other:
        assert tables(admin) == tables(other)
    assert value(admin, "select count(*) from clerk_sync.deliveries") == len(history)
    databases.give_back(in_order)


def test_the_limits_of_the_role_hold(store: Store) -> None:
    store.check()
    assert store._kept.connection is not None
    assert value(store._kept.connection, "select current_setting('statement_timeout')") == "15s"
    assert value(store._kept.connection, "select current_setting('lock_timeout')") == "5s"


def test_nothing_is_left_in_the_session(store: Store) -> None:
    for version in range(8):
        store.apply(alone(upsert(version=version)))
    assert store._kept.connection is not None
    assert rows(store._kept.connection, "select statement from pg_prepared_statements") == []
    assert rows(store._kept.connection, "select * from pg_locks where locktype = 'advisory'") == []
    # The pooler's own.
    session = "select name from pg_settings where source = 'session'"
    assert rows(store._kept.connection, session) == [("application_name",)]


# The server behind the pooler becomes unavailable


def test_a_batch_is_applied_although_the_server_ended_the_poolers_connection(store: Store, admin: Connection) -> None:
    store.apply(alone(upsert("user_0")))
    [worker] = workers(admin)
    admin.execute("select pg_terminate_backend(%s)", [worker])
    eventually(lambda: workers(admin), lambda found: not found)
    assert store.apply(alone(upsert())) == ["created"]


def test_while_the_server_is_unavailable_the_messages_stay_in_the_queue(store: Store, database: Database) -> None:
    store.apply(alone(upsert("user_0")))
    database.server.stop()
    try:
        with pytest.raises(DatabaseUnavailable):
            store.apply(alone(upsert()))
    finally:
        database.server.start()

    def applied() -> object:
        try:
            return store.apply(alone(upsert()))
        except DatabaseUnavailable:
            # The pooler remembers for a while that it could not log in.
            return None

    assert eventually(applied, bool) == ["created"]


def test_a_pooler_that_holds_a_query_while_the_server_is_unavailable_is_not_waited_for(database: Database) -> None:
    """The pooler would hold a query for longer than a function may take, and no limit of the role can end the wait."""
    with closing(Store(Fixed(database.worker_url), patience_seconds=0.5)) as impatient:
        impatient.check()
        database.server.stop()
        try:
            with pytest.raises(DatabaseUnavailable):
                impatient.check()
            with pytest.raises(DatabaseUnavailable):
                impatient.check()
        finally:
            database.server.start()

        def is_back() -> bool:
            with suppress(DatabaseUnavailable):
                impatient.check()
                return True
            return False

        eventually(is_back, bool)


def test_with_a_wrong_password_the_messages_stay_in_the_queue(database: Database) -> None:
    wrong = database.worker_url.replace(database.worker_password, "a-secret-password")
    with closing(Store(Fixed(wrong))) as store, pytest.raises(Retryable) as caught:
        store.apply(alone(upsert()))
    assert "a-secret-password" not in str(caught.value)


def test_while_the_pooler_is_unavailable_the_messages_stay_in_the_queue_and_are_later_applied(direct: Database) -> None:
    passwords = {WORKER: direct.worker_password}
    with pooling(direct.server.port, passwords, connections=1) as port:
        url = Changing(replace(direct, pooler_port=port).worker_url)
        store = Store(url)
        store.apply(alone(upsert("user_0")))
    with pytest.raises(DatabaseUnavailable):
        store.apply(alone(upsert()))
    with pooling(direct.server.port, passwords, connections=1) as port:
        url.current = replace(direct, pooler_port=port).worker_url
        assert store.apply(alone(upsert())) == ["created"]
        store.close()


def test_a_row_that_takes_longer_than_the_pooler_allows_is_no_outage_and_not_tried_twice(
    direct: Database, admin: Connection
) -> None:
    admin.execute(
        """
        create sequence public.attempts;
        grant usage on sequence public.attempts to public;
        create function public.dawdle() returns trigger language plpgsql as
        $$ begin perform nextval('public.attempts'), pg_sleep(60); return new; end $$;
        create trigger a before insert on clerk.users for each row when (new.first_name = 'Robot')
        execute function public.dawdle();
        """
    )
    with (
        pooling(direct.server.port, {WORKER: direct.worker_password}, connections=1, query_timeout=1) as port,
        closing(Store(Fixed(replace(direct, pooler_port=port).worker_url))) as store,
    ):
        store.apply(alone(upsert("user_0")))
        [slow] = store.apply(alone(upsert("user_1", first_name="Robot")))
        assert isinstance(slow, RowUnavailable)
        assert "query_timeout of the pooler" in str(slow)
        assert value(admin, "select last_value from public.attempts") == 1
        assert store.apply(alone(upsert("user_2"))) == ["created"]


# Acting as a user


def seen(queries: Queries) -> list[str]:
    return [clerk_id for (clerk_id,) in queries.rows("select clerk_id from clerk.users order by 1")]


def left_behind(url: str) -> tuple[object, ...] | None:
    """The state that the next client finds: its role, the claims, the server's process."""
    with psycopg.connect(url, autocommit=True, prepare_threshold=None) as anybody:
        return anybody.execute(
            "select current_user::text, coalesce(current_setting('request.jwt.claims', true), ''), pg_backend_pid()"
        ).fetchone()


def test_nothing_of_a_user_is_left_for_the_next_on_the_same_connection(store: Store, database: Database) -> None:
    store.apply(alone(upsert("user_ada"), upsert("user_eve")))
    processes = set()
    with closing(Store(Fixed(database.session_url))) as first, closing(Store(Fixed(database.session_url))) as second:
        for users, claims in ((first, ADA), (second, EVE), (first, EVE), (second, ADA)):
            with users.as_user(claims) as queries:
                assert seen(queries) == [claims.user_id]
                processes |= {process for (process,) in queries.rows("select pg_backend_pid()")}
            assert left_behind(database.session_url) == (SESSION, "", *processes)
            with pytest.raises(NotAllowed), users.as_user(claims) as queries:
                queries.rows("delete from clerk.users")
            assert left_behind(database.session_url) == (SESSION, "", *processes)
            with pytest.raises(ChangeRefused), users.as_user(claims) as queries:
                queries.rows("select 1 / 0")
            assert left_behind(database.session_url) == (SESSION, "", *processes)
    assert len(processes) == 1


def test_users_at_the_same_time_see_each_their_own(store: Store, database: Database) -> None:
    names = [f"user_{number}" for number in range(WORKERS)]
    store.apply(alone(*map(upsert, names)))

    def look(name: str) -> list[list[str]]:
        with closing(Store(Fixed(database.session_url))) as users:
            answers = []
            for _ in range(20):
                with users.as_user(claims_of(name)) as queries:
                    answers.append(seen(queries))
            return answers

    with ThreadPoolExecutor(WORKERS) as pool:
        assert list(pool.map(look, names)) == [[[name]] * 20 for name in names]
