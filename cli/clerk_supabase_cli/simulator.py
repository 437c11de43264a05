"""Whatever order, however often, however many at once, with crashes in between: do the tables end the same?

Many random schedules run at the same time in one database, each with users of its own, and several workers take turns
at their batches. Afterwards every row must equal that of a second database, which got each event once, alone and in
the order in which things happened; and what Clerk's clock says is newest must have won.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import chain, zip_longest
from random import Random
from typing import Any, Final, Protocol, Self

import psycopg
from aws_lambda_powertools.metrics.provider.cloudwatch_emf.cloudwatch import AmazonCloudWatchEMFProvider
from psycopg import sql

from clerk_supabase.changes import Change, Changes, Delete, Delivery, changes_of
from clerk_supabase.clerk_object import Columns
from clerk_supabase.envelope import Envelope, ParkedEvent
from clerk_supabase.errors import ClerkSupabaseError
from clerk_supabase.events import parse_event
from clerk_supabase.kinds import Kind
from clerk_supabase.parking import Parking
from clerk_supabase.queue import Message
from clerk_supabase.store import Store
from clerk_supabase.sync import Sync
from clerk_supabase.telemetry import logger, metrics
from clerk_supabase_cli.schedules import Batch, Fate, Schedule, interleave, random_schedule
from clerk_supabase_cli.shrinking import shrink

WORKERS: Final = 6
_WORKER_ROLE: Final = "clerk_sync_worker"
_AT_ONCE: Final = 50
_MOST_ATTEMPTS: Final = 20

# Where the rows of each kind are, and what names them.
_TABLES: Final[Mapping[Kind, tuple[str, str]]] = {
    "user": ("public.users", "clerk_id"),
    "organization": ("public.organizations", "clerk_org_id"),
    "membership": ("public.organization_memberships", "clerk_membership_id"),
    "invitation": ("public.organization_invitations", "clerk_invitation_id"),
    "domain": ("public.organization_domains", "clerk_domain_id"),
    "private_metadata": ("clerk_sync.private_metadata", "entity_id"),
}
# The columns of a row that name its parents.
_PARENTS: Final[Mapping[str, Kind]] = {"clerk_org_id": "organization", "clerk_user_id": "user"}
_STATE: Final = "\nunion all\n".join(
    f"""
    select kind, id, (version).source_updated_at, (version).observed_at, entities.deleted_at, to_jsonb(mirror)
    from clerk_sync.entities left join {table} as mirror on id = {key}
    where kind = '{kind}' and id = any(%(ids)s)
    """  # noqa: S608 - names from the table above
    for kind, (table, key) in _TABLES.items()
)
# Everything but what must differ: the outcome of a delivery and our own clock tell how it went, not how it ended.
_ROWS: Final = "\nunion all\n".join(
    [
        "select 'entities', kind || ' ' || id, entities::text from clerk_sync.entities where id = any(%(ids)s)",
        "select 'users_public', clerk_id, users_public::text from public.users_public where clerk_id = any(%(ids)s)",
        """
        select 'deliveries', svix_id, (event_type, kind, entity_id, occurred_at, received_at)::text
        from clerk_sync.deliveries where svix_id = any(%(svix_ids)s)
        """,
        *(
            f"select '{table}', {key}, {table.split('.')[1]}::text from {table} where {key} = any(%(ids)s)"  # noqa: S608 - as above
            for table, key in _TABLES.values()
        ),
    ]
)
_CUT_ONE_OFF: Final = """
select pg_terminate_backend(pid) from pg_stat_activity
where datname = current_database() and usename = %s and state = 'active'
order by random() limit 1
"""


History = Sequence[tuple[Changes, Delivery]]


class _Closable(Protocol):
    def close(self) -> None: ...


class Database(Protocol):
    """A migrated database: the superuser's way in, and that of the role which may only apply changes."""

    @property
    def url(self) -> str: ...
    @property
    def worker_url(self) -> str: ...


_SESSIONS: Final = "select from pg_stat_activity where datname = current_database() and usename = %s"
_DEADLOCKS: Final = "select deadlocks from pg_stat_database where datname = current_database()"


@dataclass(slots=True)
class Report:
    """What was tried, and what did not end as it should."""

    schedules: int = 0
    batches: int = 0
    deliveries: int = 0
    redelivered_batches: int = 0
    connections_cut: int = 0
    deadlocks: int = 0
    seconds: float = 0.0
    differences: list[str] = field(default_factory=list)
    failed_from: int | None = None
    """Number of the first schedule of the round that differed."""
    smallest: tuple[Message, ...] = ()
    """The fewest messages of a schedule that differ by themselves, one worker, one after the other."""


