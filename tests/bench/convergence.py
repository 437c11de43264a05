"""Random schedules, which must all end in the one correct state."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from clerk_supabase_cli.local.postgres import EmbeddedPostgres
from clerk_supabase_cli.simulator.orders.experiment import WORKERS
from clerk_supabase_cli.simulator.portions import Plan, Search, portions_of, search_portions
from clerk_supabase_cli.simulator.simulation import migrated_template
from tests.bench.results import Result, Target


def measure(root: Path, schedules: int, seed: int, progress: Callable[[str], object]) -> Iterator[Result]:
    """Shuffled, duplicated, cut into batches, never acknowledged, cut off, and several workers at once."""

    def tell(_: Search, done: int) -> None:
        progress(f"convergence: {done:,} of {schedules:,} schedules")

    with EmbeddedPostgres() as server:
        plan = Plan(migrated_template(server, root), seed)
        portions = portions_of(schedules, 0)["schedules"]
        report = search_portions(plan, portions, jobs=os.cpu_count() or 1, progress=tell).schedules
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
