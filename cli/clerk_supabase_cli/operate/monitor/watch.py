"""`clerk-supabase status --watch`: the status again and again, in place on a terminal, and as changes in a pipe."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from rich.console import Group
from rich.live import Live
from rich.text import Text

from clerk_supabase_cli.operate.monitor.report import NOTHING, report, verdict
from clerk_supabase_cli.operate.queues import IN_WORDS
from clerk_supabase_cli.operate.status import Status
from clerk_supabase_cli.printing import in_utc
from clerk_supabase_cli.terminal import BAD, GOOD, STRONG, Listing, Terminal, folded

# A problem with another number is still the same problem, also after "1 event waits".
_NUMBER: Final = re.compile(r"\d[\d,.:]*( events? waits?| \w+)?")


def watch(
    look: Callable[[], Status],
    console: Terminal,
    pause: Callable[[], None],
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Status:
    """Looks until Ctrl-C, also while the database is unavailable. Returns the last status.

    *pause* waits between two looks.
    """
    show = _redrawn if console.is_live else _changes
    return show(_looks(look, clock), console, pause)


def _looks(look: Callable[[], Status], clock: Callable[[], datetime]) -> Iterator[tuple[datetime, Status]]:
    """The time and the result of each look. An outage of the functions keeps its begin, also when logs name another."""
    since = None
    while True:
        status = look()
        if status.outage is None:
            since = None
        else:
            since = min(since or status.outage.since, status.outage.since)
            status = replace(status, outage=replace(status.outage, since=since))
        yield clock(), status


def _redrawn(looks: Iterator[tuple[datetime, Status]], console: Terminal, pause: Callable[[], None]) -> Status:
    now, status = next(looks)
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        try:
            while True:
                live.update(Group(*_screen(now, status, console.columns)), refresh=True)
                pause()
                now, status = next(looks)
        except KeyboardInterrupt:
            return status


def _screen(now: datetime, status: Status, width: int | None) -> Iterator[Text]:
    """The lines of a look. Problems come first: a low terminal cuts the rest."""
    yield Text(f"{in_utc(now)} UTC; Ctrl-C ends it", STRONG)
    for part in (*verdict(status), *report(status, with_verdict=False)):
        if isinstance(part, Listing):
            yield Text()
            yield from part.lines(width)
        else:
            yield from folded(part, width, 2)


def _changes(looks: Iterator[tuple[datetime, Status]], console: Terminal, pause: Callable[[], None]) -> Status:
    now, status = next(looks)
    numbers: Mapping[str, str] = {}
    problems: Mapping[str, str] | None = None
    try:
        while True:
            before, numbers = numbers, _numbers(status)
            for what, number in numbers.items():
                if before.get(what) != number:
                    console.say(f"{in_utc(now)} UTC  {what}: {number}")
            was, problems = problems, {_NUMBER.sub("0", each): each for each in status.problems}
            for words, style in _of_problems(was, problems):
                console.say(f"{in_utc(now)} UTC  {words}", style)
            pause()
            now, status = next(looks)
    except KeyboardInterrupt:
        return status


def _numbers(status: Status) -> dict[str, str]:
    """The numbers whose changes are printed, by what they count."""
    queues = {
        f"{IN_WORDS[name]} queue": f"{depth.waiting} waiting, {depth.in_flight} in flight, {depth.delayed} delayed"
        for name, depth in (status.queues or {}).items()
    }
    if status.database is None:
        return queues
    events = ", ".join(f"{number} {state}" for state, number in status.database.events.items() if number)
    return {**queues, "events ever parked": events or "none"}


def _of_problems(was: Mapping[str, str] | None, now: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The words for each problem that is new or over, each with its colour. *was*: None at the first look."""
    known = was or {}
    for each, words in now.items():
        if known.get(each) != words:
            yield f"stuck: {words}", BAD
    for each in sorted(known.keys() - now.keys()):
        yield f"no longer stuck: {known[each]}", GOOD
    if not now and (known or was is None):
        yield NOTHING, GOOD
