"""Events that arrive while Postgres is unavailable for an hour: are all of them applied, and how fast afterwards?

The handlers are the real ones, and a real Postgres is stopped; the queues behave like SQS, on a clock that skips every
wait. So the rate is the rate of the work: an outage adds the retry function, which every event passes as well. All
events can be received when the drain begins, as without an outage.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from samtranslator.yaml_helper import yaml_parse  # type: ignore[import-untyped]

from clerk_supabase_cli.simulator.sqs import SimulatedQueue, SimulatedSqs
from clerk_supabase_cli.standin import samples
from clerk_supabase_cli.standin.deliveries import api_gateway_event, generate_secret, sign
from tests.bench.databases import databases
from tests.bench.functions import Functions, running
from tests.bench.results import Result, Target
from tests.kit.clock import Clock
from tests.kit.databases import Database, value
from tests.kit.environments import environment_of

_TURNS: Final = 2
_HOUR: Final = 3600.0
_STEPS: Final = 100
_LONGEST_BACKOFF: Final = 5.0
"""Of a first attempt, in seconds."""
_SYNC, _DEAD, _PARKED = (f"https://sqs.example.test/{name}" for name in ("sync", "dead", "parked"))
_MAXIMUM_CONCURRENCY: Final = {"ingest": 2, "sync": 5, "retry": 2}
"""The defaults of template.yaml; ingest has no limit there, and two processes are enough."""


@dataclass
class _Drain:
    """The result of one turn."""

    retry: float
    """Seconds by the clock of the wall, without waits, until no dead letter is left."""
    sync: float
    """Then until no message is left at all."""
    dead: int
    """Number of dead letters."""

    @property
    def seconds(self) -> float:
        """The time of the slower function: on Lambda both have processors of their own and work side by side."""
        return max(self.retry, self.sync)


def measure(root: Path, events: int) -> Iterator[Result]:
    """Measures the same number of events without an outage and through an outage, in turns, by the same workers."""
    with ExitStack() as undo:
        made = undo.enter_context(databases(root))
        database = made.take()
        clock = Clock()
        sqs = SimulatedSqs(clock)
        sqs.queues |= _queues(root)
        secret = generate_secret()
        settings = environment_of(
            *("ingest", "sync", "retry"),
            WEBHOOK_SECRET_ARN="webhook",
            DATABASE_SECRET_ARN="database",
            SYNC_QUEUE_URL=_SYNC,
            PARKED_QUEUE_URL=_PARKED,
        )
        secrets = {"webhook": secret, "database": database.worker_url}
        queues = {"ingest": "", "sync": _SYNC, "retry": _DEAD}
        workers = {name: (url, _MAXIMUM_CONCURRENCY[name]) for name, url in queues.items()}
        functions = undo.enter_context(running(root, sqs, clock, secrets=secrets, settings=settings, functions=workers))
        longest_wait = max(queue.visibility_timeout for queue in sqs.queues.values())
        bundle = _Bundle(functions, sqs, database, clock, secret, longest_wait)
        bundle.post(max(100, events // 10))
        bundle.drain()
        turns = [(bundle.without_outage(events), bundle.through_an_outage(events)) for _ in range(_TURNS)]
        yield from _results(bundle, events, turns)


def _queues(root: Path) -> dict[str, SimulatedQueue]:
    """With the times of the template."""
    resources = yaml_parse((root / "template.yaml").read_text(encoding="utf-8"))["Resources"]
    properties = {name: resources[name]["Properties"] for name in ("SyncQueue", "SyncDeadLetterQueue", "ParkedQueue")}
    dead = SimulatedQueue(properties["SyncDeadLetterQueue"]["VisibilityTimeout"])
    sync = properties["SyncQueue"]
    return {
        _SYNC: SimulatedQueue(sync["VisibilityTimeout"], dead, sync["RedrivePolicy"]["maxReceiveCount"]),
        _DEAD: dead,
        _PARKED: SimulatedQueue(properties["ParkedQueue"]["VisibilityTimeout"]),
    }


@dataclass
class _Bundle:
    """The functions, and Clerk in front of them."""

    functions: Functions
    sqs: SimulatedSqs
    database: Database
    clock: Clock
    secret: str
    longest_wait: float
    """Seconds until a message that was received and not deleted is received again."""
    posted: int = 0
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def post(self, many: int) -> None:
        """Posts sign-ups, a user each; every event is accepted."""
        answers = self.functions.call("ingest", [self._request() for _ in range(many)])
        assert [answer["statusCode"] for answer in answers] == [202] * many
        self.posted += many

    def without_outage(self, events: int) -> _Drain:
        """All of them wait in the queue when the workers begin."""
        self.post(events)
        return self.drain()

    def through_an_outage(self, events: int) -> _Drain:
        """Posts the events evenly, within an hour without Postgres."""
        server = self.database.server
        server.stop()
        try:
            for step in range(_STEPS):
                self.post((step + 1) * events // _STEPS - step * events // _STEPS)
                self.functions.work(_HOUR / _STEPS)
        finally:
            server.start()
        # Then all can be received at once, so that work limits the drain and not how the waits happen to be spread.
        self.clock.now += self.longest_wait
        return self.drain()

    def drain(self) -> _Drain:
        """Until no message is left."""
        dead = len(self.sqs.queues[_DEAD].messages)
        retry = self._seconds("retry")
        self.clock.now += _LONGEST_BACKOFF
        return _Drain(retry, self._seconds("sync", "retry"), dead)

    def _seconds(self, *functions: str) -> float:
        started = time.perf_counter()
        self.functions.work(24 * _HOUR, functions)
        return time.perf_counter() - started

    def _request(self) -> dict[str, Any]:
        number, now = next(self._numbers), time.time_ns() // 1_000_000
        user = samples.user(f"user_{number:027}", created_at=now, updated_at=now)
        request = sign(samples.event("user.created", user, timestamp=now), self.secret, svix_id=f"msg_{number:027}")
        return api_gateway_event(request)


def _results(bundle: _Bundle, events: int, turns: list[tuple[_Drain, _Drain]]) -> Iterator[Result]:
    with bundle.database.connect() as admin:
        once = value(admin, "select count(*) from clerk_sync.deliveries where outcome = 'created'")
        written = value(admin, "select count(*) from clerk_sync.audit_log")
        parked = value(admin, "select count(*) from clerk_sync.parked_events")
    lost = bundle.posted - once - parked
    through = _TURNS * events
    yield Result(
        f"{through:,} events through {_TURNS} outages of an hour",
        f"as many without: {bundle.posted - through:,}",
        f"{lost} lost, {parked} parked, {written - once} written twice",
        lost + parked + written - once,
        "events",
        Target(0),
    )
    without = min((drain for drain, _ in turns), key=lambda drain: drain.seconds)
    after = min((drain for _, drain in turns), key=lambda drain: drain.seconds)
    of_turns = [100 * one.seconds / other.seconds for one, other in turns]
    workers = f"{_MAXIMUM_CONCURRENCY['sync']} of sync, {_MAXIMUM_CONCURRENCY['retry']} of retry"
    yield Result(
        f"drain of {events:,} events after it, waits skipped",
        f"without an outage: {events / without.seconds:,.0f} events/s",
        f"{events / after.seconds:,.0f} events/s",
        100 * without.seconds / after.seconds,
        "%",
        Target(80, at_least=True),
        spread=(min(of_turns), max(of_turns)),
        details=(
            f"workers: {workers}; turns without: " + ", ".join(f"{drain.sync:.1f} s" for drain, _ in turns),
            "turns after, each function by itself as on Lambda: "
            + ", ".join(f"retry {drain.retry:.1f} s for {drain.dead:,}, sync {drain.sync:.1f} s" for _, drain in turns),
            (
                "skipped: the visibility timeout of a message's last delivery, 180 s in the sync queue and 360 s in "
                "the dead letters, and up to 5 s of backoff"
            ),
        ),
    )
