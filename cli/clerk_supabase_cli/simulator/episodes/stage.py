"""The stage of an episode: Clerk and its API, the queues and their functions, the database, its app, its operator."""

from __future__ import annotations

import math
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

import msgspec
import psycopg
from psycopg import sql

from clerk_supabase.aws.queue import Queue, messages_of
from clerk_supabase.clerk.http import ClerkHttp
from clerk_supabase.credentials import Fixed
from clerk_supabase.model.clerk_object import Columns
from clerk_supabase.model.envelope import Envelope
from clerk_supabase.parking import Parking
from clerk_supabase.postgres.store import Store
from clerk_supabase.reconcile.corrections.repairs import DirectRepairs, QueueRepairs, Repairs
from clerk_supabase.reconcile.drift import Brake
from clerk_supabase.reconcile.pages import ReconcileSettings
from clerk_supabase.reconcile.run import Reconcile
from clerk_supabase.reconcile.runs import Runs
from clerk_supabase.retry import Retry
from clerk_supabase.sync import Sync
from clerk_supabase_cli.operate import retention
from clerk_supabase_cli.operate.database import Connection
from clerk_supabase_cli.operate.setup.role_urls import WORKER_ROLE
from clerk_supabase_cli.simulator import app_rules
from clerk_supabase_cli.simulator.app_rules import AppRules
from clerk_supabase_cli.simulator.databases import Database
from clerk_supabase_cli.simulator.episodes.clerk_views import History, Views
from clerk_supabase_cli.simulator.episodes.failover import Replica
from clerk_supabase_cli.simulator.fed_table import FedTable
from clerk_supabase_cli.simulator.line import (
    BATCH_SIZE,
    MAX_RECEIVES,
    RETRY_VISIBILITY_SECONDS,
    SYNC_VISIBILITY_SECONDS,
    QueueName,
)
from clerk_supabase_cli.simulator.snapshots import Snapshot
from clerk_supabase_cli.simulator.sqs import SimulatedQueue, SimulatedSqs
from clerk_supabase_cli.standin.backend_api import ClerkApi
from clerk_supabase_cli.standin.worlds import World

MARGIN_MS: Final = 60_000
"""The least time between the two proofs of a delete; the lag of the API is shorter."""
BRAKE: Final = Brake(rows=2)

_KEY: Final = "sk_live_simulated"
_STORES: Final = 6
# The app keeps its lock for several steps, so no session may wait long for it. The worker's role has its own limit.
_WAIT: Final = """
alter database {database} set lock_timeout = '60ms';
alter role {worker} in database {database} set lock_timeout = '60ms';
set lock_timeout = '60ms';
"""
_WAIT_AS_BEFORE: Final = """
alter database {database} reset lock_timeout;
alter role {worker} in database {database} reset lock_timeout;
"""


class Theatre:
    """Connections, threads and servers, used by all episodes in turn."""

    def __init__(self, database: Database) -> None:
        with ExitStack() as closed_at_the_end:
            opened = closed_at_the_end.enter_context
            self.admin: Connection = opened(psycopg.connect(database.url, autocommit=True))
            opened(_short_waits(self.admin))
            opened(app_rules.installed(self.admin))
            self.fed = opened(FedTable.installed(self.admin))
            self.replica = Replica(self.admin)
            closed_at_the_end.callback(self.replica.drop)
            self.stores: queue.SimpleQueue[Store] = queue.SimpleQueue()
            for _ in range(_STORES):
                self.stores.put(opened(closing(Store(Fixed(database.worker_url)))))
            self.owners: queue.SimpleQueue[Store] = queue.SimpleQueue()
            for _ in range(_STORES):
                self.owners.put(opened(closing(Store(Fixed(f"{database.url}?sslmode=disable")))))
            self.views = Views(World(Random(0), "0"), _KEY)  # noqa: S311 - nothing is drawn from it
            self.clock: Callable[[], int] = lambda: self.views.world.now
            self.api = opened(ClerkApi(self.views, clock=self._now))
            self._slept = 0.0
            self.http = opened(closing(ClerkHttp(Fixed(_KEY), self.api.url, clock=self.monotonic, sleep=self._sleep)))
            self.url = database.url
            self._close = closed_at_the_end.pop_all().close

    def close(self) -> None:
        """Disconnects, and restores the schema."""
        self._close()

    def _now(self) -> int:
        # Each episode has its own clock.
        return self.clock()

    def monotonic(self) -> float:
        """The clock for requests to Clerk, whose sleeps move the clock without waiting."""
        return time.monotonic() + self._slept

    def _sleep(self, seconds: float) -> None:
        self._slept += seconds

    @contextmanager
    def store(self, *, is_owner: bool = False) -> Iterator[Store]:
        """Lends a store for the `with` block: the worker's, or the database owner's."""
        stores = self.owners if is_owner else self.stores
        store = stores.get()
        try:
            yield store
        finally:
            stores.put(store)


