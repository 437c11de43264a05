"""Runs of reconcile against the stand-in in a process of its own: memory, time of our own, requests."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
import psycopg
from psycopg.rows import dict_row

from clerk_supabase.clerk.walk import PAGE_SIZE
from clerk_supabase.credentials import Fixed
from clerk_supabase.model.changes import Changes, changes_of_object
from clerk_supabase.postgres.store import Store
from clerk_supabase.reconcile.pages import ReconcileSettings
from clerk_supabase_cli.local.clerk_process import RunningApi, running
from clerk_supabase_cli.local.processes import Guard
from clerk_supabase_cli.standin.population import BEGINNING
from tests.bench.databases import databases
from tests.bench.results import Result, Target, duration
from tests.bench.turns import Turns, cost, gain
from tests.kit.databases import Database, Databases, at_port
from tests.kit.proxy import CountingProxy

_FEW: Final = 10_000
_SAMPLE: Final = 20
_DELETES: Final = 100
_TURNS: Final = 3
_ROUND_TRIP_SECONDS: Final = 0.005
_ONE_BY_ONE: Final = 200
_NOT_SO_MANY: Final = 200_000
_RECEIVED_AT: Final = 1_900_000_000_000


@dataclass(frozen=True, slots=True)
class Measured:
    """Time and requests of a run."""

    state: str
    reason: str | None
    counts: dict[str, dict[str, int]]
    calls: int
    own_seconds: float
    """By the clock, without the time spent waiting for Clerk; waiting for Postgres included. Of one thread."""
    seconds: float
    cpu_seconds: float
    """Of our process: decoding, comparing, talking to Postgres. Not of Postgres, nor of getting the pages over HTTP."""
    http_cpu_seconds: float
    """Seconds of our process to get the pages over HTTP."""
    peak_bytes: int
    postgres_seconds: float = 0
    """CPU of Postgres meanwhile, all its processes together."""


class _Glance(msgspec.Struct, gc=False):
    id: str
    created_at: int
    updated_at: int


# Columns that a loop over both dicts can compare as they are.
_SAME_NAME: Final = (
    *("external_id", "username", "first_name", "last_name", "image_url", "has_image", "locale"),
    *("public_metadata", "unsafe_metadata", "password_enabled", "two_factor_enabled", "banned", "locked"),
    *("deprovisioned", "primary_web3_wallet_id"),
)
_GLANCES: Final = msgspec.json.Decoder(list[_Glance])


def measure(root: Path, users: int, back_fill: int) -> Iterator[Result]:
    """`users`: how many are compared; `back_fill`: how many come into an empty database."""
    with databases(root) as made, Guard() as guard:
        yield from _back_fill(made, guard, back_fill)
        few, many = made.take(), made.take()
        few_run = _filled_and_compared(few, guard, _FEW)
        with running(guard, "--users", str(users)) as api:
            _checked(_run(api, many))
            _analyze(many)
            pages = _pages(api)
            rows, by_version = _beside_baselines(api, many, users, pages, _BY_VERSION)
            more_rows, _ = _beside_baselines(api, many, users, pages, _BY_CONTENT)
            status = json.loads(_get(api.status_url))
        whole = min(by_version, key=lambda turn: turn.own_seconds)
        yield Result(
            f"peak memory, {users:,} users compared",
            f"{_FEW:,} users: {few_run.peak_bytes / 1e6:.1f} MB",
            f"{whole.peak_bytes / 1e6:.1f} MB",
            whole.peak_bytes / few_run.peak_bytes,
            "x",
            Target(1.2),
        )
        yield from (*rows, *more_rows)
        most = math.ceil(users / PAGE_SIZE) + len(_windows(many))
        yield Result(
            "requests of a full comparison",
            f"pages and windows: {most:,}",
            f"{whole.calls:,}",
            whole.calls / most,
            "x",
            Target(1),
            details=("besides pages: the instance, two counts, a page of organizations and one of memberships",),
        )
        yield Result(
            "requests for users with an offset", "", f"{status['counts'].get('offset > 0', 0)}",
            status["counts"].get("offset > 0", 0), "requests", Target(0),
        )  # fmt: skip
        yield from _quick(many, guard, users)


@dataclass(frozen=True, slots=True)
class _Way:
    """A way to compare, and the smallest possible job: decoding the same pages."""

    how: str
    options: tuple[str, ...]
    decoder: str
    decode: Callable[[bytes], object]
    at_least: float | None
    """The aim for the speed against two dicts."""


_BY_VERSION: Final = _Way("by version", ("--versions-only",), "decoding three fields", _GLANCES.decode, 8)
_BY_CONTENT: Final = _Way("by every column", (), "json.loads of the same pages", json.loads, None)


def _beside_baselines(
    api: RunningApi, database: Database, users: int, pages: Sequence[bytes], way: _Way
) -> tuple[list[Result], list[Measured]]:
    """Takes a run and both baselines in turns; returns the rows, and the runs."""
    runs: list[Measured] = []
    by_clock = Turns()

    def take(turns: Turns) -> None:
        for _ in range(_TURNS if users <= _NOT_SO_MANY or way is _BY_VERSION else 1):
            decoding, naive = _decoding(pages, way.decode), _naive(database, pages)
            runs.append(_checked(_run(api, database, *way.options)))
            turns.add(decoding, runs[-1].cpu_seconds / users)
            by_clock.add(naive, runs[-1].own_seconds / users)

    by_cpu = cost(f"our CPU per user compared {way.how}", way.decoder, take, at_most=4)
    http = min(run.http_cpu_seconds for run in runs) / users
    by_cpu = replace(
        by_cpu,
        ours=f"{by_cpu.ours}, and {duration(http)} for getting it over HTTP",
        details=("CPU of the Python process, without HTTP and without Postgres",),
    )
    name = f"a user compared {way.how}, Postgres included"
    return [by_cpu, gain(name, "two dicts", by_clock.copy_into, at_least=way.at_least)], runs


def _quick(database: Database, guard: Guard, users: int) -> Iterator[Result]:
    full = math.ceil(users / PAGE_SIZE)
    changes = users // 200
    _set_watermark(database, users)
    with running(guard, "--users", str(users), "--change", str(changes)) as api:
        changed = _checked(_run(api, database, "--mode", "quick"))
    yield Result(
        f"requests of a quick run, {changes:,} of {users:,} users changed",
        f"all pages: {full:,}",
        f"{changed.calls:,}",
        changed.calls / full,
        "x",
        Target(0.1),
    )
    tenth = max(1, _DELETES // 10)
    for deletes, among, where in (
        (_DELETES, users, "anywhere"),
        (_DELETES, max(_DELETES, users // 100), "among the newest hundredth"),
        (tenth, users, f"anywhere: as {_DELETES} of {users * _DELETES // tenth:,}"),
    ):
        yield _deletes_found(database, guard, users, deletes=deletes, among=among, where=where)


def _deletes_found(database: Database, guard: Guard, users: int, *, deletes: int, among: int, where: str) -> Result:
    """Measures dry runs, so that each run finds the same deletes."""
    _set_watermark(database, users)
    full = math.ceil(users / PAGE_SIZE)
    with running(guard, "--users", str(users), "--delete", str(deletes), "--delete-among", str(among)) as api:
        found = _run(api, database, "--mode", "quick", "--dry-run")
    extra = found.counts["user"].get("extra", 0)
    confirming = extra + math.ceil(extra / 100)
    by_count = found.calls - confirming
    return Result(
        f"requests to find {deletes} missed deletes by counts, {where}",
        f"all pages: {full:,}",
        f"{by_count:,} for {extra} found; and {confirming} to confirm them",
        by_count / full,
        "x",
        Target(0.1),
        details=(f"{min(deletes, math.ceil(among / PAGE_SIZE))} pages at most have to be read; the rest are counts",),
    )


def _back_fill(made: Databases, guard: Guard, users: int) -> Iterator[Result]:
    database = made.take()
    with running(guard, "--users", str(users)) as api:
        filled = _checked(_run(api, database, "--threads", str(ReconcileSettings().threads)))
        cpu = filled.cpu_seconds + filled.postgres_seconds
        yield Result(
            f"back-fill of {users:,} users into an empty database, by the clock",
            "",
            f"{duration(filled.seconds)}, waiting for Clerk included",
            users / filled.seconds,
            "users/s",
            Target(10_000, at_least=True),
            details=("as many windows at once as in the command, on the processors that Postgres and Clerk run on",),
        )
        yield Result(
            f"back-fill of {users:,} users into an empty database, by CPU",
            "",
            f"{duration(cpu)}: Python {duration(filled.cpu_seconds)}, Postgres {duration(filled.postgres_seconds)}",
            users / cpu,
            "users/s",
            details=("what it takes of a machine, whatever else that has to do; HTTP is not counted",),
        )
        port = int(api.url.split(":")[2].split("/")[0])
        with (
            CountingProxy(made.server.port, _ROUND_TRIP_SECONDS) as to_database,
            CountingProxy(port, _ROUND_TRIP_SECONDS) as to_clerk,
        ):
            far = RunningApi(api.url.replace(str(port), str(to_clerk.port)), api.status_url)

            def take(turns: Turns) -> None:
                linked, one_by_one = made.take(), made.take()
                theirs = _one_by_one(far, at_port(one_by_one.worker_url, to_database.port))
                turns.add(theirs, _checked(_run(far, linked, port=to_database.port)).seconds / users)

            yield gain("a user of a back-fill, 5 ms link", "a GET and an upsert each", take, at_least=50)


def _one_by_one(api: RunningApi, database_url: str) -> float:
    """Seconds per user of a loop that gets each user and applies it."""
    with closing(Store(Fixed(database_url))) as store:
        store.apply([])
        started = time.perf_counter()
        for number in range(_ONE_BY_ONE):
            body = _get(f"{api.url}/users/user_{number:026}", api.key)
            store.apply([(_changes(body), None)])
        return (time.perf_counter() - started) / _ONE_BY_ONE


def _changes(body: bytes) -> Changes:
    return changes_of_object("user", body, 1, _RECEIVED_AT)


def _filled_and_compared(database: Database, guard: Guard, users: int) -> Measured:
    with running(guard, "--users", str(users)) as api:
        _checked(_run(api, database))
        return _checked(_run(api, database, "--versions-only"))


def _run(api: RunningApi, database: Database, *options: str, port: int | None = None) -> Measured:
    url = database.worker_url if port is None else at_port(database.worker_url, port)
    command = [sys.executable, "-m", "tests.bench.reconcile_child", "--clerk", api.url, "--database", url, *options]
    before = _cpu_of_postgres(database)
    printed = subprocess.run(command, check=True, capture_output=True).stdout
    return Measured(**json.loads(printed), postgres_seconds=_cpu_of_postgres(database) - before)


def _cpu_of_postgres(database: Database) -> float:
    """Seconds of CPU of the server and of all its processes that have ended; 0 where there is no /proc."""
    with database.connect() as admin:
        backend = Path(f"/proc/{admin.info.backend_pid}/stat")
        if not backend.exists():
            return 0.0
        server = _fields(backend)[3]
    return sum(map(int, _fields(Path(f"/proc/{server}/stat"))[13:17])) / os.sysconf("SC_CLK_TCK")


def _fields(stat: Path) -> list[str]:
    return stat.read_text().replace("(postgres)", "postgres").split()


def _checked(measured: Measured) -> Measured:
    if measured.state != "complete":
        raise RuntimeError(f"the run is {measured.state}: {measured.reason}")
    return measured


def _set_watermark(database: Database, users: int) -> None:
    """The stand-in's users live in another time than its clock."""
    with database.connect() as admin:
        admin.execute("update clerk_sync.reconcile_runs set as_of = %s", [BEGINNING + users * 1_000 + 500_000])


