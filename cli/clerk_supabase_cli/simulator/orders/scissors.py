"""Cuts connections to Postgres in the middle of a statement."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

import psycopg

from clerk_supabase_cli.operate.setup.role_urls import WORKER_ROLE

_CUT_ONE_OFF: Final = """
select pg_terminate_backend(pid) from pg_stat_activity
where datname = current_database() and usename = %s and state = 'active'
order by random() limit 1
"""


class Scissors:
    """Cuts the connection of a random worker in the middle of its statement."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url, autocommit=True)
        self._thread = ThreadPoolExecutor(1)
        self._wanted: list[Future[int]] = []

    def cut(self) -> None:
        """Cuts a connection in a moment, while the calling worker goes on."""
        self._wanted.append(self._thread.submit(self._cut_one_off))

    def settle(self) -> int:
        """Waits for all requested cuts; returns the number of connections cut since the last call."""
        wanted, self._wanted = self._wanted, []
        return sum(each.result() for each in wanted)

    def close(self) -> None:
        """Waits for all requested cuts, and disconnects."""
        self._thread.shutdown()
        self._connection.close()

    def _cut_one_off(self) -> int:
        return len(self._connection.execute(_CUT_ONE_OFF, [WORKER_ROLE]).fetchall())
