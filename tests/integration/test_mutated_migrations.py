"""A mutant of a migration: Postgres accepts it, and the list of objects fits it, so that tests can run against it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from clerk_supabase_cli.local.postgres import EmbeddedPostgres
from clerk_supabase_cli.operate.install.migrations import migrate, prepare_plain_postgres
from tests.mutate.lanes import lane
from tests.mutate.mutants import Mutant, mutant


def of_a_migration(root: Path, old: str, new: str) -> Mutant:
    """The first place where a migration says something, changed."""
    for path in sorted((root / "sql" / "migrations").glob("*.sql")):
        text = path.read_text(encoding="utf-8")
        start = text.find(old)
        if start >= 0:
            made = mutant(path.relative_to(root).as_posix(), text, (start, start + len(old), new))
            assert made is not None
            return made
    raise AssertionError(old)


@pytest.fixture(scope="module")
def own_server() -> Iterator[EmbeddedPostgres]:
    """A server for mutants alone: a mutant leaves no role to the next one."""
    with EmbeddedPostgres() as server:
        yield server


@pytest.mark.parametrize(
    ("old", "new", "is_sql"),
    [("create table", "create no table", False), ("not null default false", "not null default true", True)],
)
def test_a_mutant_that_is_valid_sql_is_migrated_and_an_invalid_one_is_recognised(
    old: str, new: str, is_sql: bool, root: Path, own_server: EmbeddedPostgres
) -> None:
    with lane(root, own_server) as one, one.changed(of_a_migration(root, old, new)) as folder:
        assert one.list_objects() is is_sql
        if is_sql:
            url = own_server.create_database("mutated")
            prepare_plain_postgres(url, folder)
            assert list(migrate(url, folder))
