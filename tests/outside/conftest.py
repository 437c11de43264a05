"""The surroundings of a database on Supabase: its API, which accepts tokens of a Clerk instance, and its clients."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from clerk_supabase.credentials import Fixed
from clerk_supabase.postgres.store import Store
from clerk_supabase.tokens.claims import Organization
from clerk_supabase_cli.local.app.rest import AUTHENTICATOR, create_authenticator, project_secret
from clerk_supabase_cli.local.postgres import EmbeddedPostgres
from clerk_supabase_cli.standin.token_mint import Mint, SigningKey, legacy_token
from tests.kit.databases import Databases
from tests.outside import api, callers
from tests.outside.callers import Caller

_HOUR = 3600

TokenKind = Literal["v1", "v2", "legacy"]


@dataclass(frozen=True)
class Project:
    """A project of Supabase's: a synced database with the examples installed, behind its API."""

    url: str
    mint: Mint
    """The trusted instance of Clerk."""
    store: Store
    """The store of sync for the database."""
    database_url: str
    """The connection string of the owner."""

    def token(self, user_id: str, organization: Organization | None = None, kind: TokenKind = "v2") -> str:
        """The token in the browser of a user."""
        if kind == "legacy":
            return legacy_token(user_id, organization)
        return self.mint.session(user_id, organization, version=2 if kind == "v2" else 1)

    def key(self, role: str) -> str:
        """One of the two keys of every project: `anon`, which is public, or `service_role`."""
        return legacy_token("", role=role, sub=None, aud=None, lifetime=_HOUR)


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """A server that lives as long as the tests."""
    with EmbeddedPostgres(settings={"scram_iterations": "1"}) as server:
        yield server


@pytest.fixture(scope="session")
def databases(postgres: EmbeddedPostgres, root: Path) -> Iterator[Databases]:
    """The source of databases for tests."""
    with closing(Databases(postgres, root)) as databases:
        yield databases


@pytest.fixture
def new_database(databases: Databases) -> Iterator[str]:
    """The URL of an empty database, as superuser."""
    name = databases.create()
    yield databases.server.url(name)
    databases.drop(name)


@pytest.fixture(scope="session")
def project(databases: Databases, root: Path) -> Iterator[Project]:
    """One project for all tests: each test brings users of its own."""
    database = databases.take()
    password = secrets.token_urlsafe(16)
    with database.connect() as admin:
        for example in sorted((root / "sql" / "examples").glob("*.sql")):
            admin.execute(example.read_bytes())
        # Both ways to the mirror's tables: the schema of the mirror is served, and there are views in `public`.
        admin.execute("select clerk_sync.expose()")
        create_authenticator(admin, password)
    url = database.server.url(database.name, AUTHENTICATOR, password)
    mint = Mint(SigningKey.generate())
    with (
        closing(Store(Fixed(database.worker_url))) as store,
        api.serving(root, url, [mint.key.jwk, project_secret()]) as address,
    ):
        yield Project(address, mint, store, database.url)


@pytest.fixture(scope="session")
def running_callers(project: Project, root: Path) -> Iterator[dict[str, Caller]]:
    """Both clients, started once."""
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(callers.started(name, root, project.url, project.key("anon")))
            for name in ("python", "javascript")
        }


@pytest.fixture(params=["python", "javascript"])
def caller(running_callers: dict[str, Caller], request: pytest.FixtureRequest) -> Caller:
    """One client after the other."""
    return running_callers[request.param]


@pytest.fixture
def ada() -> str:
    """The id of somebody no other test knows."""
    return f"user_ada{secrets.token_hex(6)}"


@pytest.fixture
def eve() -> str:
    """Another user."""
    return f"user_eve{secrets.token_hex(6)}"


@pytest.fixture
def acme() -> str:
    """The id of an organization no other test knows."""
    return f"org_acme{secrets.token_hex(6)}"
