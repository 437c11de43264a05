"""Applies a round of schedules with several workers at once, and once more in order, and compares both results."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import chain, zip_longest
from random import Random
from typing import Final, Self

import psycopg

from clerk_supabase.credentials import Fixed
from clerk_supabase.model.changes import Changes, Delivery, changes_of
from clerk_supabase.model.envelope import Envelope
from clerk_supabase.model.events import parse_event
from clerk_supabase.postgres.store import Store
from clerk_supabase_cli.simulator import oracle
from clerk_supabase_cli.simulator.databases import Database
from clerk_supabase_cli.simulator.line import Line
from clerk_supabase_cli.simulator.orders.comparison import (
    Expected,
    History,
    Rows,
    bans_not_arrived,
    different,
    not_as_in_the_worlds,
)
from clerk_supabase_cli.simulator.orders.parked import Parked
from clerk_supabase_cli.simulator.orders.poison import cursed
from clerk_supabase_cli.simulator.orders.schedules import Batch, Schedule, interleave
from clerk_supabase_cli.simulator.orders.scissors import Scissors
from clerk_supabase_cli.simulator.orders.worker import Worker
from clerk_supabase_cli.simulator.outages import DatabaseSwitch
from clerk_supabase_cli.simulator.report import Report
from clerk_supabase_cli.simulator.snapshots import rows_of

WORKERS: Final = 6


@dataclass(frozen=True, slots=True)
class Round:
    """Schedules to run at the same time."""

    schedules: Sequence[Schedule]
    batches: Sequence[Batch]
    """The batches of all schedules, in the order of arrival."""
    workers: int
    keep_private_metadata: bool
    chance: Random

    @classmethod
    def of(cls, schedules: Sequence[Schedule], chance: Random) -> Self:
        """Mixes the batches of these schedules at random."""
        keep_private_metadata = chance.random() < 0.5
        batches = interleave(chance, schedules)
        workers = chance.choice((1, 2, 4, WORKERS, WORKERS, WORKERS))
        return cls(schedules, batches, workers, keep_private_metadata, chance)

    def only(self, schedule: Schedule) -> Round:
        """A round of a single schedule, with a single worker and the batches in order."""
        alone = Random(0)  # noqa: S311 - to be repeated, not to be secret
        return Round([schedule], schedule.batches, 1, self.keep_private_metadata, alone)


class Experiment:
    """Two databases, with connections and threads."""

    def __init__(self, tried: Database, reference: Database) -> None:
        with ExitStack() as closed_at_the_end:
            opened = closed_at_the_end.enter_context
            self._tried = opened(psycopg.connect(tried.url, autocommit=True))
            self._reference = opened(psycopg.connect(reference.url, autocommit=True))
            self._reference_store = opened(closing(Store(Fixed(reference.worker_url))))
            self._stores = [opened(closing(Store(Fixed(tried.worker_url)))) for _ in range(WORKERS)]
            opened(cursed(self._tried))
            self._scissors = opened(closing(Scissors(tried.url)))
            self._switch = opened(closing(DatabaseSwitch(tried.url)))
            self._threads = opened(ThreadPoolExecutor(WORKERS + 1))
            self._close = closed_at_the_end.pop_all().close

    def close(self) -> None:
        """Ends the threads and disconnects."""
        self._close()

    def run(self, round_: Round) -> Report:
        """Runs a round, and reports its numbers and differences."""
        histories = [
            [_read(envelope, round_.keep_private_metadata) for envelope in schedule.delivered]
            for schedule in round_.schedules
        ]
        expected = Expected.of(list(chain.from_iterable(histories)))
        in_order = self._threads.submit(self._apply_in_order, histories, expected)
        line = Line(round_.batches, round_.chance, self._switch)
        for task in [self._threads.submit(worker.work_off) for worker in self._workers(round_, line)]:
            task.result()
        # Ends all cuts before the tables are read, and before the next round opens its connections.
        connections_cut = self._scissors.settle()
        parked = Parked.of(round_.schedules, self._tried)
        return Report(
            schedules=len(round_.schedules),
            batches=line.batches,
            deliveries=line.deliveries,
            redelivered_batches=line.redelivered_batches,
            connections_cut=connections_cut,
            outages=line.outages,
            sent_back=line.sent_back,
            retries_killed=line.retries_killed,
            parked=len(parked.rows),
            differences=[
                *line.wrong,
                *parked.wrong(),
                *different(expected.rows(self._tried), in_order.result()),
                *expected.untrue(self._tried),
                *not_as_in_the_worlds(self._tried, round_.schedules),
                *bans_not_arrived(self._tried, round_.schedules),
                *oracle.profiles_wrong(self._tried),
                *oracle.audit_wrong(self._tried, rows_of(self._tried, expected.ids), expected.ids),
            ],
        )

    def _workers(self, round_: Round, line: Line) -> list[Worker]:
        return [
            Worker(store, line, self._scissors, keep_private_metadata=round_.keep_private_metadata)
            for store in self._stores[: round_.workers]
        ]

    def _apply_in_order(self, histories: Sequence[History], expected: Expected) -> Rows:
        # The n-th event of every world together: no batch has two events of a world.
        for events in zip_longest(*histories):
            self._reference_store.apply([event for event in events if event])
        return expected.rows(self._reference)


def _read(envelope: Envelope, keep_private_metadata: bool) -> tuple[Changes, Delivery]:
    event = parse_event(envelope.body)
    changes = changes_of(event, envelope.received_at, keep_private_metadata=keep_private_metadata)
    return changes, Delivery(envelope.svix_id, event.type, envelope.received_at, event.instance_id)
