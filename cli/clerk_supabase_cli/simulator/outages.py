"""Outages of the database and of SQS, and a switch for the availability of a database."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Final, Literal

import psycopg
from psycopg import sql

from clerk_supabase_cli.operate.setup.role_urls import WORKER_ROLE

What = Literal["the database refuses connections", "the database is read-only", "SQS refuses"]

# A setting of a database affects new sessions; the switch has an older session, as superuser.
_AWAY: Final = {
    "the database refuses connections": "connection limit 0",
    "the database is read-only": "set default_transaction_read_only = on",
}
_BACK: Final = {
    "the database refuses connections": "connection limit -1",
    "the database is read-only": "reset default_transaction_read_only",
}
_END_SESSIONS: Final = """
select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and usename = %s
"""
_MOST_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Outage:
    """An outage of the database or of SQS. Times in seconds of the line's clock."""

    what: What
    seconds: int
    after: int = 0
    """The time from the delivery of its batch to a worker until its beginning."""


def random_outages(chance: Random) -> Iterator[Outage]:
    """Draws an outage of the database, and often an outage of SQS, during the first outage or afterwards."""
    # Four hours: code that counts attempts during an outage has counted all attempts by then.
    seconds = chance.choice((600, 3_600, 3_600, 4 * 3_600))
    yield Outage(chance.choice(("the database refuses connections", "the database is read-only")), seconds)
    if chance.random() < 0.5:
        yield Outage("SQS refuses", chance.choice((600, 3_600)), after=chance.choice((0, seconds - 300, seconds)))


class DatabaseSwitch:
    """Makes a database unavailable to its workers, and available again."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url, autocommit=True)
        self._alter = sql.SQL("alter database {} ").format(sql.Identifier(self._connection.info.dbname))
        self._away: set[What] = set()

    def interrupt(self, what: What) -> None:
        """Begins an outage, and cuts off the workers."""
        self._away.add(what)
        self._connection.execute(self._alter + sql.SQL(_AWAY[what]))
        self.end_sessions()

    def end_sessions(self) -> None:
        """Ends the sessions of workers until no session is left. Raises TimeoutError."""
        deadline = time.monotonic() + _MOST_SECONDS
        # pg_terminate_backend could wait itself, but takes at least a tenth of a second for each session.
        while self._connection.execute(_END_SESSIONS, [WORKER_ROLE]).fetchall():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{WORKER_ROLE} is still connected")
            time.sleep(0.001)

    def restore(self) -> None:
        """Ends the outage: restores the settings of the database."""
        for what in self._away:
            self._connection.execute(self._alter + sql.SQL(_BACK[what]))
        if self._away:
            self.end_sessions()
        self._away.clear()

    def close(self) -> None:
        """Ends the outage, and disconnects."""
        self.restore()
        self._connection.close()
