"""Steps of the app, which refuses, rewrites, delays and locks rows; and a failover."""

from __future__ import annotations

from random import Random

from clerk_supabase_cli.simulator.app_rules import OBSTACLES, REFUSALS
from clerk_supabase_cli.simulator.episodes.happenings.by_hand import some_row
from clerk_supabase_cli.simulator.episodes.stage import Stage


def refuses(stage: Stage, chance: Random) -> None:
    """The app refuses each write to a row, or its delete."""
    rule = chance.choice((*REFUSALS, *(f"delete {code}" for code in REFUSALS)))
    _rule(stage, chance, rule)


def keeps(stage: Stage, chance: Random) -> None:
    """The app refuses each change of a row that was just deleted, and so its purge by housekeeping."""

    def happen() -> None:
        for _ in range(3):
            stage.world.sign_up()
        for delete in (stage.world.delete_user, stage.world.delete_user, stage.world.leave, stage.world.remove_domain):
            delete()

    stage.lets(happen)
    stage.send(stage.untold())
    stage.work_off()
    if found := some_row(stage, chance, is_hidden=True):
        for rule in (chance.choice(REFUSALS), f"delete {chance.choice(REFUSALS)}"):
            stage.rules.begin(stage.admin, found[0][1], rule)


def is_in_the_way(stage: Stage, chance: Random) -> None:
    """A trigger of the app fails for a row as if the database were unavailable."""
    _rule(stage, chance, chance.choice(OBSTACLES))


def rewrites(stage: Stage, chance: Random) -> None:
    """A trigger of the app writes another value into a mirrored column."""
    _rule(stage, chance, "rewrite")


def skips(stage: Stage, chance: Random) -> None:
    """A trigger of the app leaves out each write to some rows, without an error."""
    for _ in range(2):
        _rule(stage, chance, "skip")


def alters(stage: Stage, chance: Random) -> None:
    """A trigger of the app stores another value in a mirrored column of some rows."""
    for _ in range(2):
        _rule(stage, chance, "alter")


def is_slow(stage: Stage, chance: Random) -> None:
    """A trigger of the app is slow for some rows."""
    for _ in range(3):
        _rule(stage, chance, "slow")


def _rule(stage: Stage, chance: Random, rule: str) -> None:
    if found := some_row(stage, chance):
        stage.rules.begin(stage.admin, found[0][1], rule)


def locks(stage: Stage, chance: Random) -> None:
    """A transaction of the app locks a row, until the app relents."""
    if found := some_row(stage, chance):
        stage.rules.lock(*found[0])


def relents(stage: Stage, _: Random) -> None:
    """The app removes its rules and its lock."""
    stage.rules.lift(stage.admin)


def replicate(stage: Stage, _: Random) -> None:
    """The replica receives every commit until now."""
    stage.replica.save()


def fail_over(stage: Stage, _: Random) -> None:
    """The database fails, and the replica takes its place."""
    if stage.replica.has_rows:
        stage.rules.unlock()
        stage.theatre.fed.unlock()
        stage.replica.take_over()
        stage.undone.clear()
        stage.counts["failover that lost commits"] += 1
