"""The looks at the database and the queues: one of each for all viewers, and none while nobody watches."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final

from clerk_supabase.errors import ClerkSupabaseError, SetUpWrong
from clerk_supabase_cli.console.hub import Hub
from clerk_supabase_cli.console.minutes import Hour
from clerk_supabase_cli.console.rendering import Rendering
from clerk_supabase_cli.console.seen import Seen
from clerk_supabase_cli.console.tail import Tail
from clerk_supabase_cli.console.wanted import Wanted
from clerk_supabase_cli.doctor.examination import examine
from clerk_supabase_cli.doctor.patient import Patient
from clerk_supabase_cli.doctor.registry import CHECKS
from clerk_supabase_cli.failure import Failure
from clerk_supabase_cli.operate.comparing import open_runs
from clerk_supabase_cli.operate.database import Connection, open_database
from clerk_supabase_cli.operate.parked import Selection, count, find
from clerk_supabase_cli.operate.queues import HOW_TO_NAME_QUEUES, AwsUnreachable, Queues
from clerk_supabase_cli.operate.status import Database, read_database

# An event is on the screen within a second.
_EVERY: Final = 0.7
_MINUTES_EVERY: Final = 4
"""Looks for new entries between two looks at the minutes."""
_PATIENCE: Final = 5.0
"""Seconds without any answer after which the database counts as unavailable."""
_TABLES_EVERY: Final = 3.0
# `status` counts a day of deliveries: on a large database this takes seconds, and the pause grows with it.
_SHARE_OF_TIME: Final = 30
_SHARE_WHEN_ASKED: Final = 3
_STATUS_AT_LEAST_EVERY: Final = 60.0
_LEAST_PAUSE: Final = 1.0
_QUEUES_EVERY: Final = 10.0
_LOCAL_QUEUES_EVERY: Final = 2.0
_JOIN_SECONDS: Final = 2.0
_IDLE: Final = 1.0
"""Seconds between two questions whether anybody watches."""
PARKED_SHOWN: Final = 50
RUNS_SHOWN: Final = 12


class Watch:
    """Threads that look and publish, from `start()` to `stop()`."""

    def __init__(self, wanted: Wanted, hub: Hub, rendering: Rendering, *, queues_are_local: bool) -> None:
        self._wanted = wanted
        self._hub = hub
        self._rendering = rendering
        self._queues_every = _LOCAL_QUEUES_EVERY if queues_are_local else _QUEUES_EVERY
        self._over = threading.Event()
        self._tables_due = threading.Event()
        self._first_look = threading.Event()
        self._lock = threading.Lock()
        self._seen = Seen()
        self._hour = Hour()
        self._status_at = self._status_took = 0.0
        self._asked_at: float | None = None
        """The time of the question to the database that has no answer yet."""
        self._threads = [
            threading.Thread(target=self._report_faults, args=(work,), name=work.__name__, daemon=True)
            for work in (self._follow_events, self._follow_tables, self._follow_queues, self._notice_silence)
        ]

    def start(self) -> None:
        """Begins to look, as soon as somebody watches."""
        self._publish()
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Ends the looks. A look that hangs does not keep the process from ending."""
        self._over.set()
        self._tables_due.set()
        self._hub.touch()
        deadline = time.monotonic() + _JOIN_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def look_now(self) -> None:
        """Reads the tables again at once, after an action of the operator."""
        self._tables_due.set()

    def wait_for_first_look(self, seconds: float) -> None:
        """Waits, at most this time, until the page shows the first state of the database."""
        self._first_look.wait(seconds)

    def ask_doctor(self) -> None:
        """Begins the checks of the doctor, unless they run."""
        with self._change() as seen:
            if seen.checks_running:
                return
            seen.checks, seen.checks_running = [], True
        threading.Thread(target=self._ask_doctor, name="doctor", daemon=True).start()

    # The threads

    def _follow_events(self) -> None:
        tail = Tail()
        while not self._over.is_set():
            if not self._hub.wait_until_wanted(_IDLE):
                continue
            try:
                with self._asked(), open_database(self._wanted.database_url) as connection:
                    for looks in self._while_wanted():
                        self._read_events(connection, tail, with_minutes=looks % _MINUTES_EVERY == 0)
            except (Failure, SetUpWrong) as error:
                self._begin_outage(str(error))
                self._over.wait(_EVERY)

    def _read_events(self, connection: Connection, tail: Tail, *, with_minutes: bool) -> None:
        with self._asked():
            entries = tail.read(connection)
            if with_minutes:
                self._hour.read(connection)
        self._hub.append(self._rendering.rows(entries))
        with self._lock:
            is_back, self._seen.outage = self._seen.outage is not None, None
            parked = {each.svix_id for each in self._seen.parked}
        if is_back or any(each.what != "event" or each.svix_id in parked for each in entries):
            self._tables_due.set()
        if with_minutes or is_back:
            self._publish()

    def _follow_tables(self) -> None:
        pause = 0.0
        while not self._over.is_set():
            is_asked = self._tables_due.wait(pause)
            if not self._hub.wait_until_wanted(_IDLE):
                pause = 0.0
                continue
            self._tables_due.clear()
            began = time.monotonic()
            self._read_tables(with_status=self._status_is_due(began, is_asked=is_asked))
            self._first_look.set()
            pause = max(_TABLES_EVERY, time.monotonic() - began)
            # Also between looks that new entries ask for.
            self._over.wait(_LEAST_PAUSE)

    def _read_tables(self, *, with_status: bool) -> None:
        url = self._wanted.database_url
        try:
            status = self._read_status(url) if with_status else None
            with open_database(url) as connection:
                parked = find(connection, Selection(), limit=PARKED_SHOWN)
                parked_total = count(connection, Selection())
            with open_runs(url) as runs:
                newest = runs.list(RUNS_SHOWN)
        except (Failure, ClerkSupabaseError) as error:
            self._status_took = 0.0
            with self._change() as seen:
                seen.database_error = str(error)
            return
        with self._change() as seen:
            seen.parked, seen.parked_total, seen.runs = parked, parked_total, newest
            if status:
                seen.database, seen.database_error, seen.read_at = status, "", datetime.now(UTC)

    def _read_status(self, url: str) -> Database:
        began = time.monotonic()
        status = read_database(url)
        self._status_at = time.monotonic()
        self._status_took = self._status_at - began
        return status

    def _status_is_due(self, now: float, *, is_asked: bool) -> bool:
        """Tells whether to count again: sooner after new entries or an action, and never without a pause."""
        pause = self._status_took * (_SHARE_WHEN_ASKED if is_asked else _SHARE_OF_TIME)
        return now >= self._status_at + min(pause, _STATUS_AT_LEAST_EVERY)

    def _follow_queues(self) -> None:
        queues: Queues | None = None
        while not self._over.is_set():
            if not self._hub.wait_until_wanted(_IDLE):
                continue
            try:
                # The stack is asked for the addresses once.
                queues = queues or self._wanted.queues()
                depths = queues.depths() if queues else None
                error = ""
            except AwsUnreachable as failure:
                depths, error = None, str(failure)
            with self._change() as seen:
                seen.queues, seen.queues_error = depths, error
                seen.why_no_queues = "" if queues or error else f"name them by {HOW_TO_NAME_QUEUES}"
            self._over.wait(self._queues_every)

    def _notice_silence(self) -> None:
        """Notes an outage when the database neither answers nor fails: a lost network, or a server that hangs."""
        while not self._over.wait(1.0):
            asked_at = self._asked_at
            if asked_at is not None and time.monotonic() - asked_at > _PATIENCE:
                self._begin_outage(f"no answer within {_PATIENCE:.0f} s")

    def _ask_doctor(self) -> None:
        # A test event is recorded as a delivery.
        checks = [check for check in CHECKS if self._wanted.can_write or not check.waits_for_canary]
        for result in examine(Patient(self._wanted.named), checks):
            with self._change() as seen:
                seen.checks.append(result)
        with self._change() as seen:
            seen.checks_running, seen.checks_at = False, datetime.now(UTC)

    # Their state

    def _report_faults(self, work: Callable[[], None]) -> None:
        """Runs a thread again after a fault of ours, and shows the fault."""
        while not self._over.is_set():
            try:
                work()
            except Exception as error:  # noqa: BLE001 - a page that stands still and says nothing would be worse
                # Only the type: an unknown message may repeat a secret.
                self._begin_outage(f"the console itself broke ({type(error).__name__}): please report it")
                self._over.wait(_PATIENCE)

    def _while_wanted(self) -> Iterator[int]:
        """Counts looks, one every 0.7 s; ends when nobody watches any more, so that the connection is closed."""
        looks = 0
        while not self._over.is_set() and self._hub.wait_until_wanted(_IDLE):
            began = time.monotonic()
            yield looks
            looks += 1
            self._over.wait(max(0.0, _EVERY - (time.monotonic() - began)))

    @contextmanager
    def _asked(self) -> Iterator[None]:
        self._asked_at = time.monotonic()
        try:
            yield
        finally:
            self._asked_at = None

    def _begin_outage(self, reason: str) -> None:
        self._first_look.set()
        with self._change() as seen:
            seen.begin_outage(reason)

    @contextmanager
    def _change(self) -> Iterator[Seen]:
        """Changes the state, and shows it."""
        with self._lock:
            yield self._seen
        self._publish()

    def _publish(self) -> None:
        with self._lock:
            self._hub.publish(self._rendering.panels(self._seen, list(self._hour.minutes)))
