"""Runs sql/tests: each file is a test, made of claims in SQL that are tried as each role."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from clerk_supabase_cli.postgres import EmbeddedPostgres
from clerk_supabase_cli.project import find_root
from tests.integration.databases import Connection, Database
from tests.integration.supabase import PROJECTS, Project, Supabase

_TESTS = find_root(Path(__file__).parent) / "sql" / "tests"
_SETUP = _TESTS / "setup.sql"


@pytest.fixture(scope="module")
def supabase(root: Path) -> Iterator[Supabase]:
    with EmbeddedPostgres(settings={"scram_iterations": "1"}) as server:
        yield Supabase(server, root)


@pytest.fixture(scope="module", params=[None, *PROJECTS], ids=lambda project: project.name if project else "superuser")
def with_examples(request: pytest.FixtureRequest, root: Path) -> Iterator[Connection]:
    """A connection of the tables' owner to a database in which the examples were installed, twice, as people do."""
    project: Project | None = request.param
    if project is None:
        database: Database = request.getfixturevalue("shared_database")
        url = database.url
    else:
        made: Supabase = request.getfixturevalue("supabase")
        url = made.create(project)
    with psycopg.connect(url, autocommit=True) as connection:
        for example in sorted((root / "sql" / "examples").glob("*.sql")) * 2:
            connection.execute(example.read_bytes())
        yield connection


@pytest.mark.parametrize("file", sorted(set(_TESTS.glob("*.sql")) - {_SETUP}), ids=lambda file: file.stem)
def test_every_claim_made_in_sql_holds(file: Path, with_examples: Connection) -> None:
    *claims, plan = output(with_examples, file)
    if broken := [claim for claim in claims if not claim.startswith("ok - ")]:
        pytest.fail("\n".join(broken), pytrace=False)
    assert plan == f"1..{len(claims)}"
    assert claims


def test_a_claim_that_does_not_hold_is_said(with_examples: Connection, tmp_path: Path) -> None:
    file = tmp_path / "failing.sql"
    file.write_text(
        "select tap.is('1', '2', 'one is two'); select tap.ok(null, 'unknown'); select tap.finish(); rollback;"
    )
    assert output(with_examples, file) == [
        "not ok - one is two: have '1', want '2'",
        "not ok - unknown: have NULL, want 'true'",
        "1..2",
    ]


def output(connection: Connection, file: Path) -> list[str]:
    """What psql would print. Fails with the line of the statement that Postgres refuses."""
    setup, test = _SETUP.read_text(), file.read_text()
    lines = []
    try:
        results = connection.execute((setup + test).encode())
        while True:
            if results.description:
                lines += [str(text) for (text,) in results]
            if not results.nextset():
                return lines
    except psycopg.Error as error:
        connection.execute("rollback")
        pytest.fail(f"{where(error, setup, test)}: {error}", pytrace=False)


def where(error: psycopg.Error, setup: str, test: str) -> str:
    if error.diag.statement_position is None:
        return "in a function"
    position = int(error.diag.statement_position) - 1
    if position < len(setup):
        return f"setup, line {setup.count(chr(10), 0, position) + 1}"
    return f"line {test.count(chr(10), 0, position - len(setup)) + 1}"
