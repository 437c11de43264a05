"""The reaction of `dev` to changed files, with the stack that these tests share."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from clerk_supabase_cli.local.dev.reload import Reloader, fingerprints
from clerk_supabase_cli.local.stack import LocalStack
from clerk_supabase_cli.operate.install.migrations import migrate, prepare_plain_postgres
from clerk_supabase_cli.terminal import Terminal

MIGRATION = "create table public.of_a_test (); insert into clerk_sync.migrations (name) values ('0999_of_a_test');"


@pytest.fixture
def url(stack: LocalStack, root: Path) -> Iterator[str]:
    """A migrated database of this test alone."""
    url = stack.postgres.create_database("growing")
    prepare_plain_postgres(url, root)
    assert list(migrate(url, root))
    yield url
    stack.postgres.drop_database("growing")


def test_new_migrations_are_applied_to_the_database_that_dev_made_and_changed_ones_refused(
    stack: LocalStack, root: Path, url: str, tmp_path: Path
) -> None:
    shutil.copytree(root / "sql", tmp_path / "sql")
    file = tmp_path / "sql" / "migrations" / "0999_of_a_test.sql"
    screen = io.StringIO()
    console = Terminal(file=screen, width=200)
    reloader = Reloader(tmp_path, stack, console, known=fingerprints(tmp_path), database_url=url)

    file.write_text(MIGRATION)
    reloader.look()
    assert "applied 0999_of_a_test" in screen.getvalue()
    with psycopg.connect(url) as database:
        assert database.execute("select to_regclass('public.of_a_test') is not null").fetchone() == (True,)

    file.write_text(f"{MIGRATION} select 1;")
    reloader.look()
    assert "0999_of_a_test was changed after it had been applied" in screen.getvalue()
