"""Two writers at the same moment."""

from __future__ import annotations

import threading
from collections.abc import Callable

from tests.kit.databases import Connection, value
from tests.kit.polling import eventually


def started(act: Callable[[], object]) -> threading.Thread:
    """A thread that runs the function at the same time."""
    thread = threading.Thread(target=act)
    thread.start()
    return thread


def until_one_has_given_up(admin: Connection) -> None:
    """Returns once a session has waited for a lock, and waits no more."""
    eventually(lambda: waiting(admin), lambda sessions: sessions == 1)
    eventually(lambda: waiting(admin), lambda sessions: sessions == 0)


def waiting(admin: Connection) -> int:
    """The number of sessions of this database that wait for a lock."""
    return int(
        value(
            admin,
            "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()",
        )
    )