def explore(
    tried: Database,
    reference: Database,
    *,
    schedules: int,
    seed: int | str,
    first: int = 0,
    progress: Callable[[Report], object] = lambda _: None,
) -> Report:
    """Runs the random schedules from number *first* on against *tried*, and each event once, in order, against
    *reference*.

    Stops after the round that shows the first difference. Neither database may know the schedules' users yet.
    """
    started = time.monotonic()
    report = Report()
    deadlocks_before = count_deadlocks(tried)
    with (
        silent_telemetry(),
        deadlocks_found_early(tried),
        closing(_Experiment(tried, reference, report)) as experiment,
    ):
        for start in range(first, first + schedules, _AT_ONCE):
            numbers = range(start, min(start + _AT_ONCE, first + schedules))
            chance = Random(f"{seed} {start}")  # noqa: S311 - to be repeated, not to be secret
            schedules_of_round = [random_schedule(seed, number) for number in numbers]
            experiment.round(schedules_of_round, chance)
            report.seconds = time.monotonic() - started
            progress(report)
            if report.differences:
                report.failed_from = start
                report.smallest = experiment.smallest(schedules_of_round)
                break
    report.deadlocks = count_deadlocks(tried) - deadlocks_before
    return report


class _Experiment:
    """The connections and threads of one exploration."""

    def __init__(self, tried: Database, reference: Database, report: Report) -> None:
        self._report = report
        self._onlookers = [psycopg.connect(database.url, autocommit=True) for database in (tried, reference)]
        self._reference = Store(_Fixed(reference.worker_url))
        self._stores = [Store(_Fixed(tried.worker_url)) for _ in range(WORKERS)]
        self._parking = _NoParking()
        self._scissors = _Scissors(tried.url)
        self._threads = ThreadPoolExecutor(WORKERS)

    def close(self) -> None:
        self._threads.shutdown()
        closing_last: Sequence[_Closable] = (self._scissors, self._reference, *self._stores, *self._onlookers)
        for each in closing_last:
            each.close()

    def round(self, schedules: Sequence[Schedule], chance: Random) -> None:
        """Runs these schedules at the same time and compares how they ended."""
        keep_private_metadata = chance.random() < 0.5
        histories = [
            [_read(envelope, keep_private_metadata) for envelope in schedule.delivered] for schedule in schedules
        ]
        self._apply_in_order(histories)
        line = _Line(interleave(chance, schedules), chance)
        workers = chance.choice((1, 2, 4, WORKERS, WORKERS, WORKERS))
        stores = self._stores[:workers]
        for task in [self._threads.submit(self._work, store, line, keep_private_metadata) for store in stores]:
            task.result()
        self._report.schedules += len(schedules)
        self._report.batches += line.batches
        self._report.deliveries += line.deliveries
        self._report.redelivered_batches += line.redelivered_batches
        self._report.connections_cut = self._scissors.cuts
        self._report.differences += [
            *line.stuck,
            *self._parking.taken(),
            *self._differences(histories),
            *self._untrue(schedules),
        ]

    def smallest(self, schedules: Sequence[Schedule]) -> tuple[Message, ...]:
        """Out of these, the first schedule that ends wrong by itself, shrunk; nothing if all need company."""
        for schedule in schedules:
            is_named = any(schedule.world.name in difference for difference in self._report.differences)
            if is_named and (messages := shrink(schedule, self._ends_wrong)):
                return messages
        return ()

    def _ends_wrong(self, schedule: Schedule) -> bool:
        history = [_read(envelope, keep_private_metadata=False) for envelope in schedule.delivered]
        self._apply_in_order([history])
        line = _Line(schedule.batches, Random(0))  # noqa: S311 - to be repeated, not to be secret
        self._work(self._stores[0], line, keep_private_metadata=False)
        return bool(line.stuck or self._parking.taken()) or any(True for _ in self._differences([history]))

    def _apply_in_order(self, histories: Iterable[History]) -> None:
        # The n-th event of every world together: no batch has two events of a world.
        for events in zip_longest(*histories):
            self._reference.apply([event for event in events if event])

    def _work(self, store: Store, line: _Line, keep_private_metadata: bool) -> None:
        sync = Sync(store, self._parking, keep_private_metadata=keep_private_metadata)
        while batch := line.take():
            if batch.fate is Fate.cut_off:
                self._scissors.cut()
            failed = {failure.message_id for failure in sync.process(batch.messages)}
            if batch.fate is Fate.forgotten:
                line.put_back(batch.messages)
            elif failed:
                line.put_back([message for message in batch.messages if message.message_id in failed])

    def _differences(self, histories: Sequence[History]) -> Iterator[str]:
        """Between the two databases, and between the tried one and Clerk's clock."""
        truths = _truths(chain.from_iterable(histories))
        keys = {
            "ids": [truth.id for truth in truths.values()],
            "svix_ids": [delivery.svix_id for _, delivery in chain.from_iterable(histories)],
        }
        found, wanted = ({row[:2]: row[2] for row in each.execute(_ROWS, keys)} for each in self._onlookers)
        for place in sorted(found.keys() | wanted.keys()):
            if found.get(place) != wanted.get(place):
                yield f"{' '.join(place)}: {found.get(place)}, but applied in order: {wanted.get(place)}"
        states = {row[:2]: row[2:] for row in self._onlookers[0].execute(_STATE, keys)}
        for place, truth in truths.items():
            state = states.get(place)
            if state is None or not truth.agrees(state, truths):
                yield f"{' '.join(place)}: {state}, but by Clerk's clock: {truth}"

    def _untrue(self, schedules: Sequence[Schedule]) -> Iterator[str]:
        """Where the tables do not show what exists in worlds all of whose events arrived."""
        for schedule in schedules:
            if schedule.is_complete:
                for kind, objects in schedule.world.objects().items():
                    table, key = _TABLES[kind]
                    query = f"select {key} from {table} where {key} like %s and deleted_at is null"  # noqa: S608 - as above
                    shown = {row[0] for row in self._onlookers[0].execute(query, [f"%\\_{schedule.world.name}x%"])}
                    if shown != objects.keys():
                        yield f"world {schedule.world.name}: {table} shows {sorted(shown)}, not {sorted(objects)}"


