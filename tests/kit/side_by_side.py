"""Tests in several processes, each of them a copy of the process that has collected all tests."""

from __future__ import annotations

import mmap
import os
import tempfile
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any, Final, Literal, NoReturn

import pytest

# Written to a pipe as a whole and read as a whole, so that each number reaches one process alone.
_BYTES_OF_A_NUMBER: Final = 2

Files = Sequence[Sequence[pytest.Item]]


def by_file(items: Sequence[pytest.Item], together: str) -> list[list[pytest.Item]]:
    """The tests of each file, files in the order of their first test. *together*: a folder that counts as one file."""
    files: dict[str, list[pytest.Item]] = {}
    for item in items:
        file, _, _ = item.nodeid.partition("::")
        files.setdefault(together if file.startswith(together) else file, []).append(item)
    return [*files.values()]


class SideBySide:
    """A plugin that runs the tests of a file in one process, one after the other, and files in several processes.

    A process takes the next file when it has ended one. Fixtures of the session exist once in each process.
    """

    def __init__(self, processes: int, together: str) -> None:
        """*together*: a folder whose files one process runs, because they share what is costly."""
        self._processes = processes
        self._together = together

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        """Runs all tests in copies of this process. None: pytest says why it runs none."""
        if session.testsfailed or session.config.option.collectonly:
            return None
        reporter: Any = session.config.pluginmanager.get_plugin("terminalreporter")
        reporter.showfspath = False
        files = by_file(session.items, self._together)
        team = _Team(session, files)
        for number in range(min(self._processes, len(files))):
            team.add(number)
        team.listen()
        return True


class _Team:
    """The copies of this process, what they have reported, and what they still have to do."""

    def __init__(self, session: pytest.Session, files: Files) -> None:
        self._session = session
        self._files = files
        self._stop = mmap.mmap(-1, 1)
        self._next, numbers = os.pipe()
        os.write(numbers, b"".join(each.to_bytes(_BYTES_OF_A_NUMBER) for each in range(len(files))))
        os.close(numbers)
        factory: Any = session.config._tmp_path_factory  # type: ignore[attr-defined]
        self._scratch = factory.getbasetemp()
        self._copies: dict[Connection, int] = {}
        self._begun: dict[Connection, str] = {}
        self._left = dict.fromkeys(item.nodeid for file in files for item in file)

    def add(self, number: int) -> None:
        """Begins another copy."""
        here, there = Pipe(duplex=False)
        if process := os.fork():
            there.close()
            self._copies[here] = process
            return
        here.close()
        self._be_a_copy(number, there)

    def listen(self) -> None:
        """Reports what the copies report, until all have ended. Raises Failed if no more tests are to be run."""
        session = self._session
        try:
            while self._copies:
                for connection in wait(self._copies):
                    assert isinstance(connection, Connection)
                    self._hear(connection)
                if session.shouldfail or session.shouldstop:
                    self._stop[0] = 1
        finally:
            # After Ctrl-C, each copy ends what it has started.
            self._stop[0] = 1
            for process in self._copies.values():
                os.waitpid(process, 0)
        if session.shouldfail:
            raise session.Failed(session.shouldfail)
        if session.shouldstop:
            raise session.Interrupted(session.shouldstop)
        for test in self._left:
            self._fail(test, "was not run, because the process that should have run it had ended", "call")

    def _hear(self, connection: Connection) -> None:
        try:
            word, said = connection.recv()
        except EOFError:
            process = self._copies.pop(connection)
            _, status = os.waitpid(process, 0)
            if test := self._begun.pop(connection, "") if status else "":
                code = os.waitstatus_to_exitcode(status)
                self._fail(test, f"the process of this test has ended with status {code}", "call")
            return
        if word == "begins":
            self._begun[connection] = said
            self._left.pop(said, None)
        elif word == "broken":
            self._fail(self._begun.pop(connection, ""), said, "teardown")
        else:
            hook = self._session.config.hook
            report = hook.pytest_report_from_serializable(config=self._session.config, data=said)
            hook.pytest_runtest_logreport(report=report)

    def _fail(self, test: str, why: str, when: Literal["call", "teardown"]) -> None:
        """Reports a test as failed for a reason that it has not reported itself."""
        where = (test.partition("::")[0], None, test)
        report = pytest.TestReport(test, where, {}, "failed", why, when)
        self._session.config.hook.pytest_runtest_logreport(report=report)

    # In a copy

    def _be_a_copy(self, number: int, connection: Connection) -> NoReturn:
        status = 1
        try:
            self._separate(number, connection)
            for file in self._own_files():
                self._run(file)
            self._session._setupstate.teardown_exact(None)
            status = 0
        except BaseException:  # noqa: BLE001 - the process that listens reports it
            with suppress(OSError):
                connection.send(("broken", traceback.format_exc()))
        finally:
            connection.close()
            os._exit(status)

    def _separate(self, number: int, connection: Connection) -> None:
        """Keeps what is printed, and files, apart from those of the other processes."""
        config = self._session.config
        for name in ("terminalreporter", "side_by_side"):
            config.pluginmanager.unregister(name=name)
        config.pluginmanager.register(_Reports(config, connection))
        capture: Any = config.pluginmanager.get_plugin("capturemanager")
        capture.suspend_global_capture()
        for each in (capture._global_capturing.out, capture._global_capturing.err):
            # None with `--capture=no`; without a file with `--capture=sys`.
            with suppress(AttributeError, OSError):
                _replace(each.tmpfile.fileno())
        factory: Any = config._tmp_path_factory  # type: ignore[attr-defined]
        factory._basetemp = self._scratch / f"process-{number}"
        factory._basetemp.mkdir(mode=0o700)

    def _own_files(self) -> Iterator[Sequence[pytest.Item]]:
        while number := os.read(self._next, _BYTES_OF_A_NUMBER):
            yield self._files[int.from_bytes(number)]

    def _run(self, file: Sequence[pytest.Item]) -> None:
        # Another file follows: the fixtures of the session stay.
        following: list[pytest.Item | pytest.Session] = [*file[1:], self._session]
        for item, after in zip(file, following, strict=True):
            if self._stop[0] or self._session.shouldfail or self._session.shouldstop:
                return
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)


def _replace(number: int) -> None:
    """Gives an open file another content: loggers keep the file, and copies of a process would share its position."""
    with tempfile.TemporaryFile(buffering=0) as own:
        os.dup2(own.fileno(), number, inheritable=False)


class _Reports:
    """A plugin that sends the beginning of each test, and each report."""

    def __init__(self, config: pytest.Config, connection: Connection) -> None:
        self._config = config
        self._connection = connection

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._connection.send(("begins", nodeid))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        said: Mapping[str, Any] = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        self._connection.send(("report", said))
