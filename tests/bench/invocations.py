"""The billed parts of the real handlers on Lambda: processor time, time waiting for Postgres, the log.

Only the network and its encryption are missing: AWS is answered by another process, and Postgres runs on this machine.
"""

from __future__ import annotations

import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Final

from clerk_supabase_cli.local.processes import Guard
from clerk_supabase_cli.simulator.sqs import record
from clerk_supabase_cli.standin import samples
from clerk_supabase_cli.standin.deliveries import api_gateway_event, generate_secret, sign
from tests.bench.aws import aws
from tests.bench.databases import databases
from tests.bench.ingest import google_accounts
from tests.bench.reconcile import _filled_and_compared
from tests.bench.results import Result
from tests.kit.environments import environment_of

_USERS: Final = 10_000
_EVENTS: Final = 600
_BATCH: Final = 10
_ARN: Final = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:of-the-benchmark"
_QUEUES: Final = {
    "SYNC_QUEUE_URL": "https://sqs.example.test/sync",
    "PARKED_QUEUE_URL": "https://sqs.example.test/parked",
}


@dataclass(frozen=True)
class _Invocations:
    """Figures of many invocations: the times of the fastest tenth, and the mean length of the log.

    Other work of the machine makes times longer, never shorter.
    """

    cpu_ms: float
    waited_ms: float
    """For AWS and Postgres."""
    log_bytes: float
    sent: list[dict[str, Any]]


def measure(root: Path) -> Iterator[Result]:
    """Webhooks as a busy instance sends them, each through ingest, then through sync alone and in batches of ten."""
    secret = generate_secret()
    bodies = list(itertools.islice(_bodies(secret), _EVENTS))
    ingest = _invoked(root, "ingest", bodies, secret, {"WEBHOOK_SECRET_ARN": _ARN})
    yield Result("event, size", "", "", statistics.mean(len(each["body"]) for each in bodies), "bytes")
    yield Result("ingest, CPU", "", "", ingest.cpu_ms, "ms")
    yield Result("ingest, log", "", "", ingest.log_bytes, "bytes")
    messages = [
        record(str(number), each["MessageBody"], **{k: v["StringValue"] for k, v in each["MessageAttributes"].items()})
        for number, each in enumerate(ingest.sent)
    ]
    with databases(root) as made, Guard() as guard:
        for size in (1, _BATCH):
            batches = [{"Records": messages[at : at + size]} for at in range(0, len(messages), size)]
            sync = _invoked(root, "sync", batches, made.take().worker_url, {"DATABASE_SECRET_ARN": _ARN})
            yield from _of_sync(f"sync, batch of {size}", sync)
        run = _filled_and_compared(made.take(), guard, _USERS)
        yield Result("reconcile, CPU of a user", "", "", 1e6 * run.cpu_seconds / _USERS, "us")
        yield Result("reconcile, requests", "", "", 1e6 * run.calls / _USERS, "per million users")


def _of_sync(name: str, invocations: _Invocations) -> Iterator[Result]:
    yield Result(f"{name}, CPU", "", "", invocations.cpu_ms, "ms")
    yield Result(f"{name}, waited for Postgres here", "", "", invocations.waited_ms, "ms")
    yield Result(f"{name}, log", "", "", invocations.log_bytes, "bytes")


def _bodies(secret: str) -> Iterator[dict[str, Any]]:
    """Bodies, signed now: a quarter are sign-ups, the others are by turns sign-ins or edits."""
    chance, users = Random(1), itertools.count()
    known: list[str] = []
    for number in itertools.count():
        now = time.time_ns() // 1_000_000 + number
        kind = "user.updated"
        if not known or chance.random() < 0.25:
            known.append(f"user_{next(users):027}")
            kind = "user.created"
        user = samples.user(
            chance.choice(known) if kind == "user.updated" else known[-1],
            created_at=now - 1_000,
            updated_at=now,
            public_metadata={"revision": number // 2},
            external_accounts=google_accounts(),
        )
        yield api_gateway_event(sign(samples.event(kind, user, timestamp=now), secret))


def _invoked(
    root: Path, function: str, events: Sequence[Mapping[str, Any]], secret: str, settings: Mapping[str, str]
) -> _Invocations:
    """In a process of its own, whose log goes to a file."""
    with tempfile.TemporaryDirectory() as name, aws({_ARN: secret}) as made:
        folder = Path(name)
        (folder / "events.json").write_text(json.dumps(events), encoding="utf-8")
        handler = root / "functions" / function / "handler.py"
        with (folder / "log").open("wb") as log:
            subprocess.run(
                [sys.executable, "-m", "tests.bench.invocations_child", str(handler), str(folder)],
                env=made.environment
                | environment_of(function, **_QUEUES, **settings)
                | {"PYTHONPATH": str(root), "PATH": ""},
                stdout=log,
                check=True,
            )
        told = json.loads((folder / "told.json").read_text(encoding="utf-8"))
    return _Invocations(
        cpu_ms=1e3 * statistics.quantiles(told["cpu_seconds"], n=10)[0],
        waited_ms=1e3 * statistics.quantiles(told["waited_seconds"], n=10)[0],
        log_bytes=told["log_bytes"] / len(told["cpu_seconds"]),
        sent=made.messages(),
    )
