"""The deployed template on the emulated AWS, beside a floor: two empty functions that only pass events on.

The emulator and the functions share this machine, so the rates say little about AWS. The floor shows the time of the
emulator, of boto3 and of two empty functions; the time above the floor is ours.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import psycopg

from clerk_supabase_cli.local.ministack import MiniStack
from clerk_supabase_cli.local.stack import LocalStack
from clerk_supabase_cli.standin import samples
from clerk_supabase_cli.standin.deliveries import SignedRequest, sign
from tests.bench.results import Result, Target, duration
from tests.kit.deployed_webhooks import redeliver_quickly
from tests.kit.polling import eventually

_TURNS: Final = 4
_CONNECTIONS: Final = 4
"""The number of the demo: each is one more worker process of the emulator."""
_PATIENCE_SECONDS: Final = 300.0
_FLOOR: Final = "floor"
_APPLIED: Final = (
    "select extract(epoch from applied_at - received_at) from clerk_sync.deliveries where svix_id = any(%s)"
)


@dataclass
class _Road:
    """A URL to post to, and how to find out how long each event took from there to its end."""

    url: str
    lags: Callable[[list[str]], list[float]]
    """Seconds from acceptance to arrival, for each of these ids that arrived."""
    seconds: float = 0.0
    accepted: int = 0
    all_lags: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Events accepted per second."""
        return self.accepted / self.seconds

    def percentile(self, percent: int) -> float:
        return statistics.quantiles(self.all_lags, n=100)[percent - 1]

    def travel(self, client: httpx.Client, requests: list[SignedRequest]) -> None:
        """Posts them all, and waits until the last has arrived."""
        ids = [request.headers["svix-id"] for request in requests]
        started = time.perf_counter()
        post(client, self.url, requests)
        self.seconds += time.perf_counter() - started
        self.accepted += len(requests)
        self.all_lags += _all_arrived(self.lags, ids)


def measure(root: Path, events: int) -> Iterator[Result]:
    """Measures events accepted per second, the lag until they are rows, and an outage."""
    with LocalStack(root) as stack, httpx.Client(timeout=60, trust_env=False) as client:
        requests = _requests(stack)
        ours, floor = _Road(stack.webhook_url, _lags(stack)), _deploy_floor(stack.ministack)
        warm = [next(requests) for _ in range(20)]
        for pipeline in (ours, floor):
            pipeline.travel(client, warm)
            pipeline.seconds, pipeline.accepted, pipeline.all_lags = 0.0, 0, []
        for turn in range(_TURNS):
            size = (turn + 1) * events // _TURNS - turn * events // _TURNS
            for pipeline in (floor, ours):
                pipeline.travel(client, [next(requests) for _ in range(size)])
        yield from _compared(ours, floor)
        yield _through_an_outage(stack, client, [next(requests) for _ in range(events)])


def post(client: httpx.Client, url: str, requests: list[SignedRequest]) -> None:
    """Posts as Clerk does, over several connections; every event has to be accepted."""

    def answer(request: SignedRequest) -> int:
        return client.post(url, content=request.body, headers=dict(request.headers)).status_code

    with ThreadPoolExecutor(_CONNECTIONS) as pool:
        assert set(pool.map(answer, requests)) == {202}


def _all_arrived(lags: Callable[[list[str]], list[float]], ids: list[str]) -> list[float]:
    def look() -> list[float]:
        return lags(ids)

    return eventually(look, lambda found: len(found) == len(ids), seconds=_PATIENCE_SECONDS)


def _compared(ours: _Road, floor: _Road) -> Iterator[Result]:
    who = "MiniStack and empty functions"
    yield Result(
        f"accepted per second, {ours.accepted} events over {_CONNECTIONS} connections",
        f"{who}: {floor.rate:.1f}/s",
        f"{ours.rate:.1f}/s",
        100 * ours.rate / floor.rate,
        "%",
    )
    for percent in (50, 99):
        one, other = floor.percentile(percent), ours.percentile(percent)
        yield Result(
            f"lag from acceptance to row, p{percent}",
            f"{who}: {duration(one)}",
            duration(other),
            1e3 * (other - one),
            "ms are ours",
        )


def _through_an_outage(stack: LocalStack, client: httpx.Client, requests: list[SignedRequest]) -> Result:
    """Stops Postgres while events are posted; SQS delivers again after two seconds instead of minutes."""
    redeliver_quickly(stack)
    ids = [request.headers["svix-id"] for request in requests]
    stack.postgres.stop()
    try:
        post(client, stack.webhook_url, requests)
    finally:
        stack.postgres.start()
    started = time.perf_counter()
    _all_arrived(_lags(stack), ids)
    seconds = time.perf_counter() - started
    with psycopg.connect(stack.database_url) as database:
        parked = database.execute("select from clerk_sync.parked_events where svix_id = any(%s)", [ids]).rowcount
    return Result(
        f"{len(ids)} events through an outage of the deployed stack",
        "",
        f"{len(ids)} applied within {seconds:.0f} s after it",
        parked,
        "parked",
        Target(0),
    )


def _requests(stack: LocalStack) -> Iterator[SignedRequest]:
    """Sign-ups, a user each, signed at the moment of use."""
    for number in itertools.count():
        now = time.time_ns() // 1_000_000
        user = samples.user(f"user_{number:027}", created_at=now, updated_at=now)
        yield sign(samples.event("user.created", user, timestamp=now), stack.webhook_secret)


def _lags(stack: LocalStack) -> Callable[[list[str]], list[float]]:
    def lags(ids: list[str]) -> list[float]:
        with psycopg.connect(stack.database_url) as database:
            return [float(seconds) for (seconds,) in database.execute(_APPLIED, [ids])]

    return lags


def _deploy_floor(ministack: MiniStack) -> _Road:
    stacks: Any = ministack.client("cloudformation")
    stacks.create_stack(
        StackName=_FLOOR,
        TemplateBody=Path(__file__).with_name("floor.yaml").read_text(encoding="utf-8"),
        Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
    )
    stacks.get_waiter("stack_create_complete").wait(StackName=_FLOOR, WaiterConfig={"Delay": 1})
    ministack.repair_event_sources()
    [described] = stacks.describe_stacks(StackName=_FLOOR)["Stacks"]
    [api] = [output["OutputValue"] for output in described["Outputs"]]
    seen = 0

    def lags(ids: list[str]) -> list[float]:
        nonlocal seen
        lines = [line.split() for line in ministack.function_log("floor-consume")]
        told = [float(words[1]) for words in lines if words[:1] == ["lag"]]
        if len(told) - seen < len(ids):
            return []
        new, seen = told[seen:], len(told)
        return new

    return _Road(f"{ministack.endpoint}/_aws/execute-api/{api}/{_FLOOR}/webhooks", lags)
