"""`clerk-supabase status --watch`, with made-up looks."""

from __future__ import annotations

import contextlib
import io
import os
import pty
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from clerk_supabase_cli.operate.monitor.function_logs import Outage
from clerk_supabase_cli.operate.monitor.status import Status
from clerk_supabase_cli.operate.monitor.watch import watch
from clerk_supabase_cli.operate.queues import Depth
from clerk_supabase_cli.terminal import Terminal
from tests.kit.screens import made_up_status

IN_FUNCTIONS = "the database is unavailable to the functions since 2026-11-28 12:00:00 UTC; 3 events wait; down"
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
        "20 UTC  the database answers again, after 20 s",
        "20 UTC  nothing is stuck",
    ]
    assert last.problems == []


def test_the_queues_are_called_by_their_terms() -> None:
    out = io.StringIO()
    depths = {"dead_letters": Depth(1, 0, 0, None), "parked": Depth(0, 0, 0, None)}
    watched(Terminal(file=out), Status(None, depths, {}, {}))  # type: ignore[arg-type]
    assert [line.partition("UTC  ")[2] for line in out.getvalue().splitlines()] == [
        "dead-letter queue: 1 waiting, 0 in flight, 0 delayed",
        "parked queue: 0 waiting, 0 in flight, 0 delayed",
        "stuck: 1 event in the dead-letter queue, failed five times",
    ]


def test_an_outage_that_goes_on_for_the_functions_alone_ends_later() -> None:
    out = io.StringIO()
    of_all = looked(3, "down")
    of_functions = replace(of_all, failed={}, is_unreachable=False)
    watched(Terminal(file=out), of_all, of_functions, of_functions, looked(0))
    assert [line.partition("UTC  ")[2] for line in out.getvalue().splitlines() if "queue:" not in line] == [
        "stuck: the database is unavailable since 2026-11-28 12:00:00 UTC; 3 events wait; down",
        "the database answers again, after 5.0 s",
        f"stuck: {IN_FUNCTIONS}; SQS delivers again within minutes",
        "the database answers the functions again, after 15 s",
        "nothing is stuck",
    ]


def test_a_number_that_an_outage_hid_is_printed_again_only_if_it_has_changed() -> None:
    out = io.StringIO()
    known = Status(made_up_status().database, None, {}, {})
    hidden = Status(None, None, {}, {"database": "down"})
    watched(Terminal(file=out), known, hidden, known)
    assert out.getvalue().count("events ever parked: ") == 1


def test_a_problem_that_is_over_is_named_without_its_advice() -> None:
    out = io.StringIO()
    frozen = Status(None, None, {}, {"queues": "AWS said no; continue it (kill -CONT)"})
    watched(Terminal(file=out), frozen, replace(frozen, failed={}))
    assert "UTC  no longer stuck: queues: AWS said no\n" in out.getvalue()
    assert out.getvalue().count("kill -CONT") == 1


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
