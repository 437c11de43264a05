"""The connection is kept, and opened again after its loss; failures that pass differ from failures that stay."""

from __future__ import annotations

import secrets
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import LiteralString

import psycopg
import pytest

from clerk_supabase.aws.secrets import Secret
from clerk_supabase.credentials import Fixed
from clerk_supabase.errors import DatabaseNotReady, DatabaseUnavailable, Retryable, SetUpWrong
from clerk_supabase.postgres.store import Store
from clerk_supabase_cli.local.processes import free_port
from clerk_supabase_cli.operate.database import DatabaseFailed, open_database
from tests.kit.aws import Account
from tests.kit.clock import Clock
from tests.kit.credentials import Changing
from tests.kit.databases import WORKER, Connection, Database, Databases, at_port, rows, value
from tests.kit.histories import alone, upsert
from tests.kit.polling import eventually
from tests.kit.proxy import CountingProxy

PATIENCE_SECONDS = 10


def workers(admin: Connection) -> list[int]:
    """The server's processes for workers of this database."""
    query = "select pid from pg_stat_activity where datname = current_database() and usename = %s"
    return [pid for (pid,) in rows(admin, query, WORKER)]


@pytest.fixture
def open_store(store: Store) -> Store:
    """A store after its first successful statement."""
    store.apply(alone(upsert("user_0")))
    return store


def test_one_connection_serves_all_batches(open_store: Store, admin: Connection) -> None:
    [before] = workers(admin)
    for version in range(5):
        open_store.apply(alone(upsert(version=version)))
    assert workers(admin) == [before]


def test_a_store_connects_when_it_is_first_needed(database: Database, admin: Connection) -> None:
    with closing(Store(Fixed(database.worker_url))):
        assert workers(admin) == []


def test_a_store_that_was_closed_works_again(open_store: Store) -> None:
    open_store.close()
    assert open_store.apply(alone(upsert())) == ["created"]


def test_connections_show_their_function_to_the_operator(open_store: Store, admin: Connection) -> None:
    query = "select application_name from pg_stat_activity where usename = %s and datname = current_database()"
    assert value(admin, query, WORKER) == "clerk-supabase-sync"


# The connection is gone


def test_a_batch_is_applied_although_the_server_ended_the_connection(open_store: Store, admin: Connection) -> None:
    [worker] = workers(admin)
    admin.execute("select pg_terminate_backend(%s)", [worker])
    eventually(lambda: workers(admin), lambda found: not found, seconds=PATIENCE_SECONDS)
    assert open_store.apply(alone(upsert())) == ["created"]


def test_a_batch_is_applied_although_the_network_dropped_the_connection(database: Database) -> None:
    with (
        CountingProxy(database.server.port) as proxy,
        closing(Store(Fixed(at_port(database.worker_url, proxy.port)))) as store,
    ):
        store.apply(alone(upsert("user_0")))
        proxy.cut()
        assert store.apply(alone(upsert())) == ["created"]


def test_a_batch_is_applied_after_the_server_restarted(open_store: Store, database: Database) -> None:
    database.server.stop()
    try:
        with pytest.raises(DatabaseUnavailable):
            open_store.apply(alone(upsert()))
    finally:
        database.server.start()
    assert open_store.apply(alone(upsert())) == ["created"]


def test_a_batch_is_applied_after_the_server_crashed(open_store: Store, database: Database) -> None:
    database.server.kill()
    database.server.start()
    assert open_store.apply(alone(upsert())) == ["created"]


