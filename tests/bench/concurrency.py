"""Workers with events about the same few users, each worker in an order of its own; and many writers at once."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Final

from clerk_supabase.credentials import Fixed
from clerk_supabase.errors import DatabaseUnavailable
from clerk_supabase.postgres.store import Store
from clerk_supabase_cli.simulator.databases import count_deadlocks, deadlocks_found_early
from clerk_supabase_cli.simulator.orders.experiment import WORKERS
from tests.bench.crowd import hammer, told
from tests.bench.databases import databases
from tests.bench.results import Result, Target
from tests.bench.traffic import Batch, Traffic
from tests.kit.databases import Database

_USERS: Final = 40
_BATCHES: Final = 150
_BATCH_SIZE: Final = 20
_CROWD_SECONDS: Final = 60.0


def measure(root: Path) -> Iterator[Result]:
    """Every batch has about half of its users in common with every other."""
    traffic = Traffic()
    sign_ups = [traffic.sign_up() for _ in range(_USERS)]
    work = [[[traffic.edit() for _ in range(_BATCH_SIZE)] for _ in range(_BATCHES)] for _ in range(WORKERS)]
    with databases(root) as made:
        database = made.take()
        with closing(Store(Fixed(database.worker_url))) as store:
            store.apply(sign_ups)
        with deadlocks_found_early(database), ThreadPoolExecutor(WORKERS) as workers:
            started = time.perf_counter()
            given_up = sum(workers.map(_apply, [database] * WORKERS, work))
            seconds = time.perf_counter() - started
        deadlocks = count_deadlocks(database)
    yield Result(
        f"{WORKERS} workers, {_BATCH_SIZE} of the same {_USERS} users in every batch",
        "",
        f"{WORKERS * _BATCHES / seconds:.0f} batches/s, {given_up} failed",
        deadlocks,
        "deadlocks",
        Target(0),
    )
    yield from _crowd(root)


def _crowd(root: Path) -> Iterator[Result]:
    with databases(root) as made:
        database = made.take()
        with deadlocks_found_early(database):
            crowd = hammer(database, _CROWD_SECONDS)
        deadlocks = count_deadlocks(database)
    yield Result(
        f"webhooks, logins, deletes, undo, purges, erasures and parking at once for {_CROWD_SECONDS:g} s",
        "",
        f"{crowd.acts / _CROWD_SECONDS:.0f} acts/s; {told(crowd.errors)}",
        deadlocks,
        "deadlocks",
        Target(0),
    )


def _apply(database: Database, batches: Sequence[Batch]) -> int:
    """Applies the changes; returns the number of failures."""
    given_up = 0
    with closing(Store(Fixed(database.worker_url))) as store:
        for batch in batches:
            try:
                given_up += any(isinstance(answer, DatabaseUnavailable) for answer in store.apply(batch))
            except DatabaseUnavailable:
                given_up += 1
    return given_up
