"""`clerk-supabase status --watch`, with made-up looks."""

from __future__ import annotations

import contextlib
import io
import os
import pty
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest

from clerk_supabase_cli.operate.function_logs import Outage
from clerk_supabase_cli.operate.monitor.watch import watch
from clerk_supabase_cli.operate.queues import Depth
from clerk_supabase_cli.operate.status import Status
from clerk_supabase_cli.terminal import Terminal

BEGAN = datetime(2026, 11, 28, 12, tzinfo=UTC)


def looked(waiting: int, failed: str = "", *, minutes: int = 0) -> Status:
    """The status of a queue, with or without an outage of the database, which began some minutes after BEGAN."""
    queues = {"sync": Depth(waiting, 0, 0, 0.0)}
    if not failed:
        return Status(None, queues, {}, {})  # type: ignore[arg-type]
    since = BEGAN + timedelta(minutes=minutes)
    outage = Outage(since, since, failed)
    return Status(None, queues, {}, {"database": failed}, is_unreachable=True, outage=outage)  # type: ignore[arg-type]


def watched(console: Terminal, *looks: Status) -> Status:
    """Watches as many looks, five seconds apart, until Ctrl-C."""
    results, clock = iter(looks), moments()
    pauses = iter(range(len(looks) - 1))

    def pause() -> None:
        if next(pauses, None) is None:
            raise KeyboardInterrupt

    return watch(lambda: next(results), console, pause, clock)


def moments() -> Callable[[], datetime]:
    """A clock that goes five seconds forward at each look."""

    def all_of_them() -> Iterator[datetime]:
        now = BEGAN
        while True:
            yield now
            now += timedelta(seconds=5)

    clock = all_of_them()
    return lambda: next(clock)


def test_a_pipe_gets_a_line_for_each_change_and_the_begin_and_end_of_an_outage() -> None:
    out = io.StringIO()
    last = watched(Terminal(file=out), looked(0), looked(0), looked(1, "down"), looked(4, "down", minutes=1), looked(0))
    # The begin does not move, whatever the logs say later.
    unavailable = "stuck: the database is unavailable since 2026-11-28 12:00:00 UTC;"
    assert [line.removeprefix("2026-11-28 12:00:") for line in out.getvalue().splitlines()] == [
        "00 UTC  sync queue: 0 waiting, 0 in flight, 0 delayed",
        "00 UTC  nothing is stuck",
        "10 UTC  sync queue: 1 waiting, 0 in flight, 0 delayed",
        f"10 UTC  {unavailable} 1 event waits; down",
        "15 UTC  sync queue: 4 waiting, 0 in flight, 0 delayed",
        f"15 UTC  {unavailable} 4 events wait; down",
        "20 UTC  sync queue: 0 waiting, 0 in flight, 0 delayed",
        f"20 UTC  no longer {unavailable} 4 events wait; down",
        "20 UTC  nothing is stuck",
    ]
    assert last.problems == []


def test_a_terminal_is_redrawn_in_place_and_problems_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    reader, writer = pty.openpty()
    with os.fdopen(writer, "w") as terminal:
        watched(Terminal(file=terminal), looked(3), looked(1, "down"))
    text = b"".join(until_closed(reader)).decode()
    first, _, second = text.partition("12:00:05 UTC")
    assert "nothing is stuck" in first
    assert "\x1b[1A" in first  # up, over the lines of the look before
    assert second.index("the database is unavailable since") < second.index("in flight")


def until_closed(reader: int) -> Iterator[bytes]:
    """The text written into a terminal that is closed now."""
    with os.fdopen(reader, "rb", buffering=0) as terminal, contextlib.suppress(OSError):
        while part := terminal.read(4096):
            yield part
