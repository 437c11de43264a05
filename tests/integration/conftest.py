"""A real Postgres for all tests, with a migrated database for each; and a stand-in for Clerk's Backend API."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest

from clerk_supabase.clerk.api import Clerk
from clerk_supabase.postgres.store import Store
from clerk_supabase_cli.local.postgres import NEWEST, VERSIONS, EmbeddedPostgres
from clerk_supabase_cli.standin.backend_api import ClerkApi
from clerk_supabase_cli.standin.frontend_api import FrontendApi
from tests.kit.aws import Account
from tests.kit.cases import EXHAUSTIVE
from tests.kit.clerk import Reader, api_with, reader
from tests.kit.databases import WORKER, Connection, Database, Databases
from tests.kit.doctoring import Doctor
from tests.kit.histories import RECEIVED_AT
from tests.kit.pipeline import Pipeline
from tests.kit.reconciling import Rig, RigMaker, mirror
from tests.kit.servers import ON_EVERY_VERSION, Server
from tests.kit.sessions import App, app_of
from tests.kit.supabase import PROJECTS, Supabase
from tests.kit.tokens import KEY


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests about the content of the database run once on each version of Postgres."""
    module = metafunc.module.__name__.rpartition(".")[2]
    on_one = metafunc.config.getoption("postgres") is not None or module not in ON_EVERY_VERSION
    if "postgres_version" in metafunc.fixturenames and not on_one:
        metafunc.parametrize(
            "postgres_version", VERSIONS, ids=lambda version: f"Postgres {version}", indirect=True, scope="session"
        )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out tests with parameters that would find what the others find."""
    finds_nothing_new = _finds_nothing if config.getoption(EXHAUSTIVE) else _finds_nothing_new
    left_out = [item for item in items if isinstance(item, pytest.Function) and finds_nothing_new(item)]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)


# Files of sql/tests that make a hundred tables each, and one that takes as long.
_LONGEST_FILES: Final = ("ownership", "secure")
_LONG_FILES: Final = (*_LONGEST_FILES, "buckets")
_IN_LONG_FILES: Final = ("granted by default", "no execute by default")
_ON_OLDER_VERSIONS: Final = "execute revoked"


def _finds_nothing(item: pytest.Function) -> bool:
    """Tells whether no fault could be found by this test alone.

    Default privileges and superusers are the same on each version of Postgres, so the claims in SQL take few projects
    on the older ones. Whether an attack on a function succeeds depends on the catalogue, and not on the role: two roles
    are enough there, of which one reaches most functions, and the other one most policies.

    Two projects are enough for the long files: one that grants everything by default, where a right too many shows, and
    the one that grants least, where a missing right shows. Where the functions in the schema clerk were revoked, the
    short files read through each policy that calls them.
    """
    known = _parameters(item)
    project = known.get("with_examples", PROJECTS[0])
    if known.get("postgres_version", NEWEST) != NEWEST:
        is_usual = project is not None and project.name in (PROJECTS[0].name, *_IN_LONG_FILES, _ON_OLDER_VERSIONS)
        return not is_usual or known.get("role", WORKER) not in (WORKER, "authenticated")
    return _is_of(_LONGEST_FILES, item) and (project is None or project.name not in _IN_LONG_FILES)


def _finds_nothing_new(item: pytest.Function) -> bool:
    """Tells whether what this test finds would also be found by the tests that are tried.

    Each claim in SQL is made on each version and, but for the long files, in each kind of project; not in each kind on
    each version. The newest one, which has rights of its own, takes the project that grants everything. That a false
    claim is reported is tried on the newest version.
    """
    if _finds_nothing(item):
        return True
    known = _parameters(item)
    if "with_examples" not in known:
        return False
    on_newest = known.get("postgres_version", NEWEST) == NEWEST
    if "file" not in known:
        return not on_newest
    name = known["with_examples"].name if known["with_examples"] else ""
    if _is_of(_LONG_FILES, item):
        return bool(name != _IN_LONG_FILES[0 if on_newest else 1])
    return bool((name == _ON_OLDER_VERSIONS) is on_newest)


def _parameters(item: pytest.Function) -> dict[str, Any]:
    return item.callspec.params if hasattr(item, "callspec") else {}


def _is_of(files: Collection[str], item: pytest.Function) -> bool:
    """Tells whether a test runs one of these files of sql/tests."""
    file = _parameters(item).get("file")
    return file is not None and file.stem in files


@pytest.fixture(scope="session")
def servers(root: Path, pytestconfig: pytest.Config) -> Iterator[Mapping[int, Server]]:
    """A server of each version."""
    through_pooler = pytestconfig.getoption("through_pooler")
    with ExitStack() as undo:
        yield {version: Server(version, root, undo, through_pooler=through_pooler) for version in VERSIONS}


@pytest.fixture(scope="session")
def postgres_version(request: pytest.FixtureRequest) -> int:
    """The major version of Postgres that a test runs on."""
    return int(getattr(request, "param", request.config.getoption("postgres") or NEWEST))


@pytest.fixture(scope="session")
def postgres(servers: Mapping[int, Server], postgres_version: int) -> EmbeddedPostgres:
    """A server that lives as long as the tests."""
    return servers[postgres_version].postgres


@pytest.fixture(scope="session")
def databases(servers: Mapping[int, Server], postgres_version: int) -> Databases:
    """The source of databases for tests."""
    return servers[postgres_version].databases


@pytest.fixture
def database(databases: Databases, request: pytest.FixtureRequest) -> Iterator[Database]:
    """A migrated database without a row."""
    database = databases.take(with_session="store" in request.fixturenames)
    yield database
    databases.give_back(database)


@pytest.fixture(scope="module")
def shared_database(databases: Databases) -> Iterator[Database]:
    """One database for all tests of a module, which change nothing in it."""
    database = databases.take()
    yield database
    databases.give_back(database)


@pytest.fixture(scope="session")
def supabase(servers: Mapping[int, Server], postgres_version: int) -> Supabase:
    """A server of its own, with Supabase's roles."""
    return servers[postgres_version].supabase


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
def store(databases: Databases, database: Database) -> Iterator[Store]:
    """A worker."""
    with databases.worker(database) as store:
        yield store


