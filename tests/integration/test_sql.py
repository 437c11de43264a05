"""Runs sql/tests: each file is a test, made of claims in SQL that are tried as each role."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from clerk_supabase_cli.project import find_root
from tests.kit.databases import Connection, Database
from tests.kit.supabase import PROJECTS, Project, Supabase

_TESTS = find_root(Path(__file__).parent) / "sql" / "tests"
_SETUP = _TESTS / "setup.sql"


@pytest.fixture(scope="module", params=[None, *PROJECTS], ids=lambda project: project.name if project else "superuser")
def with_examples(request: pytest.FixtureRequest, root: Path, postgres_version: int) -> Iterator[Connection]:
    """A connection of the tables' owner to a database in which the examples were installed, twice, as people do."""
    project: Project | None = request.param
    if project is None:
        database: Database = request.getfixturevalue("shared_database")
        url = database.url
    else:
        made: Supabase = request.getfixturevalue("supabase")
        url = made.url(project)
    with psycopg.connect(url, autocommit=True) as connection:
        for example in sorted((root / "sql" / "examples").glob("*.sql")) * 2:
            connection.execute(example.read_bytes())
        yield connection


# A claim is reported in the same way for every kind of project: claims about the reports take the commonest.
about_reports = pytest.mark.parametrize("with_examples", PROJECTS[:1], ids=[PROJECTS[0].name], indirect=True)


@pytest.mark.parametrize("file", sorted(set(_TESTS.glob("*.sql")) - {_SETUP}), ids=lambda file: file.stem)
def test_every_claim_made_in_sql_holds(file: Path, with_examples: Connection) -> None:
    *claims, plan = output(with_examples, file)
    if broken := [claim for claim in claims if not claim.startswith("ok - ")]:
        pytest.fail("\n".join(broken), pytrace=False)
    assert plan == f"1..{len(claims)}"
    assert claims


@about_reports
def test_a_false_claim_is_reported(with_examples: Connection, tmp_path: Path) -> None:
    file = tmp_path / "failing.sql"
    file.write_text(
        "select tap.is('1', '2', 'one is two'); select tap.ok(null, 'unknown'); select tap.finish(); rollback;"
    )
    assert output(with_examples, file) == [
        "not ok - one is two: have '1', want '2'",
        "not ok - unknown: have NULL, want 'true'",
        "1..2",
    ]


@about_reports
@pytest.mark.parametrize(
    "planted",
    [
        "create function clerk_sync.planted() returns int language sql return 1",
        "create function clerk_sync.planted() returns int language sql set search_path = '' return 1",
        "create function clerk_sync.planted() returns int language sql set search_path = pg_catalog return 1",
        "create function clerk_sync.planted() returns int language sql set search_path = pg_temp, public return 1",
        "create procedure clerk_sync.planted() language sql as ''",
        "create aggregate clerk_sync.planted (int) (sfunc = int4pl, stype = int)",
        "create or replace function clerk.requesting_user_id() returns text language sql return 'user_eve'",
        "alter function clerk_sync.write_user(jsonb, clerk_sync.change[]) set search_path = ''",
        "alter function clerk_sync.hide_rows(clerk_sync.change[]) reset search_path",
    ],
)
def test_a_function_of_ours_with_any_other_search_path_is_found(
    planted: str, with_examples: Connection, tmp_path: Path
) -> None:
    assert _lint(with_examples, tmp_path, planted, "search path").startswith("not ok")


@about_reports
@pytest.mark.parametrize(
    "planted",
    [
        "select",
        "create function public.planted() returns int language sql return 1",
        "create function public.apply() returns int language sql return 1",
        "create schema app; create function app.requesting_user_id() returns int language sql return 1",
    ],
)
def test_a_function_of_the_apps_may_have_any_search_path(
    planted: str, with_examples: Connection, tmp_path: Path
) -> None:
    assert _lint(with_examples, tmp_path, planted, "search path").startswith("ok")


@about_reports
def test_a_foreign_key_in_a_schema_of_the_apps_needs_no_index(with_examples: Connection, tmp_path: Path) -> None:
    planted = """
        create schema app;
        create table app.teams (id int primary key);
        create table app.players (id int primary key, team int references app.teams)
    """
    assert _lint(with_examples, tmp_path, planted, "foreign key").startswith("ok")


def _lint(connection: Connection, folder: Path, planted: str, words: str) -> str:
    """The claim of lint.sql with these words, made where something was planted before."""
    file = folder / "lint.sql"
    file.write_text(f"{planted};\n{(_TESTS / 'lint.sql').read_text()}")
    [claim] = [line for line in output(connection, file) if words in line]
    return claim


def output(connection: Connection, file: Path) -> list[str]:
    """The output of psql. Fails with the line of the statement that Postgres refuses."""
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
