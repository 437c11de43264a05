"""The present page, shared by all viewers: its panels, and the rows of its live list."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

LISTED: Final = 100
"""The most rows of the live list, here and in a browser."""
_LEASE_SECONDS: Final = 20.0


@dataclass(frozen=True, slots=True)
class Message:
    """A message to the browser."""

    version: int
    name: str
    content: Mapping[str, str]

    def as_text(self) -> str:
        """The message in the form of server-sent events."""
        return f"id: {self.version}\nevent: {self.name}\ndata: {json.dumps(self.content)}\n\n"


class Hub:
    """Keeps the newest HTML of each panel, and the newest rows. Nothing here grows with the number of events.

    Threads publish; viewers ask for everything after the version that they have. A slow viewer skips what was replaced
    meanwhile, so no viewer needs a queue.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._version = 0
        self._panels: dict[str, tuple[int, str]] = {}
        self._rows: deque[tuple[int, str]] = deque(maxlen=LISTED)
        self._viewers: dict[asyncio.Event, asyncio.AbstractEventLoop] = {}
        self._wanted_until = -_LEASE_SECONDS
        self._wanted = threading.Event()

    # For the threads that look

    def publish(self, panels: Mapping[str, str]) -> None:
        """Replaces panels; an unchanged panel is not sent again."""
        with self._lock:
            changed = {name: html for name, html in panels.items() if self._panels.get(name, (0, ""))[1] != html}
            if not changed:
                return
            self._version += 1
            self._panels |= {name: (self._version, html) for name, html in changed.items()}
        self.wake()

    def append(self, rows: Sequence[str]) -> None:
        """Adds rows to the live list, oldest first."""
        if not rows:
            return
        with self._lock:
            self._version += 1
            self._rows.extend((self._version, row) for row in rows)
        self.wake()

    def wait_until_wanted(self, seconds: float) -> bool:
        """Waits, at most this time, until somebody looks at the page. Tells whether somebody does."""
        if self._clock() < self._wanted_until:
            return True
        self._wanted.clear()
        return self._wanted.wait(seconds)

    # For the viewers

    def touch(self) -> None:
        """Notes that somebody looks at the page now."""
        self._wanted_until = self._clock() + _LEASE_SECONDS
        self._wanted.set()

    def everything(self) -> tuple[int, Mapping[str, str], Sequence[str]]:
        """The version, the panels, and the rows, newest first."""
        with self._lock:
            panels = {name: html for name, (_, html) in self._panels.items()}
            return self._version, panels, [row for _, row in reversed(self._rows)]

    def after(self, version: int) -> Sequence[Message]:
        """The messages that bring a page from this version to the present."""
        with self._lock:
            now = self._version
            panels = [(name, html) for name, (of, html) in self._panels.items() if of > version]
            rows = [row for of, row in self._rows if of > version]
        messages = [Message(version, "panel", {"name": name, "html": html}) for name, html in panels]
        if rows:
            messages.append(Message(version, "rows", {"html": "".join(reversed(rows))}))
        # A browser that was cut off in between asks for all of them again.
        return [*messages[:-1], *(replace(last, version=now) for last in messages[-1:])]

    async def wait(self, version: int, seconds: float) -> None:
        """Waits, at most this time, for something newer than this version."""
        changed = asyncio.Event()
        with self._lock:
            if self._version > version:
                return
            self._viewers[changed] = asyncio.get_running_loop()
        try:
            await asyncio.wait_for(changed.wait(), seconds)
        except TimeoutError:
            pass
        finally:
            with self._lock:
                self._viewers.pop(changed, None)

    def wake(self) -> None:
        """Ends the waits of all viewers."""
        with self._lock:
            for event, loop in self._viewers.items():
                loop.call_soon_threadsafe(event.set)
