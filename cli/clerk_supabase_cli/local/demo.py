"""The main job on this machine: deploy, send webhooks, lose some, reconcile, and compare Postgres with Clerk."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
import psycopg
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from clerk_supabase_cli.local.processes import LocalStackError
from clerk_supabase_cli.local.stack import LocalStack
from clerk_supabase_cli.local.traffic import Message, Traffic, make_traffic
from clerk_supabase_cli.standin.deliveries import sign
from clerk_supabase_cli.terminal import BAD, GOOD, Listing, Terminal

# Every connection costs a worker process of the emulator.
_CONNECTIONS: Final = 4
# Svix waits 5 s before its second attempt; the demo is faster.
_SECONDS_BEFORE_ATTEMPT: Final = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
_DRAIN_SECONDS: Final = 60.0
_COMPARED_COLUMNS: Final = ("first_name", "last_name", "public_metadata", "image_url")


@dataclass(frozen=True, slots=True)
class Difference:
    """The differences between the tables and Clerk."""

    found: int
    """The number of users in the tables."""
    missing: int
    extra: int
    different: int

    @property
    def total(self) -> int:
        """The number of users that differ; 0 if Clerk and Postgres agree."""
        return self.missing + self.extra + self.different


class Demo:
    """A run of the demo."""

    def __init__(self, root: Path, *, users: int, seed: int | None, console: Terminal) -> None:
        self._root = root
        self._seed = random.SystemRandom().randrange(2**32) if seed is None else seed
        self._console = console
        hour_ago = time.time_ns() // 1_000_000 - 3_600_000
        self._traffic = make_traffic(users, random.Random(self._seed), start=hour_ago)  # noqa: S311 - to be repeated, not to be secret

    def run(self) -> int:
        """Runs the demo and prints the result. Returns the number of users that differ between Clerk and Postgres."""
        with self._progress() as progress:
            stack = LocalStack(self._root, progress=_Steps(progress))
            with stack, psycopg.connect(stack.database_url, autocommit=True) as database:
                with stack.clerk.writing() as clerk:
                    clerk.users.update(self._traffic.users)
                self._send(stack, progress)
                self._wait_until_drained(stack, database, progress)
                before = _compare(database, self._traffic)
                outcomes = _outcomes(database)
                self._reconcile(stack, database, progress)
                difference = _compare(database, self._traffic)
        self._print(outcomes, before, difference)
        return difference.total

    @contextmanager
    def _progress(self) -> Iterator[Progress]:
        columns = TextColumn("{task.description:<32}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        # In a log of CI, a line for each step, and no bars.
        with Progress(*columns, console=self._console, disable=not self._console.is_live) as progress:
            try:
                yield progress
            finally:
                for task in () if self._console.is_live else progress.tasks:
                    self._console.say(f"{task.description}: {task.completed:.0f} of {task.total or 0:.0f}")

    def _send(self, stack: LocalStack, progress: Progress) -> None:
        task = progress.add_task("Send webhooks", total=len(self._traffic.arrivals))
        with httpx.Client(timeout=60, trust_env=False) as client, ThreadPoolExecutor(_CONNECTIONS) as pool:
            try:
                for _ in pool.map(lambda message: _deliver(client, stack, message), self._traffic.arrivals):
                    progress.advance(task)
            except BaseException:
                # Ctrl-C ends the demo now, not after the last webhook.
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _wait_until_drained(self, stack: LocalStack, database: psycopg.Connection, progress: Progress) -> None:
        task = progress.add_task("Apply to Postgres", total=self._traffic.messages)
        deadline = time.monotonic() + _DRAIN_SECONDS
        while (done := _count_deliveries(database)) < self._traffic.messages or _queued(stack):
            progress.update(task, completed=done)
            if time.monotonic() > deadline:
                raise LocalStackError(
                    f"only {done} of {self._traffic.messages} events were applied in {_DRAIN_SECONDS:.0f} s"
                )
            time.sleep(0.1)
        progress.update(task, completed=done)

    def _reconcile(self, stack: LocalStack, database: psycopg.Connection, progress: Progress) -> None:
        """Lets the deployed function compare everything, as every night, and waits for its repairs."""
        task = progress.add_task("Reconcile with Clerk's API", total=1)
        stack.reconcile("full")
        deadline = time.monotonic() + _DRAIN_SECONDS
        while _queued(stack) or _compare(database, self._traffic).total:
            if time.monotonic() > deadline:
                return
            time.sleep(0.1)
        progress.advance(task)

    def _print(self, outcomes: Counter[str], before: Difference, difference: Difference) -> None:
        numbers = {"sent": len(self._traffic.arrivals), "lost": self._traffic.lost, "users": len(self._traffic.users)}
        self._console.show(result_list(self._seed, outcomes, before, difference, **numbers))
        if difference.total:
            self._console.say(
                f"missing {difference.missing}, extra {difference.extra}, different {difference.different};"
                f" the same traffic again: clerk-supabase demo --seed {self._seed}"
            )
        else:
            self._console.say("next: `make dev` keeps the stack running and shows each event as it happens")


def result_list(
    seed: int, outcomes: Counter[str], before: Difference, after: Difference, *, sent: int, lost: int, users: int
) -> Listing:
    """The result of a demo. *before*, *after*: the differences around the comparison."""
    listed = Listing(f"Clerk and Postgres, seed {seed}", "count", numbers={"count"})
    rows = {
        "webhooks sent": sent,
        "applied (created, updated, unchanged)": outcomes["created"] + outcomes["updated"] + outcomes["unchanged"],
        "duplicates": sent - outcomes.total(),
        "stale (a newer version was there)": outcomes["stale"],
        "deleted": outcomes["deleted"],
        "of users deleted before": outcomes["deleted_before"],
        "lost for good": lost,
        "before reconcile: users missing in Postgres": before.missing,
        "before reconcile: users with an old state": before.different,
        "before reconcile: users deleted in Clerk": before.extra,
        "rows in Postgres after reconcile": after.found,
        "users in Clerk": users,
    }
    for name, count in rows.items():
        listed.add_row(name, f"{count:,}")
    style = GOOD if after.total == 0 else BAD
    listed.add_row(Text("difference", style), Text(f"{after.total:,}", style))
    return listed


class _Steps:
    """Shows the steps of the local stack as lines of a progress display."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, step: str, seconds: float | None) -> None:
        if seconds is None:
            self._tasks[step] = self._progress.add_task(step, total=1)
        else:
            self._progress.update(self._tasks[step], completed=1)


