"""From the first release to a later version and back, while events flow: none is lost, parked or wrong.

The later version is the present code with one more mirrored column, so that the versions differ even before the second
release. Without a list in sql/released, and without the tag of the release, the present code stands in for the release.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import psycopg
import pytest
from psycopg import sql

from tests.kit.databases import Connection, Databases, Rows
from tests.kit.released import present, releases
from tests.kit.upgrading import (
    LATER_COLUMN,
    LATER_VALUE,
    LONG_SECONDS,
    Deployment,
    Event,
    changes_of_users,
    code_of,
    columns_of,
    content,
    deployed,
    events_of_every_kind,
    later_version,
    make_database,
    migrate_to,
    sign_ups,
)

ROWS: Final = 10_000
EVENTS: Final = 1_000
FEW: Final = 60
USER: Final = f"user_{ROWS // 2:027}"


@dataclass
class Bench:
    """A deployment whose database can be put back, and the content that the database has to get."""

    deployment: Deployment
    databases: Databases
    filled: str
    """The name of a database of the release with data of every kind."""
    columns: Mapping[str, Sequence[str]]
    later: Path
    """The checkout of the later version."""

    def begin(self) -> Deployment:
        """The deployment with a new copy of the filled database; the functions of the release are live."""
        name = self.deployment.database.name
        self.databases.drop(name)
        with psycopg.connect(self.databases.server.url(), autocommit=True) as connection:
            statement = sql.SQL("create database {} template {} strategy file_copy")
            connection.execute(statement.format(sql.Identifier(name), sql.Identifier(self.filled)))
        for queue in self.deployment.sqs.queues.values():
            queue.take_all()
        self.deployment.sent.clear()
        self.deployment.answers.clear()
        self.deployment.live = "old"
        return self.deployment

    def content(self) -> dict[str, Rows]:
        with self.deployment.database.connect() as connection:
            return content(connection, self.columns)


@pytest.fixture(scope="module")
def bench(databases: Databases, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    release = next(iter(releases(root)), None) or present(root)
    filled = make_database(databases, root, release)
    later = later_version(root, tmp_path_factory.mktemp("later"))
    codes = {"old": code_of(release, root, tmp_path_factory.mktemp("release")), "new": later}
    live = replace(filled, name=databases.create(filled.name))
    with deployed(live, codes) as deployment:
        deployment.fill([*events_of_every_kind(root, "before", 200), *sign_ups(ROWS)])
        with live.connect() as connection:
            columns = columns_of(connection)
        databases.drop(filled.name)
        filled = databases.copy(live)
        yield Bench(deployment, databases, filled.name, columns, later)
    databases.drop(live.name)
    databases.drop(filled.name)


@pytest.fixture(scope="module")
def events(root: Path) -> list[Event]:
    of_kinds = events_of_every_kind(root, "during", 150)
    changes = iter(changes_of_users(EVENTS - len(of_kinds), ROWS))
    # The kinds are spread over the whole time.
    mixed = [event for each in of_kinds for event in (each, *[next(changes, None) for _ in range(3)]) if event]
    return [*mixed, *changes]


@pytest.fixture(scope="module")
def wanted(bench: Bench, events: list[Event]) -> dict[str, Rows]:
    """The content of the database after the same events without an upgrade."""
    deployment = bench.begin()
    deployment.post(events)
    deployment.work()
    return bench.content()


@contextmanager
def flowing(deployment: Deployment) -> Iterator[None]:
    """Lets the functions work in a thread during the block."""
    thread = threading.Thread(target=deployment.work, args=(60.0,))
    thread.start()
    try:
        yield
    finally:
        thread.join()


Step = Callable[[Deployment, Path, Path], None]


def migrate_database(deployment: Deployment, root: Path, later: Path) -> None:
    migrate_to(deployment.database, root, later)


def deploy_new(deployment: Deployment, root: Path, later: Path) -> None:
    deployment.lose_a_process()
    deployment.live = "new"


def deploy_old(deployment: Deployment, root: Path, later: Path) -> None:
    deployment.lose_a_process()
    deployment.live = "old"


ORDERS: Final[Mapping[str, tuple[Step, ...]]] = {
    "the database first": (migrate_database, deploy_new, deploy_old),
    "the functions first": (deploy_new, migrate_database, deploy_old),
}


@pytest.mark.parametrize("order", ORDERS)
def test_an_upgrade_and_the_way_back_lose_park_and_spoil_nothing(
    order: str, bench: Bench, events: list[Event], wanted: dict[str, Rows], root: Path
) -> None:
    deployment = bench.begin()
    steps = ORDERS[order]
    share = len(events) // (len(steps) + 1)
    deployment.post(events[:share])
    for number, step in enumerate(steps, 1):
        if step is migrate_database:
            with flowing(deployment):
                step(deployment, root, bench.later)
        else:
            deployment.work(0.2)
            step(deployment, root, bench.later)
        deployment.post(events[number * share : (number + 1) * share if number < len(steps) else None])
    deployment.work()
    assert len(deployment.sent) == EVENTS
    assert deployment.problems(wanted, bench.columns) == []
    # Both versions wrote users.
    with deployment.database.connect() as connection:
        query = sql.SQL("select distinct {} from clerk.users").format(sql.Identifier(LATER_COLUMN))
        assert set(connection.execute(query).fetchall()) == {(None,), (LATER_VALUE,)}


# Proof that the test sees a broken upgrade


def run(connection: Connection, statements: str) -> None:
    connection.execute(statements.encode())


def set_version(version: str) -> str:
    return f"""
        create or replace function clerk_sync.version() returns text language sql immutable parallel safe
        set search_path = pg_catalog, pg_temp as $$select '{version}'$$;
    """


@pytest.fixture
def broken(bench: Bench, root: Path) -> Callable[[str], list[str]]:
    """Tells the problems after a later migration with these statements, with a few events."""

    def problems(statements: str) -> list[str]:
        deployment = bench.begin()
        with deployment.database.connect() as connection:
            run(connection, statements)
        deployment.post([*changes_of_users(FEW, ROWS), *events_of_every_kind(root, "broken", 5)])
        deployment.work()
        return deployment.problems({}, bench.columns)

    return problems


def test_a_column_that_the_functions_of_the_release_use_is_missed_and_nothing_is_parked(
    broken: Callable[[str], list[str]],
) -> None:
    found = broken("alter table clerk.users rename column first_name to given_name")
    assert {each.partition(":")[0] for each in found} == {"waiting"}


def test_a_stricter_table_is_seen(broken: Callable[[str], list[str]]) -> None:
    found = broken("alter table clerk.users add constraint users_strict check (first_name <> 'Ada 3') not valid")
    assert any(each.startswith("parked") for each in found)


def test_at_a_database_of_the_next_major_version_everything_waits_and_is_applied_after_the_way_back(
    bench: Bench, broken: Callable[[str], list[str]]
) -> None:
    found = broken(set_version("99.0.0"))
    assert {each.partition(":")[0] for each in found} == {"waiting"}
    deployment = bench.deployment
    with deployment.database.connect() as connection:
        run(connection, set_version("1.99.0"))
    deployment.work(2 * LONG_SECONDS)
    assert deployment.problems(bench.content(), bench.columns) == []


def test_a_lost_event_and_a_wrong_row_are_seen(bench: Bench) -> None:
    deployment = bench.begin()
    before = bench.content()
    deployment.sent.append("msg_never_sent")
    with deployment.database.connect() as connection:
        connection.execute("update clerk.users set first_name = 'Eve' where clerk_id = %s", [USER])
    found = set(deployment.problems(before, bench.columns))
    assert found == {"lost: 1", "wrong: clerk.users", "wrong: clerk.users_public"}
