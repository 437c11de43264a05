"""A search with events lost for good: in the end, a clean run of reconcile must make the tables equal to Clerk.

Each world lives in a stand-in for Clerk's Backend API. While workers apply the events that arrive, runs of reconcile
compare the world with the tables; some runs are cut off.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final, cast

import msgspec
import psycopg
from psycopg import sql

from clerk_supabase.clerk.http import ClerkHttp
from clerk_supabase.credentials import Fixed
from clerk_supabase.errors import ClerkSupabaseError
from clerk_supabase.model.changes import Upsert, changes_of_object
from clerk_supabase.model.facts import Kind
from clerk_supabase.model.found_kinds import FACTS
from clerk_supabase.postgres.store import Store
from clerk_supabase.reconcile.corrections.repairs import DirectRepairs
from clerk_supabase.reconcile.pages import ReconcileSettings
from clerk_supabase.reconcile.report import Report
from clerk_supabase.reconcile.request import Mode, Request
from clerk_supabase.reconcile.run import Reconcile
from clerk_supabase.reconcile.runs import Runs
from clerk_supabase_cli.operate.install.mirror import DEFAULT
from clerk_supabase_cli.simulator.clerks_clock import mirrors
from clerk_supabase_cli.simulator.databases import Database
from clerk_supabase_cli.simulator.line import Line
from clerk_supabase_cli.simulator.orders.schedules import Schedule, schedule_of
from clerk_supabase_cli.simulator.orders.scissors import Scissors
from clerk_supabase_cli.simulator.orders.worker import Worker
from clerk_supabase_cli.simulator.outages import DatabaseSwitch
from clerk_supabase_cli.simulator.silence import silent_telemetry
from clerk_supabase_cli.standin.backend.answers import Answers
from clerk_supabase_cli.standin.backend_api import ClerkApi
from clerk_supabase_cli.standin.worlds import World

_WORKERS: Final = 3
_CHAPTERS: Final = 3
_RECEIVED_AT: Final = 1_900_000_000_000
_KEY: Final = "sk_live_simulated"
# The kinds compared by reconcile, with table and key.
_TABLES: Final[Mapping[Kind, tuple[str, str]]] = {
    kind: (facts.relation(DEFAULT), facts.key)
    for kind, facts in FACTS.items()
    if facts.is_read_by_id or facts.list_path or facts.paths_of_parents
}
_EMPTY: Final = f"""
truncate {", ".join(facts.relation(DEFAULT) for facts in FACTS.values())},
clerk_sync.private_metadata, clerk_sync.entities, clerk_sync.deliveries,
clerk_sync.audit_log, clerk_sync.parked_events, clerk_sync.dropped_fields, clerk_sync.reconcile_runs,
clerk_sync.instance cascade
"""


@dataclass(slots=True)
class LostEventsReport:
    """The numbers of a search, and its differences: between the tables and Clerk, at the end of each world."""

    worlds: int = 0
    events: int = 0
    lost: int = 0
    runs: int = 0
    resumed: int = 0
    seconds: float = 0.0
    differences: list[str] = field(default_factory=list)
    failed_world: int | None = None

    def add(self, other: LostEventsReport) -> None:
        """Adds the findings of another search, but not its time: both may have run at once."""
        self.worlds += other.worlds
        self.events += other.events
        self.lost += other.lost
        self.runs += other.runs
        self.resumed += other.resumed
        self.differences += other.differences
        if other.failed_world is not None and (self.failed_world is None or other.failed_world < self.failed_world):
            self.failed_world = other.failed_world


def explore_lost_events(
    database: Database,
    *,
    worlds: int,
    seed: int | str,
    first: int = 0,
    progress: Callable[[LostEventsReport], object] = lambda _: None,
    is_ended: Callable[[], bool] = lambda: False,
) -> LostEventsReport:
    """Tries the worlds from number `first` on, in order. Stops after the first world with a difference.

    Stops before the next world, too, once `is_ended` returns True. Deletes all rows of the database.
    """
    report = LostEventsReport()
    started = time.monotonic()
    with silent_telemetry():
        for number in range(first, first + worlds):
            if is_ended():
                break
            _Experiment(database, Random(f"{seed} {number}"), number, report).run()  # noqa: S311 - to be repeated, not to be secret
            report.worlds += 1
            report.seconds = time.monotonic() - started
            progress(report)
            if report.differences:
                report.failed_world = number
                break
    return report


class _Experiment:
    """A world, from its beginning to the last comparison."""

    def __init__(self, database: Database, chance: Random, number: int, report: LostEventsReport) -> None:
        self._database = database
        self._chance = chance
        self._world = World(chance, f"{number:07}")
        self._report = report
        self._ended = threading.Event()

    def run(self) -> None:
        with ExitStack() as closed_at_the_end:
            opened = closed_at_the_end.enter_context
            admin = opened(psycopg.connect(self._database.url, autocommit=True))
            admin.execute(_EMPTY)
            api = opened(ClerkApi(Answers(self._world, _KEY), clock=lambda: self._world.now))
            http = opened(closing(ClerkHttp(Fixed(_KEY), api.url)))
            scissors = opened(closing(Scissors(self._database.url)))
            switch = opened(closing(DatabaseSwitch(self._database.url)))
            stores = [opened(closing(Store(Fixed(self._database.worker_url)))) for _ in range(_WORKERS + 1)]
            threads = opened(ThreadPoolExecutor(_WORKERS + 1))
            reconcile = self._reconcile(http, stores[-1])
            beside = threads.submit(self._keep_reconciling, reconcile, Random(self._chance.random()))  # noqa: S311 - to be repeated, not to be secret
            try:
                for line in self._chapters(api, switch):
                    workers = [
                        Worker(store, line, scissors, keep_private_metadata=False) for store in stores[:_WORKERS]
                    ]
                    for task in [threads.submit(worker.work_off) for worker in workers]:
                        task.result()
                    self._report.differences += line.wrong
            finally:
                self._ended.set()
                beside.result()
            scissors.settle()
            self._clean_run(reconcile)
            self._report.differences += [*_parked(admin), *self._not_as_clerk(admin)]

    def _reconcile(self, http: ClerkHttp, store: Store) -> Reconcile:
        windows = ReconcileSettings(
            threads=2,
            users_per_window=self._chance.choice((3, 10, 5_000)),
            lease_seconds=30,
            delete_margin_ms=0,
        )
        return Reconcile(http, Runs(store), DirectRepairs(), windows, clock_ms=lambda: _RECEIVED_AT)

    def _chapters(self, api: ClerkApi, switch: DatabaseSwitch) -> Iterator[Line]:
        """The events that arrive after each part of the world's life; the rest is lost."""
        told = 0
        lost = self._chance.choice((0.0, 0.1, 0.5, 1.0))
        for _ in range(_CHAPTERS):
            with api.writing() as world:
                world.live(self._chance.choice((3, 10, 30)))
            schedule: Schedule = schedule_of(self._chance, self._world, told, lost, _RECEIVED_AT)
            self._report.events += len(self._world.events) - told
            self._report.lost += len(self._world.events) - told - len(schedule.delivered)
            told = len(self._world.events)
            yield Line(schedule.batches, self._chance, switch)

    def _keep_reconciling(self, reconcile: Reconcile, chance: Random) -> None:
        """Starts run after run while events arrive; some runs get so little time that the next run must continue."""
        while not self._ended.is_set():
            mode: Mode = chance.choice(("full", "quick"))
            seconds = chance.choice((0.01, 0.05, math.inf, math.inf))
            try:
                self._count(reconcile.run(Request(mode, allow_deletes=1_000), time.monotonic() + seconds))
            except ClerkSupabaseError:
                # The run had no time at all, or its connection was cut: the next run continues.
                continue

    def _clean_run(self, reconcile: Reconcile) -> None:
        """Compares after the last event; if this run continued an earlier run, compares once more."""
        for _ in range(2):
            self._world.now += 10_000
            report = reconcile.run(Request("full", allow_deletes=1_000), math.inf)
            self._count(report)
            if not report.is_resumed:
                break
        if report.state != "complete":
            self._report.differences.append(f"the clean run is {report.state}: {report.reason}")

    def _count(self, report: Report) -> None:
        self._report.runs += 1
        self._report.resumed += report.is_resumed

    def _not_as_clerk(self, admin: psycopg.Connection[tuple[Any, ...]]) -> Iterator[str]:
        objects = self._world.objects()
        for kind, (table, key) in _TABLES.items():
            query = sql.SQL("select {}, to_jsonb(mirror) from {} as mirror where deleted_at is null")
            shown = dict(admin.execute(query.format(sql.Identifier(key), sql.Identifier(*table.split(".")))).fetchall())
            if shown.keys() != set(objects[kind]):
                yield f"{table} shows {sorted(shown)}, not {sorted(objects[kind])}"
            for object_id in shown.keys() & set(objects[kind]):
                json = msgspec.json.encode(objects[kind][object_id])
                main = changes_of_object(kind, json, 1, _RECEIVED_AT).main
                if not mirrors(shown[object_id], cast("Upsert", main).content):
                    yield f"{kind} {object_id}: {shown[object_id]}, not {json.decode()}"
                if kind == "user" and shown[object_id]["banned"] is not objects[kind][object_id]["banned"]:
                    yield f"user {object_id}: banned is {shown[object_id]['banned']}, unlike in Clerk"


def _parked(admin: psycopg.Connection[tuple[Any, ...]]) -> Iterator[str]:
    """Parked events; no event of these worlds may ever be parked."""
    for svix_id, reason in admin.execute("select svix_id, reason from clerk_sync.parked_events"):
        yield f"{svix_id}: parked: {reason}"