def _analyze(database: Database) -> None:
    with database.connect() as admin:
        admin.execute("vacuum analyze")


def _windows(database: Database) -> list[tuple[Any, ...]]:
    with database.connect() as admin:
        return admin.execute("""
            select 1 from clerk_sync.reconcile_windows
            where run_id = (select max(run_id) from clerk_sync.reconcile_runs)
        """).fetchall()


def _pages(api: RunningApi) -> list[bytes]:
    pages: list[bytes] = []
    cursor = ""
    while len(pages) < _SAMPLE and (not pages or cursor):
        pages.append(_get(f"{api.url}/users?limit={PAGE_SIZE}&order_by=%2Bcreated_at{cursor}", api.key))
        found = _GLANCES.decode(pages[-1])
        cursor = f"&starting_after={found[-1].id}" if len(found) == PAGE_SIZE else ""
    return pages


def _decoding(pages: Sequence[bytes], decode: Callable[[bytes], object]) -> float:
    """Seconds per user, of the fastest turn."""
    users = sum(len(_GLANCES.decode(page)) for page in pages)
    turns: list[float] = []
    for _ in range(10):
        started = time.process_time()
        for page in pages:
            decode(page)
        turns.append(time.process_time() - started)
    return min(turns) / users


def _naive(database: Database, pages: Sequence[bytes]) -> float:
    """Seconds per user of: both sides as dicts, then column by column. Of as many users as there are in the sample."""
    users = sum(len(_GLANCES.decode(page)) for page in pages)
    with psycopg.connect(database.url, row_factory=dict_row) as connection:
        started = time.perf_counter()
        there = {user["id"]: user for page in pages for user in json.loads(page)}
        query = "select * from clerk.users order by created_at limit %s"
        here = {row["clerk_id"]: row for row in connection.execute(query, [users])}
        differing = [
            key
            for key in there.keys() | here.keys()
            if key not in here or key not in there or _differs(here[key], there[key])
        ]
        seconds = time.perf_counter() - started
    if differing:
        raise RuntimeError(f"{len(differing)} users differ")
    return seconds / users


def _differs(row: dict[str, Any], user: dict[str, Any]) -> bool:
    primary = user["primary_email_address_id"]
    email = next((each["email_address"] for each in user["email_addresses"] if each["id"] == primary), None)
    return (
        any(row[name] != user[name] for name in _SAME_NAME)
        or row["email"] != email
        or row["created_at"] != datetime.fromtimestamp(user["created_at"] / 1000, UTC)
        or len(row["email_addresses"]) != len(user["email_addresses"])
        or len(row["phone_numbers"]) != len(user["phone_numbers"])
    )


def _get(url: str, key: str = "") -> bytes:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {key}"})  # noqa: S310 - a server on this machine
    with urllib.request.urlopen(request) as answer:  # noqa: S310 - a server on this machine
        return bytes(answer.read())