def test_a_connection_that_breaks_after_the_commit_applies_the_batch_once(database: Database) -> None:
    # The answer is lost on its way; the second attempt finds the change in place.
    with (
        database.connect() as admin,
        CountingProxy(database.server.port) as proxy,
        closing(Store(Fixed(at_port(database.worker_url, proxy.port)))) as store,
        ThreadPoolExecutor(1) as pool,
        database.connect() as blocker,
    ):
        store.apply(alone(upsert("user_0")))
        [first] = workers(admin)
        with blocker.transaction():
            blocker.execute("lock table clerk_sync.entities in exclusive mode")
            applied = pool.submit(store.apply, alone(upsert()))
            waiting = "select pid from pg_locks where not granted"
            eventually(lambda: rows(admin, waiting), len, seconds=PATIENCE_SECONDS)
            # The server does not notice before it answers, so both attempts run to their end.
            proxy.cut()
            eventually(
                lambda: [pid for (pid,) in rows(admin, waiting)],
                lambda found: any(pid != first for pid in found),
                seconds=PATIENCE_SECONDS,
            )
        assert applied.result(PATIENCE_SECONDS) in (["created"], ["unchanged"])
        assert rows(admin, "select clerk_id from clerk.users order by clerk_id") == [("user_0",), ("user_1",)]


# The password changed


@pytest.fixture
def new_password(databases: Databases) -> Iterator[str]:
    """Rotates the worker's password; afterwards the password of all other tests is set again."""
    password = secrets.token_urlsafe(16)
    databases.set_worker_password(password)
    yield password
    databases.set_worker_password(databases.worker_password)


def rotated(database: Database, password: str) -> str:
    return f"{database.server.url(database.name, WORKER, password)}?sslmode=disable"


def test_a_connection_that_is_open_survives_the_rotation_of_the_password(open_store: Store, new_password: str) -> None:
    assert open_store.apply(alone(upsert())) == ["created"]


def test_after_a_rotation_the_new_password_is_found_without_a_deploy(database: Database, new_password: str) -> None:
    with closing(Store(Changing(database.worker_url, newer=rotated(database, new_password)))) as store:
        assert store.apply(alone(upsert())) == ["created"]


def test_after_a_rotation_the_new_password_comes_from_secrets_manager(
    database: Database, new_password: str, account: Account
) -> None:
    arn = account.put_secret("database", database.worker_url)
    secret = Secret(account.secrets_manager, arn, Clock())
    with closing(Store(secret)) as store:
        # The secret was read before the rotation, and is still in the cache.
        assert secret.value() == database.worker_url
        account.put_secret("database", rotated(database, new_password))
        assert store.apply(alone(upsert())) == ["created"]


def test_with_a_wrong_password_the_messages_stay_in_the_queue(database: Database, new_password: str) -> None:
    with closing(Store(Fixed(database.worker_url))) as store, pytest.raises(Retryable) as caught:
        store.apply(alone(upsert()))
    assert database.worker_password not in str(caught.value)


# The database is unavailable, or not ready


def test_a_server_that_does_not_answer_is_unavailable() -> None:
    nowhere = f"postgresql://{WORKER}:a-secret-password@127.0.0.1:{free_port()}/postgres?sslmode=disable"
    with closing(Store(Fixed(nowhere))) as store, pytest.raises(DatabaseUnavailable) as caught:
        store.apply(alone(upsert()))
    assert "a-secret-password" not in str(caught.value)


def test_a_host_that_does_not_exist_is_unavailable() -> None:
    nowhere = f"postgresql://{WORKER}:secret@db.invalid/postgres?sslmode=disable"
    with closing(Store(Fixed(nowhere))) as store, pytest.raises(DatabaseUnavailable):
        store.apply(alone(upsert()))


@pytest.mark.parametrize(
    "garbage",
    [
        *("", "   ", "not a url", "https://example.test", '{"password": "s3cret"}', "host=h password=s3cret"),
        *("postgresql://a:s3cret@host:port/db", "postgresql://a:s3cret%Pw@host/db", "postgresql://a:s3@cret@host/db"),
    ],
)
def test_a_broken_connection_string_is_a_wrong_set_up_and_keeps_the_messages_in_the_queue(garbage: str) -> None:
    with closing(Store(Fixed(garbage))) as store, pytest.raises(SetUpWrong, match="a fixed credential") as caught:
        store.apply(alone(upsert()))
    assert "s3cret" not in str(caught.value)