Place = tuple[Kind, str]


@dataclass(frozen=True, slots=True)
class _Truth:
    """What must be known of an entity in the end: the newest content by Clerk's clock, and the earliest delete."""

    id: str
    version: tuple[int, int]
    contents: tuple[Columns, ...]
    """Those of the newest version; any of them, when there are several."""
    deleted_at: int | None

    @classmethod
    def of(cls, changes: Sequence[Change]) -> Self:
        """The truth about the one entity these changes are about."""
        deletes = [change.deleted_at for change in changes if isinstance(change, Delete)]
        upserts = [change for change in changes if not isinstance(change, Delete)]
        versions = [(change.version.source_updated_at, change.version.observed_at) for change in upserts]
        newest = max(versions, default=(-1, -1))
        contents = tuple(change.content for change, version in zip(upserts, versions, strict=True) if version == newest)
        return cls(changes[0].id, newest, contents, min(deletes, default=None))

    def agrees(self, state: Sequence[Any], truths: Mapping[Place, _Truth]) -> bool:
        """Whether this is what the database holds: the entity's version and delete, and the row."""
        source_updated_at, observed_at, deleted_at, row = state
        if (source_updated_at, observed_at) != self.version or deleted_at != self.deleted_at:
            return False
        if row is None:
            return not self.contents
        hidden = row["deleted_at"] is not None
        return hidden == self._is_hidden(row, truths) and any(_mirrors(row, content) for content in self.contents)

    def _is_hidden(self, row: Columns, truths: Mapping[Place, _Truth]) -> bool:
        """A row is hidden by its own delete and by those of its parents."""
        named = [(kind, row.get(column)) for column, kind in _PARENTS.items()]
        parents = [truths[kind, parent_id] for kind, parent_id in named if parent_id not in (None, self.id)]
        return any(truth.deleted_at is not None for truth in (self, *parents))


def _truths(history: Iterable[tuple[Changes, Delivery]]) -> dict[Place, _Truth]:
    by_place: defaultdict[Place, list[Change]] = defaultdict(list)
    for changes, _ in history:
        for change in (changes.main, *changes.companions):
            by_place[change.kind, change.id].append(change)
    return {place: _Truth.of(changes) for place, changes in by_place.items()}


def _mirrors(row: Columns, content: Columns) -> bool:
    # Times are spelled differently by Postgres; the reference's rows have been compared with them included.
    return all(row[name] == value for name, value in content.items() if not name.endswith("_at"))


