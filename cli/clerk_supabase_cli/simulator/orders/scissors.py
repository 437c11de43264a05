"""Cuts connections to Postgres in the middle of a statement."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

import psycopg

from clerk_supabase_cli.operate.role_urls import WORKER_ROLE

_CUT_ONE_OFF: Final = """
select pg_terminate_backend(pid) from pg_stat_activity
where datname = current_database() and usename = %s and state = 'active'
order by random() limit 1
"""


class Scissors:
    """Cuts the connection of a worker that is just waiting for Postgres."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url, autocommit=True)
        self._thread = ThreadPoolExecutor(1)
        self._wanted: list[Future[int]] = []

    def cut(self) -> None:
        """One connection, in a moment: while the worker that asked goes on."""
        self._wanted.append(self._thread.submit(self._cut_one_off))

    def settle(self) -> int:
        """How many were cut since the last look. From here on none is, until the next wish."""
        wanted, self._wanted = self._wanted, []
        return sum(each.result() for each in wanted)

    def close(self) -> None:
        """Cuts what is still to be cut, and disconnects."""
        self._thread.shutdown()
        self._connection.close()

    def _cut_one_off(self) -> int:
        return len(self._connection.execute(_CUT_ONE_OFF, [WORKER_ROLE]).fetchall())