def test_once_the_connection_string_is_corrected_the_same_store_works(database: Database) -> None:
    with closing(Store(Changing("postgresql://a:s3cret%Pw@host/db", newer=database.worker_url))) as store:
        assert store.apply(alone(upsert())) == ["created"]


@pytest.mark.parametrize(
    ("part", "instead", "said"),
    [
        ("password", "a-secret-password", "password authentication failed"),
        ("user", "a-secret-password", "password authentication failed"),
        ("database", "a-secret-password", "no such role or database"),
        ("host", "a-secret-password.invalid", "no address"),
        ("nothing", "", "names no password"),
    ],
)
def test_the_reason_of_a_refused_login_is_passed_on_in_words_of_our_own(
    part: str, instead: str, said: str, database: Database
) -> None:
    password = "" if part == "nothing" else f":{instead if part == 'password' else database.worker_password}"
    user, name = instead if part == "user" else WORKER, instead if part == "database" else database.name
    host = instead if part == "host" else f"127.0.0.1:{database.server.port}"
    url = f"postgresql://{user}{password}@{host}/{name}?sslmode=disable"
    with closing(Store(Fixed(url))) as store, pytest.raises(Retryable, match=said) as caught:
        store.apply(alone(upsert()))
    assert "a-secret-password" not in "".join(traceback.format_exception(caught.value))
    assert caught.value.__context__ is None


_REFUSE = """
    raise exception 'password authentication failed for user "a-secret-password"' using errcode = '28P01';
"""


def test_a_pooler_that_cannot_log_in_at_the_server_is_not_quoted_either(store: Store, admin: Connection) -> None:
    store.check()
    admin.execute(
        f"""
        create or replace function clerk_sync.takes_writes() returns boolean language plpgsql as
        $$ begin {_REFUSE} end $$
        """
    )
    with pytest.raises(SetUpWrong, match="password authentication failed") as caught:
        store.check()
    assert "a-secret-password" not in "".join(traceback.format_exception(caught.value))


def test_a_pooler_that_cannot_log_in_at_the_server_is_not_quoted_to_the_operator(database: Database) -> None:
    with (
        pytest.raises(DatabaseFailed, match="cannot be reached: password authentication failed") as caught,
        open_database(database.url) as connection,
    ):
        connection.execute(f"do $$ begin {_REFUSE} end $$")
    assert "a-secret-password" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "statement",
    [
        "drop function clerk_sync.apply(jsonb)",
        "revoke execute on function clerk_sync.apply(jsonb) from clerk_sync_worker",
        "revoke usage on schema clerk_sync from clerk_sync_worker",
        "drop schema clerk_sync cascade",
        "drop table clerk.users cascade",
        "alter table clerk.users drop column username",
        "delete from clerk_sync.kinds",
    ],
)
def test_a_database_without_the_migrations_is_not_ready(
    statement: LiteralString, store: Store, admin: Connection
) -> None:
    admin.execute(statement)
    with pytest.raises(DatabaseNotReady, match="clerk-supabase migrate"):
        store.apply(alone(upsert()))


def test_a_database_that_does_not_exist_keeps_the_messages_in_the_queue(database: Database) -> None:
    url = f"{database.server.url('no_such_database', WORKER, database.worker_password)}?sslmode=disable"
    with closing(Store(Fixed(url))) as store, pytest.raises(Retryable):
        store.apply(alone(upsert()))


def test_once_the_migrations_are_there_the_same_store_works(
    store: Store, database: Database, admin: Connection
) -> None:
    admin.execute("alter function clerk_sync.apply(jsonb) rename to gone")
    with pytest.raises(DatabaseNotReady):
        store.apply(alone(upsert()))
    admin.execute("alter function clerk_sync.gone(jsonb) rename to apply")
    assert store.apply(alone(upsert())) == ["created"]


