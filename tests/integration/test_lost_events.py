"""Events lost for good, connections and runs cut off: after one clean run of reconcile the tables are as Clerk."""

from __future__ import annotations

import pytest

from clerk_supabase_cli.simulator.lost_events import explore_lost_events
from tests.kit.databases import Database

WORLDS = 8


@pytest.fixture
def seed(pytestconfig: pytest.Config) -> str:
    """Printed at the top of every run, settable by --hypothesis-seed."""
    return str(pytestconfig.option.hypothesis_seed)


def test_after_one_clean_run_the_tables_are_as_clerk_whatever_got_lost(database: Database, seed: str) -> None:
    report = explore_lost_events(database, worlds=WORLDS, seed=seed)
    assert report.differences == []
    assert report.worlds == WORLDS
    assert report.lost > 0
    assert report.runs > WORLDS
    assert report.resumed > 0


def test_a_run_that_repairs_nothing_is_found(database: Database, seed: str) -> None:
    with database.connect() as admin:
        admin.execute("""
            create or replace function clerk_sync.compare(request jsonb) returns jsonb language sql
            as $$ select '[]'::jsonb $$
        """)
    assert explore_lost_events(database, worlds=WORLDS, seed=seed).differences