class _Line:
    """The batches that wait for a worker, and what comes back."""

    def __init__(self, batches: Iterable[Batch], chance: Random) -> None:
        self._waiting = deque(batches)
        self._chance = chance
        self._lock = threading.Lock()
        self._attempts: Counter[str] = Counter()
        self.batches = 0
        self.deliveries = 0
        self.redelivered_batches = 0
        self.stuck: list[str] = []

    def take(self) -> Batch | None:
        """The next batch, until none is left."""
        with self._lock:
            if not self._waiting:
                return None
            batch = self._waiting.popleft()
            self.batches += 1
            self.deliveries += len(batch.messages)
            return batch

    def put_back(self, messages: Sequence[Message]) -> None:
        """These were not acknowledged, and come again: at once, or when everything else is done."""
        with self._lock:
            self._attempts.update(message.message_id for message in messages)
            stuck = [each for each in messages if self._attempts[each.message_id] == _MOST_ATTEMPTS]
            self.stuck += [f"{message.message_id}: never applied" for message in stuck]
            if not stuck:
                self.redelivered_batches += 1
                put = self._chance.choice((self._waiting.append, self._waiting.appendleft))
                put(Batch(tuple(messages)))


class _Scissors:
    """Cuts the connection of a worker that is just waiting for Postgres."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url, autocommit=True)
        self._wanted = threading.Semaphore(0)
        self._closed = False
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        self.cuts = 0

    def cut(self) -> None:
        """One connection, in a moment."""
        self._wanted.release()

    def close(self) -> None:
        self._closed = True
        self._wanted.release()
        self._thread.join()
        self._connection.close()

    def _run(self) -> None:
        while self._wanted.acquire() and not self._closed:
            self.cuts += len(self._connection.execute(_CUT_ONE_OFF, [_WORKER_ROLE]).fetchall())


class _NoParking(Parking):
    """Nothing of a schedule may ever be parked."""

    def __init__(self) -> None:
        self._reasons: list[str] = []

    def park(
        self,
        events: Sequence[ParkedEvent],
        *,
        table_is_away: bool = False,  # noqa: ARG002 - as its base
    ) -> list[ClerkSupabaseError | None]:
        self._reasons += [f"{event.envelope.svix_id}: parked: {event.reason}" for event in events]
        return [None] * len(events)

    def taken(self) -> list[str]:
        """What was parked since the last look."""
        reasons, self._reasons = self._reasons, []
        return reasons


@dataclass(frozen=True, slots=True)
class _Fixed:
    """A connection string that never changes."""

    url: str

    def value(self) -> str:
        return self.url

    def changed(self) -> bool:
        return False


class _NoCounters(AmazonCloudWatchEMFProvider):
    """Counters belong to a process, which in Lambda has one thread."""

    def add_metric(self, name: str, *_: object, **__: object) -> None:
        pass


@contextmanager
def silent_telemetry() -> Iterator[None]:
    """Nothing is logged or counted while the `with` block lasts."""
    level, provider = logger.log_level, metrics.provider
    logger.setLevel("CRITICAL")
    metrics.provider = _NoCounters()
    try:
        yield
    finally:
        logger.setLevel(level)
        metrics.provider = provider


def _read(envelope: Envelope, keep_private_metadata: bool) -> tuple[Changes, Delivery]:
    event = parse_event(envelope.body)
    changes = changes_of(event, envelope.received_at, keep_private_metadata=keep_private_metadata)
    return changes, Delivery(envelope.svix_id, event.type, envelope.received_at)


@contextmanager
def deadlocks_found_early(database: Database) -> Iterator[None]:
    """Sessions that lock each other out wait for a second by default, which would only slow a search down."""
    with psycopg.connect(database.url, autocommit=True) as connection:
        alter = sql.SQL("alter database {}").format(sql.Identifier(connection.info.dbname))
        connection.execute(alter + sql.SQL(" set deadlock_timeout = '20ms'"))
        yield
        connection.execute(alter + sql.SQL(" reset deadlock_timeout"))


def count_deadlocks(database: Database) -> int:
    """How many there have ever been, once every worker has closed its connection."""
    wait_for_workers(database)
    with psycopg.connect(database.url) as connection:
        [(deadlocks,)] = connection.execute(_DEADLOCKS).fetchall()
    return int(deadlocks)


def wait_for_workers(database: Database) -> None:
    """Until all their sessions are over: a session reports its statistics at its end."""
    deadline = time.monotonic() + 10
    with psycopg.connect(database.url, autocommit=True) as connection:
        while connection.execute(_SESSIONS, [_WORKER_ROLE]).fetchall():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{_WORKER_ROLE} is still connected")
            time.sleep(0.01)
