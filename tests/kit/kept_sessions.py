"""Sessions of the worker that outlive a test: a new one reads the catalogue and compiles functions, 20 ms each time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeGuard

import psycopg
from psycopg import pq

from clerk_supabase.credentials import Fixed
from clerk_supabase.postgres.connection import Connection
from clerk_supabase.postgres.store import Store


class KeptSessions:
    """One session for each database. Sync relies on nothing in a session, and each test begins with DISCARD ALL."""

    def __init__(self) -> None:
        self._of: dict[str, Connection] = {}

    @contextmanager
    def lent(self, database: str, url: str) -> Iterator[Store]:
        """A store of its own for one test, with the session that an earlier test left in the database, if there is one.

        *url*: that of the worker.
        """
        store = Store(Fixed(url))
        store._kept.connection = self._forgetful(database)
        try:
            yield store
        finally:
            connection = store._kept.connection
            if _is_idle(connection):
                self._of[database] = connection
            else:
                store.close()

    def process(self, database: str) -> int:
        """The process id of the session in a database; 0: there is none."""
        kept = self._of.get(database)
        return kept.info.backend_pid if _is_idle(kept) else 0

    def end(self, database: str) -> None:
        """Ends the session in a database."""
        if kept := self._of.pop(database, None):
            kept.close()

    def end_all(self) -> None:
        """Ends all sessions."""
        for database in list(self._of):
            self.end(database)

    def _forgetful(self, database: str) -> Connection | None:
        """The session in a database without settings, locks, prepared statements and plans; None: it is gone."""
        kept = self._of.pop(database, None)
        if kept is not None:
            try:
                kept.execute("discard all")
            except psycopg.Error:
                # A test has stopped the server, or ended the session.
                kept.close()
                return None
        return kept


def _is_idle(connection: Connection | None) -> TypeGuard[Connection]:
    """Tells whether a session is open and outside a transaction."""
    return (
        connection is not None
        and not connection.closed
        and connection.info.transaction_status == pq.TransactionStatus.IDLE
    )
