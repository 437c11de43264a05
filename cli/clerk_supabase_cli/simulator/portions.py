"""Portions of a long search for several processes, which share a server, but no database.

A schedule, a world and an episode depend only on the seed and their number: so the number of processes changes the
duration of a search, and not its findings.
"""

from __future__ import annotations

import multiprocessing
import queue
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, ProcessPoolExecutor, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import ceil
from typing import Final, Literal, Protocol
from urllib.parse import quote, urlsplit

import psycopg
from psycopg import sql

from clerk_supabase_cli.operate.setup.role_urls import WORKER_ROLE
from clerk_supabase_cli.simulator.episodes.episode import EpisodesReport, explore_episodes
from clerk_supabase_cli.simulator.lost_events import LostEventsReport, explore_lost_events
from clerk_supabase_cli.simulator.orders.exploration import AT_ONCE, explore
from clerk_supabase_cli.simulator.report import Report

Search = Literal["schedules", "worlds", "episodes"]
AnyReport = Report | LostEventsReport | EpisodesReport

# A world with reconcile takes about as long as 100 schedules, an episode as long as 50.
_SCHEDULES_PER_WORLD: Final = 100
_SCHEDULES_PER_EPISODE: Final = 50
# In a short portion, tables stay small and fast to the end, and no process waits long for the others.
_MOST: Final[dict[Search, int]] = {"schedules": 10 * AT_ONCE, "worlds": 10, "episodes": 20}
_NOTHING: Final[dict[Search, Callable[[], AnyReport]]] = {
    "schedules": Report,
    "worlds": LostEventsReport,
    "episodes": EpisodesReport,
}
_SECONDS_BETWEEN_LOOKS: Final = 0.2
_ENDS: Final = (signal.SIGINT, signal.SIGTERM)
"""The signals that end a search early."""


@dataclass(frozen=True, slots=True)
class Portion:
    """Numbers of schedules, worlds or episodes for a single process."""

    search: Search
    numbers: range


@dataclass(frozen=True, slots=True)
class Template:
    """A migrated database without rows, to be copied for every portion."""

    server_url: str
    """The superuser's URL of another database of the server."""
    name: str
    worker_password: str

    @contextmanager
    def copied(self, name: str) -> Iterator[Copy]:
        """Copies the database for the `with` block."""
        create = sql.SQL("create database {} template {} strategy file_copy")
        self._execute(create.format(sql.Identifier(name), sql.Identifier(self.name)))
        try:
            yield Copy(self._url(name), f"{self._url(name, WORKER_ROLE, self.worker_password)}?sslmode=disable")
        finally:
            self._execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))

    def _url(self, name: str, user: str = "", password: str = "") -> str:
        parts = urlsplit(self.server_url)
        credentials, _, host = parts.netloc.rpartition("@")
        credentials = f"{quote(user, '')}:{quote(password, '')}" if user else credentials
        return parts._replace(netloc=f"{credentials}@{host}", path=f"/{quote(name, '')}").geturl()

    def _execute(self, statement: sql.Composed) -> None:
        with psycopg.connect(self.server_url, autocommit=True) as connection:
            connection.execute(statement)


@dataclass(frozen=True, slots=True)
class Copy:
    """The database of a portion."""

    url: str
    worker_url: str


@dataclass(frozen=True, slots=True)
class Plan:
    """The settings of a search, without the numbers to try."""

    template: Template
    seed: int | str
    only: Collection[str] = ()
    """See `explore_episodes`."""


@dataclass(slots=True)
class Findings:
    """The sums of the reports of all portions, for each search."""

    schedules: Report = field(default_factory=Report)
    worlds: LostEventsReport = field(default_factory=LostEventsReport)
    episodes: EpisodesReport = field(default_factory=EpisodesReport)
    _began: dict[type[AnyReport], float] = field(default_factory=dict)

    def add(self, report: AnyReport) -> None:
        """Adds the report of a portion that has just ended."""
        now = time.monotonic()
        began = self._began.setdefault(type(report), now - report.seconds)
        match report:
            case Report():
                self.schedules.add(report)
                self.schedules.seconds = now - began
            case LostEventsReport():
                self.worlds.add(report)
                self.worlds.seconds = now - began
            case EpisodesReport():
                self.episodes.add(report)
                self.episodes.seconds = now - began

    @property
    def differences(self) -> Sequence[str]:
        return [*self.schedules.differences, *self.worlds.differences, *self.episodes.differences]


class _Flag(Protocol):
    """An event of threads or of processes."""

    def set(self) -> None: ...
    def is_set(self) -> bool: ...


