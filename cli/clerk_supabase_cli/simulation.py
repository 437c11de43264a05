"""A long run of the simulator, with a Postgres of its own."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from math import ceil
from pathlib import Path
from random import SystemRandom

import psycopg
from psycopg import sql
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from clerk_supabase_cli.migrations import migrate, prepare_plain_postgres
from clerk_supabase_cli.postgres import EmbeddedPostgres
from clerk_supabase_cli.role_urls import WORKER_ROLE
from clerk_supabase_cli.simulator.episodes import EpisodesReport, describe_script, explore_episodes
from clerk_supabase_cli.simulator.experiment import WORKERS
from clerk_supabase_cli.simulator.exploration import AT_ONCE, Pair, explore_at_length
from clerk_supabase_cli.simulator.lost_events import LostEventsReport, explore_lost_events
from clerk_supabase_cli.simulator.report import Report
from clerk_supabase_cli.simulator.shrinking import describe
from clerk_supabase_cli.terminal import Terminal

_MOST_DIFFERENCES_SHOWN = 5
_TEMPLATE = "template_migrated"
# A world with reconcile takes as long as some hundred schedules, an episode as long as some ten.
_SCHEDULES_PER_WORLD = 100
_SCHEDULES_PER_EPISODE = 50
_SECONDS_BETWEEN_LINES = 60.0


@dataclass(frozen=True, slots=True)
class _Database:
    url: str
    worker_url: str


def simulate(
    root: Path,
    *,
    runs: int,
    seed: int | None,
    first: int,
    console: Terminal,
    only: Collection[str] = (),
    is_ended: Callable[[], bool] = lambda: False,
) -> bool:
    """Tries `runs` schedules from number `first` on, prints what came of it; True when nothing ever differed.

    `only`: see `explore_episodes`. Once `is_ended` says so it begins nothing new, and prints what came of the rest.
    """
    seed = SystemRandom().randrange(2**32) if seed is None else seed
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    # Workers reconnect often, and hashing passwords would be most of it.
    with (
        EmbeddedPostgres(settings={"scram_iterations": "1"}) as server,
        Progress(*columns, console=console, disable=not console.is_terminal) as progress,
    ):
        pairs = MigratedPairs(server, root)
        show = _counter(progress, console, "Schedules", runs)
        report = explore_at_length(
            pairs.new_pair,
            schedules=runs,
            seed=seed,
            first=first,
            progress=lambda report: show(report.schedules),
            is_ended=is_ended,
        )
        worlds = ceil(runs / _SCHEDULES_PER_WORLD)
        show_worlds = _counter(progress, console, "Worlds with lost events", worlds)
        with pairs.new_pair() as (database, _):
            lost = explore_lost_events(
                database,
                worlds=worlds,
                seed=seed,
                first=first,
                progress=lambda report: show_worlds(report.worlds),
                is_ended=is_ended,
            )
        episodes = ceil(runs / _SCHEDULES_PER_EPISODE)
        show_episodes = _counter(progress, console, "Episodes", episodes)
        with pairs.new_pair() as (database, _):
            troubled = explore_episodes(
                database,
                episodes=episodes,
                seed=seed,
                first=first,
                only=only,
                progress=lambda report: show_episodes(report.episodes),
                is_ended=is_ended,
            )
    return _print_all(report, lost, troubled, seed, console)


def _counter(progress: Progress, console: Terminal, what: str, total: int) -> Callable[[int], None]:
    """Shows how many are done: with a bar where there is a terminal, by a line a minute in a log."""
    task = progress.add_task(what, total=total)
    next_line = time.monotonic() + _SECONDS_BETWEEN_LINES

    def show(done: int) -> None:
        nonlocal next_line
        progress.update(task, completed=done)
        if not console.is_terminal and time.monotonic() >= next_line:
            console.print(f"{what}: {done:,} of {total:,}")
            next_line = time.monotonic() + _SECONDS_BETWEEN_LINES

    return show


class MigratedPairs:
    """Makes pairs of databases with all migrations applied, copies of one template."""

    def __init__(self, server: EmbeddedPostgres, root: Path) -> None:
        self._server = server
        self._numbers = count(1)
        # The role belongs to the whole server.
        self._password = secrets.token_urlsafe(16)
        url = server.create_database(_TEMPLATE)
        prepare_plain_postgres(url, root)
        for _ in migrate(url, root):
            pass
        with psycopg.connect(url, autocommit=True) as connection:
            role, password = sql.Identifier(WORKER_ROLE), sql.Literal(self._password)
            connection.execute(sql.SQL("alter role {} password {}").format(role, password))

    @contextmanager
    def new_pair(self) -> Iterator[Pair]:
        """Two databases without a row, as long as the `with` block lasts."""
        number = next(self._numbers)
        names = f"tried_{number}", f"reference_{number}"
        tried, reference = (self._copy(name) for name in names)
        yield tried, reference
        for name in names:
            self._server.drop_database(name)

    def _copy(self, name: str) -> _Database:
        url = self._server.create_database(name, _TEMPLATE)
        return _Database(url, f"{self._server.url(name, WORKER_ROLE, self._password)}?sslmode=disable")


def _print_all(report: Report, lost: LostEventsReport, troubled: EpisodesReport, seed: int, console: Terminal) -> bool:
    """Prints what came of all searches; True when nothing ever differed."""
    _print_lost_events(lost, seed, console)
    _print_episodes(troubled, seed, console)
    _print(report, seed, console)
    differences = [*report.differences, *lost.differences, *troubled.differences]
    return not differences and report.deadlocks == troubled.deadlocks == 0


def _print_lost_events(report: LostEventsReport, seed: int, console: Terminal) -> None:
    console.print(
        f"{report.worlds:,} worlds reconciled in {report.seconds:.0f} s: {report.lost:,} of {report.events:,} events "
        f"lost, {report.runs:,} runs, {report.resumed:,} of which continued another, {len(report.differences)} not as "
        "in Clerk",
        soft_wrap=True,
    )
    for difference in report.differences[:_MOST_DIFFERENCES_SHOWN]:
        console.print(difference, style="red", soft_wrap=True, markup=False)
    if report.failed_world is not None:
        console.print(f"again: clerk-supabase simulate --seed {seed} --first {report.failed_world} --runs 1")


def _print_episodes(report: EpisodesReport, seed: int, console: Terminal) -> None:
    console.print(
        f"{report.episodes:,} episodes played in {report.seconds:.0f} s: {report.deadlocks} deadlocks, "
        f"{len(report.differences)} untrue",
        soft_wrap=True,
    )
    for what, times in sorted(report.happened.items()):
        console.print(f"  {what:<40}{times:>10,}")
    for difference in report.differences[:_MOST_DIFFERENCES_SHOWN]:
        console.print(difference, style="red", soft_wrap=True, markup=False)
    if report.failed_episode is not None:
        console.print(f"again: clerk-supabase simulate --seed {seed} --first {report.failed_episode} --runs 1")
        for line in describe_script(report.smallest):
            console.print(f"  {line}", soft_wrap=True, markup=False)


def _print(report: Report, seed: int, console: Terminal) -> None:
    console.print(
        f"{report.schedules:,} schedules explored in {report.seconds:.0f} s by up to {WORKERS} workers (seed {seed}): "
        f"{report.deliveries:,} deliveries in {report.batches:,} batches, {report.redelivered_batches:,} redelivered, "
        f"{report.connections_cut:,} connections cut, {report.outages:,} outages, {report.sent_back:,} sent back, "
        f"retry killed {report.retries_killed:,} times, {report.parked:,} poisonous parked, "
        f"{report.deadlocks} deadlocks, {len(report.differences)} differences",
        soft_wrap=True,
    )
    for difference in report.differences[:_MOST_DIFFERENCES_SHOWN]:
        console.print(difference, style="red", soft_wrap=True)
    if report.failed_from is not None:
        console.print(f"again: clerk-supabase simulate --seed {seed} --first {report.failed_from} --runs {AT_ONCE}")
        for line in describe(report.smallest):
            console.print(line, soft_wrap=True)
