"""Statements with strong locks, in several short attempts, so that other sessions never wait for long."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final, Self, TypeVar

import psycopg

from clerk_supabase_cli.operate.blockers import Blocker, LockedByOthers, in_words
from clerk_supabase_cli.operate.database import Connection, DatabaseFailed, open_database
from clerk_supabase_cli.printing import how_long

_ATTEMPTS: Final = 5

_BEGIN: Final = """
    select pg_backend_pid(), set_config('lock_timeout', %s, true)
"""
# The text of a query is not read, because it may hold personal data.
_BLOCKERS: Final = """
    select b.pid, a.usename::text, a.application_name, a.state, extract(epoch from clock_timestamp() - a.xact_start)
    from unnest(pg_blocking_pids(%s)) as b (pid) left join pg_stat_activity as a on a.pid = b.pid
    order by b.pid
"""

Answer = TypeVar("Answer")
Report = Callable[[str], None]


class _Watch:
    """Finds the blockers of a session, on a connection of its own, opened only if the session has to wait."""

    def __init__(self, url: str, lock_seconds: float) -> None:
        self.blockers: list[Blocker] = []
        self._url = url
        self._lock_seconds = lock_seconds
        self._pid = 0
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="who blocks", daemon=True)

    def start(self, pid: int) -> None:
        """Begins to watch a session."""
        self._pid = pid
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        if self._thread.is_alive():
            self._thread.join()

    def _look(self) -> None:
        if self._is_over.wait(self._lock_seconds / 4):
            return
        try:
            with open_database(self._url) as connection:
                while not self._is_over.is_set():
                    found = [Blocker(*row) for row in connection.execute(_BLOCKERS, [self._pid])]
                    self.blockers = found or self.blockers
                    self._is_over.wait(self._lock_seconds / 10)
        except DatabaseFailed:
            # The blockers stay unknown; the statements themselves report the failure.
            return


def in_turns(
    connection: Connection,
    url: str,
    act: Callable[[], Answer],
    *,
    lock_seconds: float,
    is_trial: bool = False,
    report: Report,
) -> Answer:
    """Runs *act* in a transaction that waits for no lock longer than *lock_seconds*, and retries a few times.

    A pause follows each attempt, because a session that waits for a strong lock blocks all sessions after it.
    *is_trial*: roll back in the end. *report*: is called after each failed attempt. Raises LockedByOthers.
    """
    connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
    blocked_by = ""
    for attempt in range(1, _ATTEMPTS + 1):
        with _Watch(url, lock_seconds) as watch:
            try:
                with connection.transaction(force_rollback=is_trial):
                    [(pid, _)] = connection.execute(_BEGIN, [f"{lock_seconds * 1000:.0f}ms"]).fetchall()
                    watch.start(pid)
                    return act()
            except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
                pass
        blocked_by = in_words(watch.blockers)
        if attempt < _ATTEMPTS:
            report(f"blocked by {blocked_by}; trying again in {how_long(lock_seconds * attempt)}")
            time.sleep(lock_seconds * attempt)
    raise LockedByOthers(
        f"nothing was changed: a lock was not free within {how_long(lock_seconds)}, {_ATTEMPTS} times; "
        f"blocked by {blocked_by}; try again when that has ended, or end it with select pg_terminate_backend(PID)"
    )