@contextmanager
def _short_waits(admin: Connection) -> Iterator[None]:
    names = {"worker": sql.Identifier(WORKER_ROLE), "database": sql.Identifier(admin.info.dbname)}
    admin.execute(sql.SQL(_WAIT).format(**names))
    yield
    admin.execute(sql.SQL(_WAIT_AS_BEFORE).format(**names))


@dataclass
class Stage:
    """The state of an episode."""

    theatre: Theatre
    world: World
    counts: Counter[str] = field(default_factory=Counter)
    """The number of times that each kind of step happened."""
    wrong: list[str] = field(default_factory=list)
    """Broken guarantees seen so far."""
    told: int = 0
    """The number of events of the world already sent, or lost."""
    undone: set[int] = field(default_factory=set)
    """Runs undone since the last run began."""
    setbacks: set[str] = field(default_factory=set)
    """Objects whose `updated_at` went backwards: their old version does not allow a write of the present content."""
    misled: set[str] = field(default_factory=set)
    """Objects that exist in Clerk, although a webhook reported their delete."""
    are_profiles_edited: bool = False
    truncated: set[str] = field(default_factory=set)
    """Kinds whose table lost rows by a statement invisible to the audit log."""
    rekeyed: set[str] = field(default_factory=set)
    """Ids before and after a change of a primary key, which the audit log does not record."""
    copies: dict[str, list[Columns]] = field(default_factory=dict)
    """By kind: the rows in the owner's copy of a table."""
    is_alone: bool = True
    """True: steps happen one at a time, so that each effect has a known step as its cause."""
    has_lied: bool = False
    late: list[Envelope] = field(default_factory=list)
    """Webhooks to arrive with the next webhooks."""
    delayed: list[Envelope] = field(default_factory=list)
    """Webhooks to arrive at any later time, perhaps after several runs."""
    _last_second: int = 0

    def __post_init__(self) -> None:
        self.theatre.fed.reset()
        self.replica.empty_tables()
        # Not in a step: steps side by side share this connection, and the transaction would include their statements.
        retention.allow(self.admin, {"hold_back_days": 0, "purge_by": "delete"})
        self.replica.forget()
        self.history = History(self.world)
        self.rules = AppRules(self.theatre.url)
        self.theatre.views.view_for = lambda _: self.history.now()
        self.theatre.views.tells_expiry = True
        self.theatre.clock = lambda: self.world.now
        self.theatre.api.faults.clear()
        self._lock = threading.RLock()
        self.sqs = _Sqs(lambda: self.world.now / 1000, self._lock)
        dead = SimulatedQueue(RETRY_VISIBILITY_SECONDS)
        self.queues: dict[QueueName, SimulatedQueue] = {
            "sync": SimulatedQueue(SYNC_VISIBILITY_SECONDS, dead, MAX_RECEIVES),
            "dead letters": dead,
            "parked": SimulatedQueue(RETRY_VISIBILITY_SECONDS),
        }
        for name, each in self.queues.items():
            self.sqs.queues[name] = each
        self.sync_queue = Queue(self.sqs.client, "sync")

    @property
    def admin(self) -> Connection:
        """The superuser's connection."""
        return self.theatre.admin

    @property
    def replica(self) -> Replica:
        return self.theatre.replica

    def snapshot(self) -> Snapshot:
        """The present tables."""
        return Snapshot.of(self.admin)

    # Clerk and its webhooks

    def lets(self, happening: Callable[[], object]) -> None:
        """Makes a change in Clerk, and records the new state in the history."""
        happening()
        self.history.note()

    def untold(self) -> Sequence[Envelope]:
        """The events since the last call."""
        first, self.told = self.told, len(self.world.events)
        return [
            Envelope(f"msg_{self.world.name}_{number}", msgspec.json.encode(event), self.world.now)
            for number, event in enumerate(self.world.events[first:], first)
        ]

    def pass_time(self, seconds: float) -> None:
        """Moves the clock; nothing happens in Clerk meanwhile."""
        self.world.now += int(seconds * 1000)

    def age_rows(self, seconds: float) -> None:
        """Moves the inserts of all rows into the past: our own clock, which nothing else moves, dates a stub."""
        self.admin.execute(
            "update clerk_sync.audit_log set recorded_at = recorded_at - %s * interval '1 second' "
            "where operation = 'insert'",
            [seconds],
        )

    def let_a_week_pass(self) -> None:
        """Moves the writes of altered rows into the past: the next comparison writes these rows again."""
        self.admin.execute("update clerk_sync.altered_rows set written_at = written_at - interval '8 days'")

    def next_second(self) -> None:
        """Moves the clock to a new second: by `Date`, two comparisons within a second would look the same."""
        second = self.world.now // 1000
        if second <= self._last_second:
            self.world.now = (self._last_second + 1) * 1000
        self._last_second = self.world.now // 1000

    def give_up(self, what: str, error: Exception) -> None:
        """Records an error: a broken guarantee, unless the app or a simultaneous step may be the cause."""
        self.counts["given up"] += 1
        if self.is_alone and not self.rules.ids():
            self.wrong.append(f"{what} failed: {error}")

    def misled_with_children(self) -> set[str]:
        """The objects whose delete was reported wrongly, and their children."""
        return self.misled | self.world.children_of(self.misled)

    # Queues

    def send(self, envelopes: Iterable[Envelope]) -> None:
        """Sends envelopes to the sync queue."""
        for envelope in envelopes:
            self.sync_queue.send(envelope)

    def work_off(self, *, forgets: bool = False) -> list[tuple[Envelope, str]]:
        """Lets the functions process all visible messages. Returns the failures of sync: each message with its error.

        `forgets`: no message is deleted, so that each processed batch is delivered again.
        """
        staying: list[tuple[Envelope, str]] = []
        with self.theatre.store() as store:
            sync = Sync(store, Parking(store, Queue(self.sqs.client, "parked")))
            retry = Retry(store, Sync(store, Parking(store)), self.sync_queue, lambda first, _: first)
            while taken := self._take():
                name, entries = taken
                messages = messages_of({"Records": [entry.record for entry in entries]})
                if name == "sync":
                    failures = {each.message_id: str(each.error) for each in sync.process(messages)}
                else:
                    failures = dict.fromkeys(retry.process(messages), "left by retry")
                staying += [
                    (message.envelope, failures[message.message_id])
                    for message in messages
                    if message.message_id in failures and name == "sync"
                ]
                if not forgets:
                    gone = {entry for entry in entries if entry.record["messageId"] not in failures}
                    with self._lock:
                        self.queues[name].delete(gone)
        return staying

    def _take(self) -> tuple[QueueName, Sequence[Any]] | None:
        with self._lock:
            for name, each in self.queues.items():
                if entries := each.receive(self.world.now / 1000, BATCH_SIZE):
                    return name, entries
        return None

    @property
    def waiting(self) -> int:
        """The number of messages in the queues."""
        return sum(len(each.messages) for each in self.queues.values())

    # Reconcile

    def reconcile(self, store: Store, *, is_direct: bool) -> Reconcile:
        """A comparison of Clerk with the tables."""
        settings = ReconcileSettings(
            brake=BRAKE, threads=2, users_per_window=3, lease_seconds=30, delete_margin_ms=MARGIN_MS
        )
        repairs: Repairs = DirectRepairs() if is_direct else QueueRepairs(self.sync_queue)
        return Reconcile(self.theatre.http, Runs(store), repairs, settings, clock_ms=lambda: self.world.now)

    def deadline(self, seconds: float = math.inf) -> float:
        """A deadline in *seconds*, by the clock of a run."""
        return self.theatre.monotonic() + seconds


class _Sqs(SimulatedSqs):
    """A simulated SQS for several threads."""

    def __init__(self, clock: Callable[[], float], lock: threading.RLock) -> None:
        super().__init__(clock)
        self._lock = lock

    def send_message(self, **given: Any) -> None:
        """Sends as boto3 does, for a single thread at a time."""
        with self._lock:
            super().send_message(**given)
