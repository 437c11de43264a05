"""A real Postgres for all tests, and in it a migrated database for each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from clerk_supabase.store import Store
from clerk_supabase_cli.postgres import EmbeddedPostgres
from tests.integration.databases import SESSION, WORKER, Connection, Database, Databases, Url
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
