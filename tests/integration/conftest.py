"""A real Postgres for all tests, and in it a migrated database for each; and a stand-in for Clerk's Backend API."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from clerk_supabase.clerk import Clerk
from clerk_supabase.store import Store
from clerk_supabase_cli.clerk_api.server import ClerkApi
from clerk_supabase_cli.postgres import EmbeddedPostgres
from tests.aws import Account
from tests.integration.clerk import Reader, api_with, reader
from tests.integration.databases import SESSION, WORKER, Connection, Database, Databases, Url
from tests.integration.histories import RECEIVED_AT
from tests.integration.road import Road
from tests.integration.supabase import Supabase
from tests.pooler import pooling

# Fewer than there are workers in some tests, so that they take turns.
_POOLED_CONNECTIONS = 2


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """A server that lives as long as the tests."""
    # Tests connect a thousand times, and hashing passwords would be most of it.
    with EmbeddedPostgres(settings={"scram_iterations": "1"}) as server:
        yield server


@pytest.fixture(scope="session")
def databases(postgres: EmbeddedPostgres, root: Path, pytestconfig: pytest.Config) -> Iterator[Databases]:
    """Where tests get their databases from."""
    databases = Databases(postgres, root)
    if not pytestconfig.getoption("through_pooler"):
        yield databases
        return
    passwords = dict.fromkeys((WORKER, SESSION), databases.worker_password)
    with pooling(postgres.port, passwords, connections=_POOLED_CONNECTIONS) as databases.pooler_port:
        yield databases


@pytest.fixture
def database(databases: Databases) -> Iterator[Database]:
    """A migrated database without a row."""
    database = databases.take()
    yield database
    databases.give_back(database)


@pytest.fixture(scope="module")
def shared_database(databases: Databases) -> Iterator[Database]:
    """One for all tests of a module, which change nothing in it."""
    database = databases.take()
    yield database
    databases.give_back(database)


@pytest.fixture(scope="session")
def supabase(root: Path) -> Iterator[Supabase]:
    """A server of its own, with Supabase's roles."""
    with EmbeddedPostgres(settings={"scram_iterations": "1"}) as server:
        yield Supabase(server, root)


@pytest.fixture
def new_database(databases: Databases) -> Iterator[str]:
    """The URL of an empty database, as superuser."""
    name = databases.create()
    yield databases.server.url(name)
    databases.drop(name)


@pytest.fixture
def admin(database: Database) -> Iterator[Connection]:
    """A superuser's connection."""
    with database.connect() as connection:
        yield connection


@pytest.fixture
def store(database: Database) -> Iterator[Store]:
    """A worker."""
    store = Store(Url(database.worker_url))
    yield store
    store.close()


@pytest.fixture
def road(account: Account, store: Store) -> Road:
    """The way of a webhook from ingest to the tables; private metadata is kept."""
    return Road(account, store, RECEIVED_AT, keep_private_metadata=True)


@pytest.fixture
def api() -> Iterator[ClerkApi]:
    """An instance with 1,201 users who signed up one second after the other."""
    with api_with(1_201) as api:
        yield api


@pytest.fixture
def ours(api: ClerkApi) -> Iterator[Reader]:
    """A client of it that never waits in earnest."""
    found = reader(api.url)
    yield found
    found.http.close()


@pytest.fixture
def clerk(ours: Reader) -> Clerk:
    """What reads with it, for at most an hour."""
    return ours.clerk(seconds=3_600)
