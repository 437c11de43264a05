"""Random schedules, each of which must end in the one right state."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from clerk_supabase_cli.postgres import EmbeddedPostgres
from clerk_supabase_cli.simulation import MigratedPairs
from clerk_supabase_cli.simulator.experiment import WORKERS
from clerk_supabase_cli.simulator.exploration import explore_at_length
from clerk_supabase_cli.simulator.report import Report
from tests.bench.results import Result, Target


def measure(root: Path, schedules: int, seed: int, progress: Callable[[str], object]) -> Iterator[Result]:
    """Shuffled, duplicated, cut into batches, never acknowledged, cut off, and several workers at once."""

    def tell(report: Report) -> None:
        progress(f"convergence: {report.schedules:,} of {schedules:,} schedules")

    with EmbeddedPostgres() as server:
        pairs = MigratedPairs(server, root)
        report = explore_at_length(pairs.new_pair, schedules=schedules, seed=seed, progress=tell)
    yield Result(
        f"{report.schedules:,} random schedules (seed {seed})",
        "each event once, in order",
        f"{report.schedules / report.seconds:.0f} schedules/s: {report.deliveries:,} deliveries in "
        f"{report.batches:,} batches, {report.redelivered_batches:,} redelivered, {report.connections_cut:,} cut off",
        len(report.differences),
        "differ",
        Target(0),
        details=tuple(report.differences[:5]),
    )
    yield Result(
        f"the same, {WORKERS} workers", "", f"{report.deadlocks} deadlocks", report.deadlocks, "deadlocks", Target(0)
    )