# Reasons that pass


def blocked(database: Database, **settings: str) -> str:
    """The error of the store when another session holds a lock on the row."""
    with (
        closing(Store(Fixed(database.worker_url_with(**settings)))) as store,
        database.connect() as other,
        other.transaction(),
    ):
        other.execute("lock table clerk.users in exclusive mode")
        [answer] = store.apply(alone(upsert()))
    assert isinstance(answer, DatabaseUnavailable)
    return str(answer)


def test_a_lock_that_is_held_too_long_passes(database: Database) -> None:
    assert "lock timeout" in blocked(database, lock_timeout="20")


def test_a_statement_that_takes_too_long_passes(database: Database) -> None:
    assert "statement timeout" in blocked(database, statement_timeout="1s")


def test_a_database_that_is_read_only_passes(database: Database) -> None:
    url = database.worker_url_with(default_transaction_read_only="on")
    with closing(Store(Fixed(url))) as store, pytest.raises(DatabaseUnavailable, match="read-only"):
        store.apply(alone(upsert()))


def test_a_database_with_too_many_connections_passes(database: Database, store: Store, admin: Connection) -> None:
    admin.execute(f"alter database {database.name} connection limit 0")
    with pytest.raises(DatabaseUnavailable, match="too many connections"):
        store.apply(alone(upsert()))
    admin.execute(f"alter database {database.name} connection limit -1")
    assert store.apply(alone(upsert())) == ["created"]


def test_after_a_timeout_the_connection_is_still_good(database: Database, admin: Connection) -> None:
    with closing(Store(Fixed(database.worker_url_with(lock_timeout="20")))) as store:
        store.apply(alone(upsert("user_0")))
        [worker] = workers(admin)
        with database.connect() as other, other.transaction():
            other.execute("lock table clerk.users in exclusive mode")
            [answer] = store.apply(alone(upsert()))
        assert isinstance(answer, DatabaseUnavailable)
        assert store.apply(alone(upsert())) == ["created"]
        assert workers(admin) == [worker]


def test_the_worker_never_waits_longer_than_the_function_may_run(store: Store) -> None:
    store.apply(alone(upsert()))
    assert store._kept.connection is not None
    limits: dict[str, int] = dict(
        rows(
            store._kept.connection,
            "select name, setting::int / 1000 from pg_settings where name in ('lock_timeout', 'statement_timeout')",
        )
    )
    assert 0 < limits["lock_timeout"] < limits["statement_timeout"] < 30


def test_without_tls_the_server_is_refused_unless_the_url_allows_it(database: Database) -> None:
    url = database.worker_url.removesuffix("?sslmode=disable")
    with closing(Store(Fixed(url))) as store, pytest.raises(DatabaseUnavailable, match="SSL"):
        store.apply(alone(upsert()))


def test_errors_of_the_driver_never_leave_the_store(database: Database) -> None:
    with closing(Store(Fixed(database.worker_url_with(default_transaction_read_only="on")))) as store:
        with pytest.raises(Retryable) as caught:
            store.apply(alone(upsert()))
        assert isinstance(caught.value.__cause__, psycopg.Error)


def test_an_answer_that_does_not_come_is_not_waited_for_and_not_mistaken_for_the_next(
    database: Database, admin: Connection
) -> None:
    with closing(Store(Fixed(database.worker_url), patience_seconds=3)) as store:
        store.apply(alone(upsert("user_0")))
        with admin.transaction():
            admin.execute("lock table clerk.users in access exclusive mode")
            with pytest.raises(DatabaseUnavailable, match=r"did not answer within 3 s"):
                store.apply(alone(upsert()))
        # The statement whose answer was not awaited may have got the lock, and may have ended by now.
        assert store.apply(alone(upsert(version=9))) in (["created"], ["unchanged"])
