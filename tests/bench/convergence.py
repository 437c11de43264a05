"""Random schedules, each of which must end in the one right state."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from clerk_supabase_cli.simulator import WORKERS, Report, explore
from tests.bench.databases import databases
from tests.bench.results import Result, Target


def measure(root: Path, schedules: int, seed: int, progress: Callable[[str], object]) -> Iterator[Result]:
    """Shuffled, duplicated, cut into batches, never acknowledged, cut off, and several workers at once."""

    def tell(report: Report) -> None:
        progress(f"convergence: {report.schedules:,} of {schedules:,} schedules")

    with databases(root) as made:
        report = explore(made.take(), made.take(), schedules=schedules, seed=seed, progress=tell)
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