@pytest.fixture(scope="module")
def mirrored(databases: Databases, request: pytest.FixtureRequest) -> Iterator[RigMaker]:
    """Makes rigs in the state after a first run; the mark `mirror` of the module has the arguments of `mirror()`."""
    [mark] = request.node.iter_markers("mirror")
    with mirror(databases, *mark.args, **mark.kwargs) as mirrored:
        yield mirrored


@pytest.fixture
def rig(mirrored: RigMaker) -> Iterator[Rig]:
    """An instance of Clerk whose objects are all mirrored, in a database of its own."""
    with mirrored() as rig:
        yield rig


@pytest.fixture
def pipeline(account: Account, store: Store) -> Pipeline:
    """The way of a webhook from ingest to the tables; private metadata is kept."""
    return Pipeline(account, store, RECEIVED_AT, keep_private_metadata=True)


@pytest.fixture
def api() -> Iterator[ClerkApi]:
    """An instance with 1,201 users who signed up one second after the other."""
    with api_with(1_201) as api:
        yield api


@pytest.fixture
def ours(api: ClerkApi) -> Iterator[Reader]:
    """A client of the instance that never waits in real time."""
    found = reader(api.url)
    yield found
    found.http.close()


@pytest.fixture
def clerk(ours: Reader) -> Clerk:
    """A reader of the instance, for at most an hour."""
    return ours.clerk(seconds=3_600)


@pytest.fixture
def frontend() -> Iterator[FrontendApi]:
    """Clerk's Frontend API, with the key that signs the tokens of tests."""
    with FrontendApi(KEY) as frontend:
        yield frontend


@pytest.fixture
def empty_api() -> Iterator[ClerkApi]:
    """An instance without users."""
    with api_with() as api:
        yield api


@pytest.fixture
def app(frontend: FrontendApi, empty_api: ClerkApi, database: Database) -> Iterator[App]:
    """An app whose users sign in."""
    yield from app_of(frontend, empty_api, database.session_url)


@pytest.fixture
def doctor(database: Database) -> Doctor:
    """`clerk-supabase doctor` with the connection strings of a database, and no stack."""
    return Doctor(
        {
            "DATABASE_URL": database.url,
            "SYNC_DATABASE_URL": database.worker_url,
            "SESSION_DATABASE_URL": database.session_url,
        }
    )
