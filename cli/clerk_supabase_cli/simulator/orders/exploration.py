"""The tables must end the same in any order of events, with repetitions, parallel workers and crashes.

Many random schedules run at the same time in a database, each with its own users, and several workers take turns at
their batches. Afterwards every row must equal the row in a second database, which got each event once, alone and in
its original order; and the newest content by Clerk's clock must have won. Each event that can never be applied must be
parked. No other event may be parked: neither for an outage of the database or of SQS nor for its neighbours.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from itertools import islice
from random import Random
from typing import Final

from clerk_supabase_cli.simulator.databases import (
    Database,
    count_deadlocks,
    deadlocks_found_early,
    deletes_in_small_parts,
)
from clerk_supabase_cli.simulator.orders.experiment import Experiment, Round
from clerk_supabase_cli.simulator.orders.schedules import Batch, Schedule, random_schedule
from clerk_supabase_cli.simulator.orders.shrinking import shrink
from clerk_supabase_cli.simulator.report import Report
from clerk_supabase_cli.simulator.silence import silent_telemetry

AT_ONCE: Final = 100
"""Schedules in a round. The seed and the number of its first schedule repeat a round."""
# An outage affects most schedules of a round, and each try to shrink a schedule takes its time.
_MOST_SHRUNK: Final = 10

Progress = Callable[[Report], object]
Pair = tuple[Database, Database]
"""The database under test, and the reference."""


def explore(
    tried: Database,
    reference: Database,
    *,
    schedules: int,
    seed: int | str,
    first: int = 0,
    progress: Progress = lambda _: None,
    is_ended: Callable[[], bool] = lambda: False,
) -> Report:
    """Runs the random schedules from number *first* on against *tried*, and each event once, in order, against
    *reference*.

    Stops after the first round with a difference, or once `is_ended` returns True. Neither database may have the
    schedules' users yet.
    """
    total = Report()
    started = time.monotonic()
    with silent_telemetry():
        for report in _rounds((tried, reference), range(first, first + schedules), seed, is_ended):
            total.add(report)
            total.seconds = time.monotonic() - started
            progress(total)
    return total


def _rounds(pair: Pair, numbers: range, seed: int | str, is_over: Callable[[], bool]) -> Iterator[Report]:
    """A report for every round, up to the first with a difference; then a report with the number of deadlocks."""
    tried, reference = pair
    deadlocks_before = count_deadlocks(tried)
    with (
        deadlocks_found_early(tried),
        deletes_in_small_parts(tried),
        closing(Experiment(tried, reference)) as experiment,
    ):
        for numbers_of_round in _parts(numbers, AT_ONCE):
            chance = Random(f"{seed} {numbers_of_round.start}")  # noqa: S311 - to be repeated, not to be secret
            round_ = Round.of([random_schedule(seed, number) for number in numbers_of_round], chance)
            report = experiment.run(round_)
            if report.differences:
                report.failed_from = numbers_of_round.start
                report.smallest = _smallest(experiment, round_, report.differences)
            yield report
            if report.differences or is_over():
                break
    yield Report(deadlocks=count_deadlocks(tried) - deadlocks_before)


def _parts(numbers: range, size: int) -> Iterator[range]:
    for start in range(0, len(numbers), size):
        yield numbers[start : start + size]


def _smallest(experiment: Experiment, round_: Round, differences: Sequence[str]) -> tuple[Batch, ...]:
    """The first schedule of a round with a wrong end of its own, shrunk; empty if no schedule is wrong alone."""
    for schedule in islice(_named(round_.schedules, differences), _MOST_SHRUNK):
        # The cause may be an outage of another schedule, or an outage of its own that struck another batch.
        struck = schedule.in_outages_of(round_.schedules)
        if batches := shrink(schedule, lambda each: bool(experiment.run(round_.only(each)).differences), struck):
            return batches
    return ()


def _named(schedules: Sequence[Schedule], differences: Sequence[str]) -> Iterator[Schedule]:
    for schedule in schedules:
        name = schedule.world.name
        if any(f"_{name}x" in difference or f"_{name}_" in difference for difference in differences):
            yield schedule
