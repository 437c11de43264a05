"""`clerk-supabase simulate`: random schedules, worlds and episodes against a throw-away Postgres."""

from __future__ import annotations

import os
import signal
import sys
import threading

import click

from clerk_supabase_cli.project import find_root
from clerk_supabase_cli.simulator.episodes.steps import GROUPS
from clerk_supabase_cli.simulator.simulation import simulate
from clerk_supabase_cli.terminal import Terminal


@click.command("simulate")
@click.option("--runs", default=1000, show_default=True, type=click.IntRange(min=1), help="Number of schedules.")
@click.option("--seed", default=None, type=int, help="Repeats the schedules of an earlier run.")
@click.option("--first", default=0, show_default=True, help="Number of the first schedule.")
@click.option(
    "--jobs",
    default=os.cpu_count() or 1,
    type=click.IntRange(min=1),
    help="Number of processes; by default the number of cores.",
)
@click.option(
    "--only",
    multiple=True,
    type=click.Choice(sorted(GROUPS)),
    metavar="GROUP",
    help="Play only this group of steps, such as `undo`; repeatable. The error of a wrong name lists the groups.",
)
def simulate_command(runs: int, seed: int | None, first: int, jobs: int, only: tuple[str, ...]) -> None:
    """Try random schedules of webhooks against a throw-away Postgres. The tables must always end the same.

    Then compare with a Clerk whose events get lost, and play episodes: comparisons, undo, resync, housekeeping, edits
    by hand, a failover, and an API of Clerk's with lags, gaps and rejected requests.

    Ctrl-C ends the search early: the results so far are printed, and the exit status is 130.

    \b
    Examples:
      clerk-supabase simulate --runs 1000
      clerk-supabase simulate --runs 1000 --seed 7 --jobs 2
    """
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        # Also in the background of a script, where SIGINT is ignored from the start.
        signal.signal(number, lambda *_: ended.set())
    console = Terminal()
    is_right = simulate(
        find_root(), runs=runs, seed=seed, first=first, jobs=jobs, only=only, console=console, is_ended=ended.is_set
    )
    if not is_right:
        sys.exit(1)
    if ended.is_set():
        sys.exit(130)
