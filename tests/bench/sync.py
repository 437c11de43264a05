"""A batch against a transaction for every event, on this machine and over a link with a round trip of 5 ms."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

import psycopg

from clerk_supabase.credentials import Fixed
from clerk_supabase.postgres.store import Store
from tests.bench import updates
from tests.bench.databases import databases
from tests.bench.pasted_handler import PastedHandler
from tests.bench.results import Result, Target
from tests.bench.traffic import Batch, Traffic, all_kinds
from tests.bench.turns import cost, gain, in_turns
from tests.kit.databases import Database, Databases, at_port
from tests.kit.proxy import CountingProxy

_ROUND_TRIP_SECONDS: Final = 0.005
_PER_EVENT: Final = "a transaction per event"
_SIZES: Final = (1, 10, 100, 1000)
_STATE: Final = """
select clerk_id, users.first_name, email, public_metadata, users.deleted_at, users_public.first_name
from clerk.users left join clerk.users_public using (clerk_id)
order by clerk_id
"""


def measure(root: Path) -> Iterator[Result]:
    """Measures round trips, time over a link, time without a link."""
    with databases(root) as made:
        yield _round_trips(made)
        yield from _over_a_link(made)
        yield _without_a_link(made)
        yield _all_kinds(made)
        yield from _all_kinds_in_time(made)
        yield _poison(made)
        yield from updates.measure(made)


def _round_trips(made: Databases) -> Result:
    theirs, ours = made.take(), made.take()
    with (
        CountingProxy(made.server.port) as proxy,
        PastedHandler(at_port(theirs.url, proxy.port)) as pasted,
        closing(Store(Fixed(at_port(ours.worker_url, proxy.port)))) as store,
    ):
        traffic = Traffic()
        store.apply(traffic.batch(1))
        batches = [traffic.batch(size) for size in _SIZES]
        baseline = [_count(proxy, pasted.apply, batch) for batch in batches]
        counted = [_count(proxy, store.apply, batch) for batch in batches]
    return Result(
        f"round trips of {_listed(_SIZES)} events",
        f"{_PER_EVENT}: {_listed(baseline)}",
        _listed(counted),
        max(counted),
        "per batch",
        Target(1),
    )


def _over_a_link(made: Databases) -> Iterator[Result]:
    theirs, ours = made.take(), made.take()
    traffic = Traffic()
    with (
        CountingProxy(made.server.port, _ROUND_TRIP_SECONDS) as proxy,
        psycopg.connect(at_port(ours.url, proxy.port), autocommit=True) as connection,
        PastedHandler(at_port(theirs.url, proxy.port)) as pasted,
        closing(Store(Fixed(at_port(ours.worker_url, proxy.port)))) as store,
    ):
        for _ in range(10):
            store.apply(traffic.batch(100))
        batches = [traffic.batch(10) for _ in range(60)]
        select = in_turns(lambda _: connection.execute("select 1").fetchone(), store.apply, batches)
        yield cost("batch of 10, 5 ms link", "select 1", select, at_most=1.6)
        # The baseline takes seconds for a batch.
        batches = [traffic.batch(100) for _ in range(4)]
        yield gain("batch of 100, 5 ms link", _PER_EVENT, in_turns(pasted.apply, store.apply, batches), at_least=100)


def _without_a_link(made: Databases) -> Result:
    theirs, ours = made.take(), made.take()
    traffic = Traffic()
    with PastedHandler(theirs.url) as pasted, closing(Store(Fixed(ours.worker_url))) as store:
        batches = [traffic.batch(1000) for _ in range(8)]
        result = gain("batch of 1000, no link", _PER_EVENT, in_turns(pasted.apply, store.apply, batches), at_least=10)
    assert _state(theirs) == _state(ours), "the baseline does not do the same work"
    return result


def _all_kinds(made: Databases) -> Result:
    """Objects of all kinds in one batch."""
    ours = made.take()
    with (
        CountingProxy(made.server.port) as proxy,
        closing(Store(Fixed(at_port(ours.worker_url, proxy.port)))) as store,
    ):
        store.apply(all_kinds("a", 100))
        sizes = (("b", 10), ("c", 100), ("d", 1000))
        counted = [_count(proxy, store.apply, all_kinds(name, size)) for name, size in sizes]
    return Result(
        "round trips of 10, 100, 1000 events of all kinds", "", _listed(counted), max(counted), "per batch", Target(1)
    )


def _all_kinds_in_time(made: Databases) -> Iterator[Result]:
    """Compares a batch of all kinds with a batch of users only."""
    ours = made.take()
    traffic = Traffic()
    with closing(Store(Fixed(ours.worker_url))) as store:
        for _ in range(5):
            store.apply(traffic.batch(100))
        for size, many, at_most in ((10, 40, None), (100, 20, 1.1)):
            batches = [(traffic.batch(size), all_kinds(f"{size}n{number}", size)) for number in range(many)]
            take = in_turns(lambda batch: store.apply(batch[0]), lambda batch: store.apply(batch[1]), batches)
            yield cost(f"batch of {size} of all kinds", f"batch of {size} users", take, at_most=at_most)


def _poison(made: Databases) -> Result:
    """Compares a hundred events, of which Postgres refuses one, with a hundred without it."""
    clean, poisoned = made.take(), made.take()
    traffic = Traffic()
    with closing(Store(Fixed(clean.worker_url))) as store, closing(Store(Fixed(poisoned.worker_url))) as other:
        batches = [traffic.batch(100) for _ in range(30)]

        def with_poison(batch: Batch) -> None:
            refused = [
                each for each in other.apply([*batch[:50], traffic.poison(), *batch[50:]]) if not isinstance(each, str)
            ]
            assert len(refused) == 1

        take = in_turns(store.apply, with_poison, batches)
        return cost("batch of 100 with one that is refused", "batch of 100", take, at_most=3)


def _state(database: Database) -> list[tuple[object, ...]]:
    with database.connect() as connection:
        return connection.execute(_STATE).fetchall()


def _count(proxy: CountingProxy, apply: Callable[[Batch], object], batch: Batch) -> int:
    before = proxy.round_trips
    apply(batch)
    return proxy.round_trips - before


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
