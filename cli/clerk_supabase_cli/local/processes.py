"""Child processes and scratch folders that cannot outlive this process.

A *guard*, a small process of its own, holds the reading end of a pipe whose writing end only this process
has. However this process ends (return, exception, Ctrl-C, SIGTERM, SIGKILL), the kernel closes the pipe; the
guard then ends every registered process group and removes every remaining folder.
The guard needs no signal handlers and works on Linux and macOS alike.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from clerk_supabase_cli.failure import Failure

# Runs under `python -I -S`, which starts in milliseconds and needs no installed package.
_GUARD = """
import os, shutil, signal, sys, time

def alive(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True

groups, folders = {}, set()
for line in sys.stdin:
    verb, value = line.rstrip("\\n").split(" ", 1)
    if verb == "guard":
        group, number = value.split()
        groups[int(group)] = int(number)
    elif verb == "release":
        groups.pop(int(value), None)
    elif verb == "folder":
        folders.add(value)
    elif verb == "keep":
        folders.discard(value)

def end(group, number):
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        pass

for group, number in groups.items():
    end(group, number)
deadline = time.monotonic() + 5
while any(map(alive, groups)) and time.monotonic() < deadline:
    time.sleep(0.02)
for group in groups:
    end(group, signal.SIGKILL)
for folder in folders:
    shutil.rmtree(folder, ignore_errors=True)
"""


class LocalStackError(Failure):
    """The local stack could not be started or kept running."""

    has_lines: ClassVar[bool] = True


class CommandFailed(LocalStackError):
    """A command of the local stack failed."""

    def __init__(self, command: Sequence[str], status: int, log: Path, *, lines: int = 25) -> None:
        """*status*: the exit status, negative for a signal; *log*: the whole output."""
        self.command = tuple(command)
        self.status = status
        self.log = log
        self.last_lines = last_lines(log, lines)
        super().__init__(
            f"`{' '.join(self.command)}` ended with status {status}; last lines of {log}:\n{self.last_lines}"
        )


class Guard:
    """Starts processes and makes scratch folders, and leaves no process and no folder behind.

    Processes run in sessions of their own, so a Ctrl-C in the terminal reaches only this process, which then
    ends the others in order.
    """

    def __init__(self) -> None:
        reading_end, writing_end = os.pipe()
        self._pipe = os.fdopen(writing_end, "w", buffering=1)
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _GUARD],
            stdin=reading_end,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(reading_end)
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self._folders: list[Path] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the running processes, and removes the folders. May be called twice."""
        for child in list(self._children.values()):
            self.end(child, signal.SIGKILL)
        for folder in self._folders:
            shutil.rmtree(folder, ignore_errors=True)
        self._pipe.close()
        self._process.wait()

    def folder(self, prefix: str, inside: Path | None = None) -> Path:
        """Makes a scratch folder, readable by this user only, and removed in the end.

        *inside*: the parent folder, by default the system's folder for temporary files.
        """
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=inside))
        self._folders.append(folder)
        self._tell(f"folder {folder}")
        return folder

    def keep(self, folder: Path) -> None:
        """Leaves *folder* on the disk, for a person to read."""
        self._folders.remove(folder)
        self._tell(f"keep {folder}")

    def start(
        self,
        command: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        account: pwd.struct_passwd | None = None,
        last_signal: signal.Signals = signal.SIGKILL,
        descriptors: Sequence[int] = (),
    ) -> subprocess.Popen[bytes]:
        """Starts *command* with its output appended to *log*, as the user *account* if given.

        The guard ends the command with *last_signal* if this process disappears. The command inherits *descriptors*.
        """
        with log.open("ab") as output:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=env,
                cwd=cwd,
                user=account and account.pw_uid,
                group=account and account.pw_gid,
                extra_groups=None if account is None else [],
                start_new_session=True,
                pass_fds=descriptors,
            )
        self._children[child.pid] = child
        self._tell(f"guard {child.pid} {last_signal:d}")
        return child

    def end(self, child: subprocess.Popen[bytes], number: signal.Signals, *, grace: float = 10.0) -> None:
        """Sends *number* to the child's process group, waits *grace* seconds, then kills the rest of the group."""
        if child.poll() is None:
            _signal_group(child.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(grace)
        _signal_group(child.pid, signal.SIGKILL)
        child.wait()
        if self._children.pop(child.pid, None) is not None:
            self._tell(f"release {child.pid}")

    def run(self, command: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None) -> None:
        """Runs *command* to its end. Raises CommandFailed."""
        self.finish(self.start(command, log=log, env=env), log=log)

    def finish(self, child: subprocess.Popen[bytes], *, log: Path) -> None:
        """Waits for a command begun by `start`. Raises CommandFailed."""
        status = child.wait()
        self.end(child, signal.SIGKILL)
        if status != 0:
            command = child.args if isinstance(child.args, list | tuple) else [child.args]
            raise CommandFailed([str(word) for word in command], status, log)

    def _tell(self, line: str) -> None:
        self._pipe.write(f"{line}\n")


def free_port() -> int:
    """A free TCP port on 127.0.0.1."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def is_taken(port: int) -> bool:
    """Tells whether a server listens on this TCP port of 127.0.0.1."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def last_lines(log: Path, count: int) -> str:
    """The last *count* lines of a log; empty without the file."""
    try:
        with log.open(encoding="utf-8", errors="replace") as lines:
            return "".join(deque(lines, maxlen=count)).rstrip()
    except FileNotFoundError:
        return ""


def _signal_group(group: int, number: signal.Signals) -> None:
    # macOS answers EPERM for a group of zombies.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
