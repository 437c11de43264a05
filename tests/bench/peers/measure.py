"""This project beside its peers, in one run on the same Postgres, in turns: a pasted handler in Python and in Node, the
published package of Stripe's sync engine, a back-fill that upserts page by page, and COPY as the limit.

Every peer is a process of its own. CPU is that of the process and of Postgres together.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Final

from clerk_supabase_cli.standin import samples
from clerk_supabase_cli.standin.deliveries import generate_secret, sign
from tests.bench.aws import Aws, aws
from tests.bench.databases import databases
from tests.bench.ingest import google_accounts
from tests.bench.peers import back_fill
from tests.bench.peers.postgres_cpu import PostgresCpu
from tests.bench.results import Result
from tests.bench.turns import Turns, gain
from tests.kit.databases import Databases, at_port
from tests.kit.proxy import CountingProxy

_HERE: Final = Path(__file__).parent
_WARM_TURNS: Final = 2
_EVENTS: Final = 50
_ROUND_TRIP_SECONDS: Final = 0.005
_FASTER: Final = 4.0
_LESS_CPU: Final = 1.5


@dataclass(frozen=True)
class Spent:
    """The time of one turn, by the clock and of the processor."""

    seconds: float
    cpu_seconds: float
    """Of the process and of Postgres."""


@dataclass(frozen=True)
class _Row:
    """A pasted handler, and the way of ours that does as much."""

    name: str
    way: str
    ours: str = "ours"
    how: str = ""
    is_node: bool = False
    link: float = 0.0
    has_aim: bool = False


_SENDING: Final = ", SQS sending included"
_ROWS: Final = (
    _Row("Python, svix and psycopg, careful", "careful", has_aim=True),
    _Row("Python, svix, boto3 and psycopg", "queue", "ours-sending", _SENDING, has_aim=True),
    _Row("Python, svix and psycopg, one upsert", "plain"),
    _Row("Node, svix and pg, careful", "careful", is_node=True),
    _Row("Node, svix, AWS SDK and pg", "queue", "ours-sending", _SENDING, is_node=True),
    _Row("Node, svix and pg, one upsert", "plain", is_node=True),
    _Row("Python, svix and psycopg, careful", "careful", how=", 5 ms link", link=_ROUND_TRIP_SECONDS, has_aim=True),
)


@dataclass
class Peer:
    """A process that takes turns."""

    process: subprocess.Popen[str]
    postgres: PostgresCpu

    def turn(self, told: str) -> Spent:
        """Sends a line, waits for the answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        before = self.postgres.seconds()
        print(told, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{self.process.args!r} ended with {self.process.wait()}")
        spent = json.loads(answer)
        return Spent(spent["seconds"], spent["cpu_seconds"] + self.postgres.seconds() - before)


@dataclass
class Bench:
    """A place where peers run."""

    root: Path
    folder: Path
    made: Databases
    aws: Aws
    secret: str
    undo: ExitStack
    turns: int
    """The turns of one pair; a back-fill takes half as many."""

    def python(self, way: str, *, ours: bool = False, link: float = 0.0) -> Peer:
        """A peer in Python on a database of its own."""
        command = [sys.executable, "-m", "tests.bench.peers.python_child", way]
        return self._started(command, self.database(link, ours=ours), {"PYTHONPATH": str(self.root)})

    def node(self, script: str, way: str, *, secret: str = "", port: int = 0, link: float = 0.0) -> Peer:
        """A peer in Node on a database of its own."""
        copied = shutil.copy(_HERE / script, self.root / ".tools" / "peers")
        url = self.database(link, ours=False)
        return self._started(["node", str(copied), way], url, {}, secret=secret, port=port)

    def database(self, link: float, *, ours: bool) -> str:
        """The address of a new database; of ours, for the worker. `link`: the round trip to it, in seconds."""
        database = self.made.take()
        if not ours:
            with database.connect() as admin:
                admin.execute((_HERE / "tables.sql").read_text(encoding="utf-8").encode())
        url = database.worker_url if ours else database.url
        if not link:
            return url
        return at_port(url, self.undo.enter_context(CountingProxy(self.made.server.port, link)).port)

    def _started(
        self, command: Sequence[str], url: str, variables: Mapping[str, str], *, secret: str = "", port: int = 0
    ) -> Peer:
        settings = {
            "database": url,
            "secret": secret or self.secret,
            "port": port,
            "statements": str(_HERE / "statements.json"),
        }
        # A Node of the user's own comes first, as for npm in the Makefile.
        path = os.pathsep.join([os.environ.get("PATH", os.defpath), str(self.root / ".tools" / "outside" / "bin")])
        environment = self.aws.environment | {"PATH": path, "PEER": json.dumps(settings), **variables}
        process = subprocess.Popen(
            command, env=environment, cwd=self.root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.undo.callback(_end, process)
        return Peer(process, PostgresCpu.of(self.made.server))


def measure(root: Path, users: int, turns: int) -> Iterator[Result]:
    """Webhooks from ingest to the row, and back-fills of `users` users. `turns`: how many each pair takes."""
    if not (root / ".tools" / "peers" / "node_modules").is_dir():
        raise RuntimeError("the peers are not installed: `make bench` installs them, or `make .tools/peers/.stamp`")
    with _bench(root, turns) as bench:
        yield from _webhooks(bench)
        yield from _stripe(bench)
        yield from back_fill.measure(bench, users)


@contextmanager
def _bench(root: Path, turns: int) -> Iterator[Bench]:
    with ExitStack() as undo:
        folder = Path(undo.enter_context(tempfile.TemporaryDirectory()))
        made = undo.enter_context(databases(root))
        yield Bench(root, folder, made, undo.enter_context(aws({})), generate_secret(), undo, turns)


def _webhooks(bench: Bench) -> Iterator[Result]:
    """The pasted handler, where nothing is sent to SQS on either side, and where both send."""
    ours: dict[tuple[str, float], Peer] = {}
    traffic = _traffic(bench)
    for row in _ROWS:
        if (row.ours, row.link) not in ours:
            ours[row.ours, row.link] = bench.python(row.ours, ours=True, link=row.link)
        peer = bench.node("pasted.mjs", row.way, link=row.link) if row.is_node else bench.python(row.way, link=row.link)
        yield from _compared(
            f"webhook to row{row.how}", f"pasted handler, {row.name}", traffic, peer, ours[row.ours, row.link],
            turns=bench.turns, faster=_FASTER if row.has_aim else None, less=_LESS_CPU if row.has_aim else None,
        )  # fmt: skip


def _stripe(bench: Bench) -> Iterator[Result]:
    """Stripe's engine gets customers of the length of our users."""
    secret = "whsec_bench"
    stripe = bench.node("stripe.mjs", "webhooks", secret=secret, port=1)
    yield from _compared(
        "webhook to row", "Stripe's sync engine, a customer", _traffic(bench), stripe, bench.python("ours", ours=True),
        turns=bench.turns, theirs=_customers(bench),
    )  # fmt: skip


def _compared(
    name: str,
    baseline: str,
    traffic: Iterator[str],
    peer: Peer,
    ours: Peer,
    *,
    turns: int,
    theirs: Iterator[str] | None = None,
    faster: float | None = None,
    less: float | None = None,
) -> Iterator[Result]:
    """Two rows, by the clock and by CPU, of the same turns."""
    by_cpu = Turns()

    def take(taken: Turns) -> None:
        for _ in range(turns):
            file = next(traffic)
            one, other = peer.turn(file if theirs is None else next(theirs)), ours.turn(file)
            taken.add(one.seconds, other.seconds)
            by_cpu.add(one.cpu_seconds, other.cpu_seconds)

    # The first turns meet cold caches and plans.
    for _ in range(_WARM_TURNS):
        peer.turn(next(traffic) if theirs is None else next(theirs))
        ours.turn(next(traffic))
    yield gain(f"{name}, by the clock", baseline, take, at_least=faster, of=_EVENTS)
    yield gain(f"{name}, by CPU", baseline, by_cpu.copy_into, at_least=less, of=_EVENTS)


def _traffic(bench: Bench) -> Iterator[str]:
    """Files with webhooks, signed now: a quarter are sign-ups, the others are by turns sign-ins or edits."""
    chance, numbers = Random(1), itertools.count()
    known: list[str] = []
    for turn in itertools.count():
        requests = []
        for _ in range(_EVENTS):
            number, now = next(numbers), time.time_ns() // 1_000_000
            is_new = not known or chance.random() < 0.25
            if is_new:
                known.append(f"user_{number:027}")
            user = samples.user(
                known[-1] if is_new else chance.choice(known),
                created_at=now - 1_000,
                updated_at=now + number,
                public_metadata={"revision": number // 2},
                external_accounts=google_accounts(),
            )
            kind = "user.created" if is_new else "user.updated"
            request = sign(samples.event(kind, user, timestamp=now + number), bench.secret)
            requests.append({"headers": dict(request.headers), "body": request.body.decode()})
        yield _written(bench.folder / f"webhooks-{turn}.json", requests)


def _customers(bench: Bench) -> Iterator[str]:
    """Files with events of Stripe, as long as ours: a quarter are new customers."""
    chance, numbers = Random(1), itertools.count()
    known: list[str] = []
    for turn in itertools.count():
        requests = []
        for _ in range(_EVENTS):
            number = next(numbers)
            is_new = not known or chance.random() < 0.25
            if is_new:
                known.append(f"cus_{number:014}")
            customer = back_fill.customer(known[-1] if is_new else chance.choice(known), number)
            event = {
                "id": f"evt_{number:024}",
                "object": "event",
                "type": "customer.created" if is_new else "customer.updated",
                "created": 1_750_000_000 + number,
                "data": {"object": customer},
            }
            requests.append({"body": json.dumps(event)})
        yield _written(bench.folder / f"customers-{turn}.json", requests)


def _written(file: Path, content: Any) -> str:
    file.write_text(json.dumps(content), encoding="utf-8")
    return str(file)


def _end(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()
