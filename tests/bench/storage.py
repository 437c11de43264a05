"""The cost of updates on disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

from clerk_supabase.credentials import Fixed
from clerk_supabase.postgres.store import Store
from clerk_supabase_cli.simulator.databases import wait_for_workers
from tests.bench.databases import databases
from tests.bench.results import Result, Target
from tests.bench.traffic import Traffic
from tests.kit.databases import Database, value

_TABLES: Final = {"clerk.users": "users", "clerk_sync.entities": "entities"}
_USERS: Final = 2_000
_NO_OPS: Final = 200


def measure(root: Path) -> Iterator[Result]:
    """Measures the share of updates that leave the indexes unchanged, and the log of an update that changes nothing."""
    with databases(root) as made:
        yield from _hot_updates(made.take())
        yield from _log_of_a_no_op(made.take())


def _hot_updates(database: Database) -> Iterator[Result]:
    traffic = Traffic()
    with closing(Store(Fixed(database.worker_url))) as store, database.connect() as admin:
        store.apply([traffic.sign_up() for _ in range(_USERS)])
        # Sign-ups do not count.
        admin.execute("select pg_stat_reset()")
        for _ in range(400):
            store.apply([traffic.edit() if number % 2 else traffic.sign_in() for number in range(20)])
    wait_for_workers(database)
    with database.connect() as admin:
        for table, name in _TABLES.items():
            [(updates, hot)] = admin.execute(
                "select n_tup_upd, n_tup_hot_upd from pg_stat_user_tables where relid = %s::regclass", [table]
            ).fetchall()
            yield Result(
                f"updates of {name} that leave the indexes alone",
                "every index written: 0 %",
                f"{hot:,} of {updates:,}",
                100 * hot / updates,
                "%",
                Target(95, at_least=True),
            )


def _log_of_a_no_op(database: Database) -> Iterator[Result]:
    """The median of many: sometimes the server writes log records of its own.

    In a batch a commit is shared, and a page written before is cleaned up once.
    """
    traffic = Traffic()
    with closing(Store(Fixed(database.worker_url))) as store, database.connect() as admin:
        store.apply([traffic.sign_up() for _ in range(_USERS)])
        assert value(admin, "show full_page_writes") == "off"
        for size, target in ((10, Target(350)), (1, None)):
            written = []
            for _ in range(_NO_OPS):
                users = traffic.chance.sample(range(_USERS), size)
                before = value(admin, "select pg_current_wal_insert_lsn()")
                assert store.apply([traffic.sign_in(user) for user in users]) == ["unchanged"] * size
                written.append(int(value(admin, "select pg_current_wal_insert_lsn() - %s::pg_lsn", before)))
            each = sorted(written)[len(written) // 2] / size
            yield Result(
                f"log of a user.updated that changes nothing, in a batch of {size}",
                "", f"{each:.0f} bytes", each, "bytes", target,
            )  # fmt: skip
