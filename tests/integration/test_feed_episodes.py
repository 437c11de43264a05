"""Episodes of the simulator with a table of the app that follows the mirror."""

from __future__ import annotations

from clerk_supabase_cli.simulator.episodes.episode import explore_episodes
from tests.kit.databases import Database


def test_the_app_s_table_ends_as_the_mirror_whatever_the_app_does(database: Database) -> None:
    report = explore_episodes(database, episodes=8, seed=5, only=("feed", "run", "edit", "show", "failover"))
    assert report.differences == []
    assert report.deadlocks == 0
    happened = {"fed table fails", "fed table is locked", "old handler writes", "failover that lost commits"}
    assert happened <= report.happened.keys()