def _deliver(client: httpx.Client, stack: LocalStack, message: Message) -> None:
    """Delivers like Svix: signs each attempt, and retries unless the answer is a 2xx."""
    for seconds in _SECONDS_BEFORE_ATTEMPT:
        time.sleep(seconds)
        request = sign(message.event, stack.webhook_secret, svix_id=message.svix_id)
        answer = client.post(stack.webhook_url, content=request.body, headers=dict(request.headers))
        if answer.is_success:
            return
    raise LocalStackError(
        f"a webhook was never accepted; the last answer was {answer.status_code}: {answer.text[:200]}"
    )


def _compare(database: psycopg.Connection, traffic: Traffic) -> Difference:
    rows = database.execute(
        "select u.clerk_id, u.first_name, u.last_name, u.public_metadata, u.image_url, p.clerk_id is not null"
        " from clerk.users as u left join clerk.users_public as p using (clerk_id) where u.deleted_at is null"
    ).fetchall()
    found = {clerk_id: (*columns, is_public) for clerk_id, *columns, is_public in rows}
    expected = {
        user_id: (*(user[column] for column in _COMPARED_COLUMNS), True) for user_id, user in traffic.users.items()
    }
    return Difference(
        found=len(found),
        missing=len(expected.keys() - found.keys()),
        extra=len(found.keys() - expected.keys()),
        different=sum(found[user_id] != expected[user_id] for user_id in found.keys() & expected.keys()),
    )


def _queued(stack: LocalStack) -> int:
    """Messages that wait in the sync queue or are being applied."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    answer = stack.ministack.client("sqs").get_queue_attributes(
        QueueUrl=stack.outputs["SyncQueueUrl"], AttributeNames=names
    )
    return sum(int(answer["Attributes"][name]) for name in names)


def _outcomes(database: psycopg.Connection) -> Counter[str]:
    rows = database.execute("select outcome, count(*) from clerk_sync.deliveries group by outcome").fetchall()
    return Counter(dict(rows))


def _count_deliveries(database: psycopg.Connection) -> int:
    row = database.execute("select count(*) from clerk_sync.deliveries").fetchone()
    return int(row[0]) if row else 0
