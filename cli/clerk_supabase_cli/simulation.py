"""A long run of the simulator, with a Postgres of its own."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path
from random import SystemRandom

import psycopg
from psycopg import sql
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from clerk_supabase_cli.migrations import migrate, prepare_plain_postgres
from clerk_supabase_cli.postgres import EmbeddedPostgres
from clerk_supabase_cli.shrinking import describe
from clerk_supabase_cli.simulator import WORKERS, Report, explore
from clerk_supabase_cli.stack import WORKER_ROLE

_MOST_DIFFERENCES_SHOWN = 5


@dataclass(frozen=True, slots=True)
class _Database:
    url: str
    worker_url: str


def simulate(root: Path, *, runs: int, seed: int | None, first: int, console: Console) -> bool:
    """Tries `runs` schedules from number `first` on, prints what came of it; True when nothing ever differed."""
    seed = SystemRandom().randrange(2**32) if seed is None else seed
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with EmbeddedPostgres() as server, Progress(*columns, console=console) as progress:
        task = progress.add_task("Schedules", total=runs)
        # One password: the role belongs to the whole server.
        password = secrets.token_urlsafe(16)
        tried, reference = (_database(server, root, name, password) for name in ("tried", "reference"))
        report = explore(
            tried,
            reference,
            schedules=runs,
            seed=seed,
            first=first,
            progress=lambda report: progress.update(task, completed=report.schedules),
        )
    _print(report, seed, console)
    return not report.differences and report.deadlocks == 0


def _database(server: EmbeddedPostgres, root: Path, name: str, password: str) -> _Database:
    url = server.create_database(name)
    prepare_plain_postgres(url, root)
    for _ in migrate(url, root):
        pass
    with psycopg.connect(url, autocommit=True) as connection:
        role = sql.Identifier(WORKER_ROLE)
        connection.execute(sql.SQL("alter role {} password {}").format(role, sql.Literal(password)))
    return _Database(url, f"{server.url(name, WORKER_ROLE, password)}?sslmode=disable")


def _print(report: Report, seed: int, console: Console) -> None:
    console.print(
        f"{report.schedules:,} schedules explored in {report.seconds:.0f} s by up to {WORKERS} workers (seed {seed}): "
        f"{report.deliveries:,} deliveries in {report.batches:,} batches, {report.redelivered_batches:,} redelivered, "
        f"{report.connections_cut:,} connections cut, {report.deadlocks} deadlocks, "
        f"{len(report.differences)} differences",
        soft_wrap=True,
    )
    for difference in report.differences[:_MOST_DIFFERENCES_SHOWN]:
        console.print(difference, style="red", soft_wrap=True)
    if report.failed_from is not None:
        console.print(f"again: clerk-supabase simulate --seed {seed} --first {report.failed_from} --runs 50")
        for line in describe(report.smallest):
            console.print(line, soft_wrap=True)
