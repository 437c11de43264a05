"""Times at which the database or SQS is away, and the switch that takes a database away."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Final, Literal

import psycopg
from psycopg import sql

from clerk_supabase_cli.operate.role_urls import WORKER_ROLE

What = Literal["the database refuses connections", "the database is read-only", "SQS refuses"]

# What is changed for a database concerns new sessions; the connection that changes it is older and superuser's.
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
    """A time at which something takes nothing. Times in seconds of the line's clock."""

    what: What
    seconds: int
    after: int = 0
    """How long after its batch was handed to a worker."""


def random_outages(chance: Random) -> Iterator[Outage]:
    """The database, from a moment in which its sessions end; SQS, too, now and then, during that time or after it."""
    # Four hours: what counts attempts in an outage has counted all of them by then.
    seconds = chance.choice((600, 3_600, 3_600, 4 * 3_600))
    yield Outage(chance.choice(("the database refuses connections", "the database is read-only")), seconds)
    if chance.random() < 0.5:
        yield Outage("SQS refuses", chance.choice((600, 3_600)), after=chance.choice((0, seconds - 300, seconds)))


class DatabaseSwitch:
    """Takes a database away from its workers, and brings it back."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url, autocommit=True)
        self._alter = sql.SQL("alter database {} ").format(sql.Identifier(self._connection.info.dbname))
        self._away: set[What] = set()

    def take_away(self, what: What) -> None:
        """From now on; whoever is at work is cut off."""
        self._away.add(what)
        self._connection.execute(self._alter + sql.SQL(_AWAY[what]))
        self.end_sessions()

    def end_sessions(self) -> None:
        """Of the workers, until there is none."""
        deadline = time.monotonic() + _MOST_SECONDS
        # pg_terminate_backend could wait by itself, for a tenth of a second each.
        while self._connection.execute(_END_SESSIONS, [WORKER_ROLE]).fetchall():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{WORKER_ROLE} is still connected")
            time.sleep(0.001)

    def bring_back(self) -> None:
        """To what it was."""
        for what in self._away:
            self._connection.execute(self._alter + sql.SQL(_BACK[what]))
        if self._away:
            self.end_sessions()
        self._away.clear()

    def close(self) -> None:
        """Brings it back, and disconnects."""
        self.bring_back()
        self._connection.close()
