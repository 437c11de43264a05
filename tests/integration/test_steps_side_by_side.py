"""Steps of an episode at the same moment share one connection, and do not disturb each other."""

from __future__ import annotations

from contextlib import closing

from clerk_supabase_cli.simulator.episodes.episode import play
from clerk_supabase_cli.simulator.episodes.stage import Theatre
from clerk_supabase_cli.simulator.episodes.steps import Step
from tests.kit.databases import Database


def test_housekeeping_may_happen_several_times_at_once(database: Database) -> None:
    often = (Step("housekeeping", number, is_beside=number % 3 > 0) for number in range(24))
    with closing(Theatre(database)) as theatre:
        stage = play(theatre, "side by side", 0, [Step("Clerk lives", 1), Step("webhooks", 2), *often])
    assert stage.wrong == []
