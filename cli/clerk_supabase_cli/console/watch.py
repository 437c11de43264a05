"""The looks at the database and the queues: one of each for all viewers, and none while nobody watches."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from typing import Final

from clerk_supabase.errors import ClerkSupabaseError, DatabaseUnavailable, SetUpWrong
from clerk_supabase_cli.console.hub import Hub
from clerk_supabase_cli.console.minutes import Hour
from clerk_supabase_cli.console.rendering import Rendering
from clerk_supabase_cli.console.seen import Reader, Seen
from clerk_supabase_cli.console.tail import Tail
from clerk_supabase_cli.console.wanted import Wanted
from clerk_supabase_cli.doctor.examination import examine
from clerk_supabase_cli.doctor.patient import Patient
from clerk_supabase_cli.doctor.registry import CHECKS
from clerk_supabase_cli.failure import Failure
from clerk_supabase_cli.operate.comparing import open_runs
from clerk_supabase_cli.operate.database import LOOK, Connection, DatabaseUnreachable, open_database
from clerk_supabase_cli.operate.monitor.database_state import Database, read_database
from clerk_supabase_cli.operate.monitor.function_logs import FunctionLogs, Outage
from clerk_supabase_cli.operate.monitor.outages import Outages, in_words
from clerk_supabase_cli.operate.parked import Selection, count, find
from clerk_supabase_cli.operate.queues import HOW_TO_NAME_QUEUES, AwsUnreachable, Queues
from clerk_supabase_cli.operate.reachability import NO_ANSWER

# An event is on the screen within a second.
_EVERY: Final = 0.7
_MINUTES_EVERY: Final = 4
"""Looks for new entries between two looks at the minutes."""
_FRESH: Final = 10.0
"""Seconds after a failed look in which the outage is taken to go on."""
_PATIENCE: Final = 5.0
"""Seconds after which a connection that is not yet there counts as an outage: a name server, too, may be silent."""
_RUNS_SECONDS: Final = 10.0
"""The longest wait for the list of comparisons, locks included."""
_TABLES_EVERY: Final = 3.0
# `status` counts a day of deliveries: on a large database this takes seconds, and the pause grows with it.
_SHARE_OF_TIME: Final = 30
_SHARE_WHEN_ASKED: Final = 3
_STATUS_AT_LEAST_EVERY: Final = 60.0
_LEAST_PAUSE: Final = 1.0
_QUEUES_EVERY: Final = 10.0
_LOCAL_QUEUES_EVERY: Final = 2.0
_APPLIES: Final = 3.0
"""Seconds after an applied event in which the functions are taken to reach the database."""
_SEARCH_SECONDS: Final = 4.0
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
        self._applied_at = -_APPLIES
        """The time at which the last applied event was read."""
        self._outages = Outages.of(wanted.database_url)
        self._connects_since: datetime | None = None
        """The time at which the reader of events began to open a connection that is not yet there."""
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

    def require_answers(self) -> None:
        """Raises DatabaseUnreachable at once if the last seconds had an outage: no page waits for the same silence."""
        with self._lock:
            outage, queues = self._seen.outage, self._seen.queues
        if outage is not None and (datetime.now(UTC) - outage.until).total_seconds() < _FRESH:
            raise DatabaseUnreachable(in_words(outage, queues["sync"].total if queues and "sync" in queues else None))

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
            asked_at = datetime.now(UTC)
            try:
                with self._connected(asked_at) as connection:
                    for looks in self._while_wanted():
                        asked_at = datetime.now(UTC)
                        self._read_events(connection, tail, with_minutes=looks % _MINUTES_EVERY == 0)
            except (Failure, SetUpWrong) as error:
                self._failed("events", asked_at, error)
                self._over.wait(_EVERY)

    def _read_events(self, connection: Connection, tail: Tail, *, with_minutes: bool) -> None:
        entries = tail.read(connection)
        if with_minutes:
            self._hour.read(connection)
        self._hub.append(self._rendering.rows(entries))
        if any(each.what == "event" for each in entries):
            self._applied_at = time.monotonic()
        is_back = self._answered("events")
        with self._lock:
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
        url, asked_at = self._wanted.database_url, datetime.now(UTC)
        try:
            status = self._read_status(url) if with_status or self._seen.is_stale else None
            with open_database(url, LOOK) as connection:
                parked = find(connection, Selection(), limit=PARKED_SHOWN)
                parked_total = count(connection, Selection())
            with open_runs(url, LOOK, _RUNS_SECONDS) as runs:
                newest = runs.list(RUNS_SHOWN)
        except (Failure, ClerkSupabaseError) as error:
            self._status_took = 0.0
            self._failed("tables", asked_at, error)
            return
        self._answered("tables")
        with self._change() as seen:
            seen.parked, seen.parked_total, seen.runs = parked, parked_total, newest
            if status:
                seen.database, seen.read_at, seen.is_stale = status, asked_at, False

    def _read_status(self, url: str) -> Database:
        began = time.monotonic()
        # The objects are a check of the doctor, and would take most of the time.
        status = read_database(url, compares_objects=False)
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
            outage = self._outage_of_functions() if depths and any(each.total for each in depths.values()) else None
            with self._change() as seen:
                seen.queues, seen.queues_error, seen.outage_of_functions = depths, error, outage
                seen.why_no_queues = "" if queues or error else f"name them by {HOW_TO_NAME_QUEUES}"
            self._over.wait(self._queues_every)

    def _outage_of_functions(self) -> Outage | None:
        """The outage in the logs of a named stack, while events wait and none is applied; None if none is known."""
        with self._lock:
            last = self._seen.database.last_delivery if self._seen.database else None
        if not self._wanted.named.stack_name or time.monotonic() - self._applied_at < _APPLIES:
            return None
        # Without the right to read the logs, the rest of the page is as good as ever.
        with suppress(AwsUnreachable):
            return FunctionLogs(self._wanted.named.stack_name, _SEARCH_SECONDS).outage(last)
        return None

    def _notice_silence(self) -> None:
        """Notes an outage while a connection takes longer than its limit: the limit does not hold for a name server."""
        while not self._over.wait(1.0):
            since = self._connects_since
            if since is not None and (datetime.now(UTC) - since).total_seconds() > _PATIENCE:
                error = DatabaseUnreachable(f"{NO_ANSWER} within {_PATIENCE:.0f} s")
                self._failed("events", since, error)

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
                words = f"the console itself broke ({type(error).__name__}): please report it"
                reader: Reader = "events" if work == self._follow_events else "tables"
                self._failed(reader, datetime.now(UTC), Failure(words))
                self._over.wait(_PATIENCE)

    def _failed(self, reader: Reader, asked_at: datetime, error: Exception) -> None:
        """Notes that a question has no answer, or an error for an answer."""
        self._first_look.set()
        with self._change() as seen:
            if _is_outage(error):
                seen.outages[reader] = self._outages.failed(asked_at, str(error))
                seen.is_stale = True
            else:
                seen.outages.pop(reader, None)
                seen.errors[reader] = str(error)

    def _answered(self, reader: Reader) -> bool:
        """Notes an answer; tells whether the question before had none."""
        with self._lock:
            seen = self._seen
            seen.errors.pop(reader, None)
            was_out = seen.outages.pop(reader, None) is not None
            if not seen.outages:
                self._outages.answered(datetime.now(UTC))
            return was_out

    def _while_wanted(self) -> Iterator[int]:
        """Counts looks, one every 0.7 s; ends when nobody watches any more, so that the connection is closed."""
        looks = 0
        while not self._over.is_set() and self._hub.wait_until_wanted(_IDLE):
            began = time.monotonic()
            yield looks
            looks += 1
            self._over.wait(max(0.0, _EVERY - (time.monotonic() - began)))

    @contextmanager
    def _connected(self, now: datetime) -> Iterator[Connection]:
        with ExitStack() as stack:
            self._connects_since = now
            try:
                connection = stack.enter_context(open_database(self._wanted.database_url, LOOK))
            finally:
                self._connects_since = None
            yield connection

    @contextmanager
    def _change(self) -> Iterator[Seen]:
        """Changes the state, and shows it."""
        with self._lock:
            yield self._seen
        self._publish()

    def _publish(self) -> None:
        with self._lock:
            self._hub.publish(self._rendering.panels(self._seen, list(self._hour.minutes)))


def _is_outage(error: Exception) -> bool:
    return isinstance(error, DatabaseUnavailable) or (isinstance(error, DatabaseUnreachable) and error.is_outage)
