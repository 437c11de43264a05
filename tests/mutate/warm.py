"""A process that has collected all tests, and runs some of them in a copy of itself for each mutant."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import pytest

if TYPE_CHECKING:
    from tests.mutate.prepared import Prepared

LONGEST_TEST: Final = 60.0
"""Seconds after which a test that was begun in time counts as endless."""


@dataclass(frozen=True, slots=True)
class Order:
    """Tests that shall be run until the first one fails."""

    tests: Sequence[str]
    seconds: float
    """The time after which no other test begins."""
    swap: tuple[str, str, str] | None = None
    """The path of a module, the name of its changed function, and the changed text."""
    migrates: bool = False
    """True: the migrations have been changed."""
    records: bool = False


class Warm:
    """The near end: sends orders to the process."""

    def __init__(self, process: int, connection: Connection[Any, Any], log: Path) -> None:
        self._process = process
        self._connection = connection
        self._log = log

    @cached_property
    def _first(self) -> tuple[list[str], list[str]]:
        try:
            first: tuple[list[str], list[str]] = self._connection.recv()
        except EOFError:
            raise RuntimeError(f"the tests cannot be collected:\n{self._log.read_text()[-3000:]}") from None
        return first

    @property
    def collected(self) -> list[str]:
        """The names of all tests; waits until they have been collected."""
        return self._first[0]

    @property
    def during_import(self) -> list[str]:
        """The lines that were run before any test, if they are recorded."""
        return self._first[1]

    def run(self, order: Order) -> dict[str, Any]:
        """The report of the tests: `verdict`, `by`, and `tests` where they are recorded."""
        assert self.collected
        self._connection.send(order)
        answer: dict[str, Any] = self._connection.recv()
        return answer

    def close(self) -> None:
        """End the process."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process, signal.SIGKILL)
        os.waitpid(self._process, 0)


def start(become: Any, folder: Path, log: Path, prepared: Prepared, *, is_recording: bool) -> Warm:
    """Start a process that collects the tests. *become*: prepares the new process to run tests in *folder*."""
    near, far = Pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    process = os.fork()
    if process == 0:
        near.close()
        _serve(become, folder, log, prepared, far, is_recording=is_recording)
    far.close()
    return Warm(process, near, log)


def _serve(
    become: Any, folder: Path, log: Path, prepared: Prepared, connection: Connection[Any, Any], *, is_recording: bool
) -> NoReturn:
    status = 70
    try:
        become()
        os.setpgid(0, 0)
        recorder = None
        if is_recording:
            sys.dont_write_bytecode = True
            from tests.mutate.reached import Recorder  # noqa: PLC0415 - of the copy

            recorder = Recorder()
            recorder.install(folder)
        from tests.mutate import prepared as here  # noqa: PLC0415

        here.use(prepared, is_recording=is_recording)
        options = ["-q", "--tb=short", "-p", "no:cacheprovider"]
        status = pytest.main(
            [*options, "tests/unit", "tests/integration"], plugins=[_Server(connection, folder, log, recorder)]
        )
    except BaseException:  # noqa: BLE001 - this process has no caller
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


class _Server:
    """A plugin: instead of running the collected tests, wait for orders."""

    def __init__(self, connection: Connection[Any, Any], folder: Path, log: Path, recorder: Any) -> None:
        self._connection = connection
        self._folder = folder
        self._log = log
        self._recorder = recorder
        self._failed: list[str] = []

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self) -> None:
        from hypothesis import Phase, settings  # noqa: PLC0415

        phases = (Phase.explicit, Phase.generate)
        settings.register_profile("first", settings(), phases=phases, max_examples=30)
        settings.load_profile("first")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        items = {item.nodeid: item for item in session.items}
        during_import = self._recorder.take() if self._recorder else []
        self._connection.send((list(items), during_import))
        while True:
            try:
                order = self._connection.recv()
            except EOFError:
                os._exit(0)
            self._connection.send(self._answer(order, items))

    def _answer(self, order: Order, items: dict[str, pytest.Item]) -> dict[str, Any]:
        report = self._log.with_suffix(".json")
        report.unlink(missing_ok=True)
        child = os.fork()
        if child == 0:
            self._child(order, items, report)
        deadline = time.monotonic() + order.seconds + LONGEST_TEST
        while time.monotonic() < deadline:
            done, _ = os.waitpid(child, os.WNOHANG)
            if done:
                # A mutant may end the process.
                return json.loads(report.read_text()) if report.exists() else {"verdict": "noticed", "by": "crash"}
            time.sleep(0.01)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return {"verdict": "timeout", "by": self._current.read_text() if self._current.exists() else ""}

    @property
    def _current(self) -> Path:
        """A file with the name of the test that is run."""
        return self._log.with_suffix(".current")

    def _child(self, order: Order, items: dict[str, pytest.Item], report: Path) -> NoReturn:
        try:
            os.setsid()
            with contextlib.ExitStack() as undo:
                answer = self._run(order, [items[each] for each in order.tests if each in items], undo)
                unfinished = report.with_suffix(".part")
                unfinished.write_text(json.dumps(answer))
                unfinished.rename(report)
        except BaseException:  # noqa: BLE001 - nor has this one
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(0)

    def _run(self, order: Order, items: list[pytest.Item], undo: contextlib.ExitStack) -> dict[str, Any]:
        from psycopg import Error  # noqa: PLC0415

        from clerk_supabase_cli.failure import Failure  # noqa: PLC0415
        from tests.mutate import prepared, swap  # noqa: PLC0415

        prepared.PreparedServer.is_recording = order.records
        if order.migrates:
            try:
                prepared.migrate_mutant(self._folder, undo)
            except (Failure, Error) as error:
                return {"verdict": "not valid", "by": str(error)[:200]}
        if order.swap is not None:
            path, name, changed = order.swap
            if not swap.swap(Path(path), name, changed):
                return {"verdict": "not swapped", "by": ""}
        tests = dict(self._each(order, items, prepared.PreparedServer))
        if self._failed and not order.records:
            return {"verdict": "noticed", "by": self._failed[0]}
        return {"verdict": "survived", "by": "", "tests": tests, "ran": len(tests)}

    def _each(self, order: Order, items: list[pytest.Item], server: Any) -> Iterator[tuple[str, Any]]:
        end = time.monotonic() + order.seconds
        for number, item in enumerate(items):
            if time.monotonic() > end:
                item.session._setupstate.teardown_exact(None)
                return
            self._current.write_text(item.nodeid)
            following = items[number + 1] if number + 1 < len(items) else None
            started = time.perf_counter()
            before = len(self._failed)
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            found: list[str] = []
            if order.records:
                found = self._recorder.take()
                for databases in server.made:
                    found += sorted(databases.called)
                    databases.called.clear()
            if len(self._failed) > before:
                if not order.records:
                    item.session._setupstate.teardown_exact(None)
                    return
                continue
            yield item.nodeid, (round(time.perf_counter() - started, 3), found)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Remember the tests that failed."""
        if report.failed and report.nodeid not in self._failed:
            self._failed.append(report.nodeid)
