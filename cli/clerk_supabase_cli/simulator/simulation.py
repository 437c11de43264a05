"""A long run of the simulator, with a Postgres of its own."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from random import SystemRandom

import psycopg
from psycopg import sql
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from clerk_supabase_cli.local.postgres import EmbeddedPostgres
from clerk_supabase_cli.operate.install.migrations import migrate, prepare_plain_postgres
from clerk_supabase_cli.operate.setup.role_urls import WORKER_ROLE
from clerk_supabase_cli.simulator.episodes.episode import EpisodesReport, describe_script
from clerk_supabase_cli.simulator.lost_events import LostEventsReport
from clerk_supabase_cli.simulator.orders.experiment import WORKERS
from clerk_supabase_cli.simulator.orders.exploration import AT_ONCE
from clerk_supabase_cli.simulator.orders.shrinking import describe
from clerk_supabase_cli.simulator.portions import Findings, Plan, Search, Template, portions_of, search_portions
from clerk_supabase_cli.simulator.report import Report
from clerk_supabase_cli.terminal import BAD, Terminal

_MOST_DIFFERENCES_SHOWN = 5
_TEMPLATE = "template_migrated"
_NAMES: Mapping[Search, str] = {"schedules": "Schedules", "worlds": "Worlds with lost events", "episodes": "Episodes"}
_SECONDS_BETWEEN_LINES = 60.0


def simulate(
    root: Path,
    *,
    runs: int,
    seed: int | None,
    first: int,
    console: Terminal,
    jobs: int = 1,
    only: Collection[str] = (),
    is_ended: Callable[[], bool] = lambda: False,
) -> bool:
    """Tries `runs` schedules from number `first` on, and prints the results; True without a difference or deadlock.

    `jobs`: the number of processes; `only`: see `explore_episodes`. Once `is_ended` returns True, the search begins
    nothing new, and prints the results so far.
    """
    seed = SystemRandom().randrange(2**32) if seed is None else seed
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    portions = portions_of(runs, first)
    # Workers reconnect often, and the hashing of passwords would take most of the time.
    with (
        EmbeddedPostgres(settings={"scram_iterations": "1"}) as server,
        Progress(*columns, console=console, disable=not console.is_live) as progress,
    ):
        show: dict[Search, Callable[[int], None]] = {
            search: _counter(progress, console, _NAMES[search], sum(len(each.numbers) for each in those))
            for search, those in portions.items()
        }
        findings = search_portions(
            Plan(migrated_template(server, root), seed, only),
            [each for those in portions.values() for each in those],
            jobs=jobs,
            progress=lambda search, done: show[search](done),
            is_ended=is_ended,
        )
    return _print_all(findings, seed, jobs, console)


def _counter(progress: Progress, console: Terminal, what: str, total: int) -> Callable[[int], None]:
    """Shows the number of finished items: as a bar on a terminal, as a line a minute in a log."""
    task = progress.add_task(what, total=total)
    next_line = time.monotonic() + _SECONDS_BETWEEN_LINES

    def show(done: int) -> None:
        nonlocal next_line
        progress.update(task, completed=done)
        if not console.is_live and time.monotonic() >= next_line:
            console.say(f"{what}: {done:,} of {total:,}")
            next_line = time.monotonic() + _SECONDS_BETWEEN_LINES

    return show


def migrated_template(server: EmbeddedPostgres, root: Path) -> Template:
    """Makes a database with all migrations applied, to be copied."""
    # The worker's role belongs to the whole server.
    worker_password = secrets.token_urlsafe(16)
    url = server.create_database(_TEMPLATE)
    prepare_plain_postgres(url, root)
    for _ in migrate(url, root):
        pass
    with psycopg.connect(url, autocommit=True) as connection:
        role, password = sql.Identifier(WORKER_ROLE), sql.Literal(worker_password)
        connection.execute(sql.SQL("alter role {} password {}").format(role, password))
    return Template(server.url(), _TEMPLATE, worker_password)


def _print_all(findings: Findings, seed: int, jobs: int, console: Terminal) -> bool:
    """Prints the results of all searches; True without a difference or deadlock."""
    _print_lost_events(findings.worlds, seed, console)
    _print_episodes(findings.episodes, seed, console)
    _print(findings.schedules, seed, jobs, console)
    return not findings.differences and findings.schedules.deadlocks == findings.episodes.deadlocks == 0


def _print_lost_events(report: LostEventsReport, seed: int, console: Terminal) -> None:
    console.say(
        f"{report.worlds:,} worlds reconciled in {report.seconds:.0f} s: {report.lost:,} of {report.events:,} events "
        f"lost, {report.runs:,} runs, {report.resumed:,} of which continued another, {len(report.differences)} not as "
        "in Clerk",
    )
    for difference in report.differences[:_MOST_DIFFERENCES_SHOWN]:
        console.say(difference, BAD)
    if report.failed_world is not None:
        console.say(f"again: clerk-supabase simulate --seed {seed} --first {report.failed_world} --runs 1")


def _print_episodes(report: EpisodesReport, seed: int, console: Terminal) -> None:
    console.say(
        f"{report.episodes:,} episodes played in {report.seconds:.0f} s: {report.deadlocks} deadlocks, "
        f"{len(report.differences)} untrue",
    )
    for what, times in sorted(report.happened.items()):
        console.say(f"  {what:<40}{times:>10,}")
    for difference in report.differences[:_MOST_DIFFERENCES_SHOWN]:
        console.say(difference, BAD)
    if report.failed_episode is not None:
        console.say(f"again: clerk-supabase simulate --seed {seed} --first {report.failed_episode} --runs 1")
        for line in describe_script(report.smallest):
            console.say(f"  {line}")


def _print(report: Report, seed: int, jobs: int, console: Terminal) -> None:
    console.say(
        f"{report.schedules:,} schedules explored in {report.seconds:.0f} s by up to {WORKERS} workers in each of "
        f"{jobs} processes (seed {seed}): "
        f"{report.deliveries:,} deliveries in {report.batches:,} batches, {report.redelivered_batches:,} redelivered, "
        f"{report.connections_cut:,} connections cut, {report.outages:,} outages, {report.sent_back:,} sent back, "
        f"retry killed {report.retries_killed:,} times, {report.parked:,} poisonous parked, "
        f"{report.deadlocks} deadlocks, {len(report.differences)} differences",
    )
    for difference in report.differences[:_MOST_DIFFERENCES_SHOWN]:
        console.say(difference, BAD)
    if report.failed_from is not None:
        console.say(f"again: clerk-supabase simulate --seed {seed} --first {report.failed_from} --runs {AT_ONCE}")
        for line in describe(report.smallest):
            console.say(line)