class _Told(Protocol):
    """A queue of threads or of processes."""

    def put(self, told: tuple[Portion, int], /) -> None: ...
    def get(self) -> tuple[Portion, int]: ...
    def empty(self) -> bool: ...


def portions_of(schedules: int, first: int) -> dict[Search, Sequence[Portion]]:
    """Divides the schedules, and worlds and episodes that take about as long, each from number *first* on."""
    numbers: dict[Search, int] = {
        "schedules": schedules,
        "worlds": ceil(schedules / _SCHEDULES_PER_WORLD),
        "episodes": ceil(schedules / _SCHEDULES_PER_EPISODE),
    }
    return {
        search: [
            Portion(search, range(start, min(start + _MOST[search], first + number)))
            for start in range(first, first + number, _MOST[search])
        ]
        for search, number in numbers.items()
    }


def search_portions(
    plan: Plan,
    portions: Sequence[Portion],
    *,
    jobs: int,
    progress: Callable[[Search, int], object] = lambda _, __: None,
    is_ended: Callable[[], bool] = lambda: False,
) -> Findings:
    """Searches the portions in *jobs* processes; with 1, in this process.

    Soon after the first difference, or once `is_ended` returns True, nothing new begins. `progress` gets the number of
    finished schedules, worlds or episodes.
    """
    findings = Findings()
    done: dict[Portion, int] = {}
    with _pool(jobs) as (pool, told, stopped):
        with _held_back(_ENDS):
            pending = {pool.submit(_search, plan, portion) for portion in portions}
        try:
            while pending:
                finished, pending = wait(pending, _SECONDS_BETWEEN_LOOKS, FIRST_COMPLETED)
                while not told.empty():
                    portion, number = told.get()
                    done[portion] = number
                    progress(portion.search, sum(done[each] for each in done if each.search == portion.search))
                for task in finished:
                    findings.add(task.result())
                if findings.differences or is_ended():
                    stopped.set()
                    pending = {task for task in pending if not task.cancel()}
        finally:
            # After an error, too, the other processes end with their present schedules, world or episode.
            stopped.set()
    return findings


# In the process that searches


@dataclass(slots=True)
class _Process:
    """The channels from and to the process that began the search."""

    told: _Told = field(default_factory=queue.SimpleQueue[tuple[Portion, int]])
    stopped: _Flag = field(default_factory=threading.Event)


# Neither field can be passed to a process together with its work.
_process: Final = _Process()


@contextmanager
def _pool(jobs: int) -> Iterator[tuple[Executor, _Told, _Flag]]:
    if jobs == 1:
        told: _Told = queue.SimpleQueue[tuple[Portion, int]]()
        stopped: _Flag = threading.Event()
        _begin(told, stopped)
        with ThreadPoolExecutor(1) as thread:
            yield thread, told, stopped
        return
    # A forked process would share the connections and locks of this process.
    context = multiprocessing.get_context("spawn")
    told, stopped = context.SimpleQueue(), context.Event()
    with ProcessPoolExecutor(jobs, context, _begin_process, (told, stopped)) as processes:
        yield processes, told, stopped


@contextmanager
def _held_back(numbers: Collection[signal.Signals]) -> Iterator[None]:
    """Holds signals back, also in the processes that begin meanwhile, until they ignore the signals."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin(told: _Told, stopped: _Flag) -> None:
    _process.told, _process.stopped = told, stopped


def _begin_process(told: _Told, stopped: _Flag) -> None:
    # Both may reach every process of the group; the first process decides for the others.
    for number in _ENDS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDS)
    _begin(told, stopped)


def _search(plan: Plan, portion: Portion) -> AnyReport:
    search, numbers = portion.search, portion.numbers
    # A process has already taken its next portion, too late to be cancelled.
    if _process.stopped.is_set():
        return _NOTHING[search]()

    def tell(number: int) -> None:
        _process.told.put((portion, number))

    name = f"{search}_{numbers.start}"
    with plan.template.copied(name) as database:
        if search == "worlds":
            return explore_lost_events(
                database,
                worlds=len(numbers),
                seed=plan.seed,
                first=numbers.start,
                progress=lambda report: tell(report.worlds),
                is_ended=_process.stopped.is_set,
            )
        if search == "episodes":
            return explore_episodes(
                database,
                episodes=len(numbers),
                seed=plan.seed,
                first=numbers.start,
                only=plan.only,
                progress=lambda report: tell(report.episodes),
                is_ended=_process.stopped.is_set,
            )
        with plan.template.copied(f"{name}_in_order") as reference:
            return explore(
                database,
                reference,
                schedules=len(numbers),
                seed=plan.seed,
                first=numbers.start,
                progress=lambda report: tell(report.schedules),
                is_ended=_process.stopped.is_set,
            )
