"""A table of the app that follows the mirror: batches and a back-fill with the feed and without."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

from clerk_supabase.credentials import Fixed
from clerk_supabase.postgres.store import Store
from tests.bench.databases import databases
from tests.bench.results import Result, Target
from tests.bench.traffic import Batch, Traffic
from tests.bench.turns import Turns, cost, in_turns
from tests.kit.databases import Database, Databases
from tests.kit.feeding import USERS, switch
from tests.kit.histories import alone, upsert

_USERS: Final = 100_000
_AT_ONCE: Final = 1_000
_NO_FEED: Final = "without a feed"


def measure(root: Path) -> Iterator[Result]:
    """Measures batches of new and of changed users, and a back-fill."""
    with databases(root) as made:
        for what, is_guarded in (("a feed", False), ("a feed and a guard", True)):
            yield from _batches(made, what, is_guarded=is_guarded)
        yield _back_fill(made)


def _batches(made: Databases, what: str, *, is_guarded: bool) -> Iterator[Result]:
    plain, fed = made.take(), _with_feed(made, is_guarded=is_guarded)
    traffic = Traffic()
    with closing(Store(Fixed(plain.worker_url))) as one, closing(Store(Fixed(fed.worker_url))) as other:
        for store in (one, other):
            for _ in range(5):
                store.apply(traffic.batch(100))
        mixed = [traffic.batch(100) for _ in range(40)]
        yield cost(f"batch of 100 with {what}", _NO_FEED, in_turns(one.apply, other.apply, mixed), at_most=1.3)
        renamed = [_users(0, 100, version) for version in range(1, 41)]
        yield cost(
            f"100 changed users with {what}",
            _NO_FEED,
            in_turns(one.apply, other.apply, renamed[1:]),
            at_most=1.3,
        )


def _back_fill(made: Databases) -> Result:
    plain, fed = made.take(), _with_feed(made, is_guarded=False)
    batches = [_users(first, _AT_ONCE, 1) for first in range(0, _USERS, _AT_ONCE)]
    with closing(Store(Fixed(plain.worker_url))) as one, closing(Store(Fixed(fed.worker_url))) as other:
        turns = Turns()
        in_turns(one.apply, other.apply, batches)(turns)
    rates = [_AT_ONCE / seconds for seconds in turns.ours]
    without, with_feed = (_AT_ONCE * len(batches) / sum(each) for each in (turns.baseline, turns.ours))
    with fed.connect() as connection:
        [(written,)] = connection.execute("select count(*) from public.users").fetchall()
    assert written == _USERS
    return Result(
        f"new users with a feed, {_USERS:,}, in batches of {_AT_ONCE:,}",
        f"{_NO_FEED}: {without:,.0f}/s",
        f"{with_feed:,.0f}/s",
        with_feed,
        "/s",
        Target(8_000, at_least=True),
        spread=(min(rates), max(rates)),
    )


def _with_feed(made: Databases, *, is_guarded: bool) -> Database:
    database = made.take()
    with database.connect() as connection:
        connection.execute(USERS)
        switch(connection, guard=is_guarded)
    return database


def _users(first: int, size: int, version: int) -> Batch:
    return alone(
        *(upsert(f"user_{number}", version=version, first_name=f"V{version}") for number in range(first, first + size))
    )
