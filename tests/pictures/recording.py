"""Commands that run in a terminal of their own, and the recording of the terminal."""

from __future__ import annotations

import codecs
import os
import pty
import re
import signal
import subprocess
import termios
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.pictures.casts import Cast, Frame, Seen

PROMPT: Final = "\x1b[0;90m$\x1b[0m "
TERMINAL: Final = {"TERM": "xterm-256color", "LANG": "C.UTF-8", "TZ": "UTC"}
# Variables that would change what commands print, or what `make` does.
FOREIGN: Final = re.compile(
    r"MAKE|MFLAGS|NO_COLOR|FORCE_COLOR|COLORTERM|COLUMNS|LINES|CLERK_(?!SUPABASE_TOOLS)|AWS_|DATABASE_URL"
)
_FAINT: Final = re.compile(r"\x1b\[2m")
_KEY_SECONDS: Final = 0.045
_PAUSE_SECONDS: Final = 0.8
# Programs seem three times as fast as they are. Longer waits are cut, and faster changes are one.
_SPEED: Final = 3
_IDLE_SECONDS: Final = 1.0
_FRAME_SECONDS: Final = 0.15


class CommandFailed(Exception):
    """A recorded command ended with an error, or did not print what its recording waits for."""


class Recorder:
    """A terminal that remembers its screens."""

    def __init__(self, title: str, columns: int, rows: int, *, folder: Path, hide: Callable[[str], str]) -> None:
        """*folder*: where commands run. *hide*: replaces what no picture may show, such as keys and paths."""
        self.title = title
        self.frames: list[Frame] = []
        self._size = columns, rows
        self._seen = Seen(columns, rows)
        self._folder = folder
        self._hide = hide
        self._seconds = 0.0

    @property
    def cast(self) -> Cast:
        """The recording so far."""
        return Cast.showing(self.title, *self._size, self.frames)

    @property
    def text(self) -> str:
        """The screen as it is now."""
        return self.frames[-1].text if self.frames else ""

    def type(self, command: str) -> None:
        """Shows a command as a person types it."""
        for text in (PROMPT, *command, "\r\n"):
            self._seen.feed(text)
            self._seconds += _KEY_SECONDS
            self._remember(at_once=True)

    def pause(self) -> None:
        """Leaves time to read."""
        self._seconds += _PAUSE_SECONDS

    def run(self, *command: str, environment: Mapping[str, str] | None = None) -> None:
        """Runs a command to its end. Raises CommandFailed."""
        with self.running(*command, environment=environment) as process:
            process.wait()
        if process.returncode:
            raise CommandFailed(f"{' '.join(command)} ended with {process.returncode}:\n{self.text}")

    @contextmanager
    def running(self, *command: str, environment: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
        """Runs a command during the block, and interrupts it at the end if it still runs."""
        inherited = {name: value for name, value in os.environ.items() if not FOREIGN.match(name)}
        ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, self._size[::-1])
        process = subprocess.Popen(
            command,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=self._folder,
            env={**inherited, **TERMINAL, **(environment or {})},
            start_new_session=True,
        )
        os.close(theirs)
        reader = threading.Thread(target=self._read, args=[ours], daemon=True)
        reader.start()
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGINT)
            process.wait()
            reader.join()
            os.close(ours)

    def _read(self, terminal: int) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")()
        last = time.monotonic()
        while data := _read_some(terminal):
            now = time.monotonic()
            self._seconds += min(now - last, _IDLE_SECONDS) / _SPEED
            last = now
            self._seen.feed(_FAINT.sub("\x1b[90m", self._hide(decoder.decode(data))))
            self._remember()

    def _remember(self, *, at_once: bool = False) -> None:
        at, lines = self._seconds, self._seen.lines
        if self.frames and lines == self.frames[-1].lines:
            return
        if not self.frames or (at_once or at - self.frames[-1].at >= _FRAME_SECONDS):
            self.frames.append(Frame(at, lines))
        else:
            self.frames[-1] = Frame(self.frames[-1].at, lines)


def _read_some(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65_536)
    except OSError:
        # Linux's answer after the last process has closed the terminal.
        return b""


def hiding(replacements: Sequence[tuple[str, str]]) -> Callable[[str], str]:
    """Replaces each pattern by a text, in the given order."""
    patterns = [(re.compile(pattern), text) for pattern, text in replacements]

    def hide(text: str) -> str:
        for pattern, replacement in patterns:
            text = pattern.sub(replacement, text)
        return text

    return hide
