"""`clerk-supabase status --watch`: the status again and again, in place on a terminal, and as changes in a pipe."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from rich.console import Group
from rich.live import Live
from rich.text import Text

from clerk_supabase_cli.operate.monitor.report import NOTHING, ever_parked, report, verdict
from clerk_supabase_cli.operate.monitor.status import Status, outage_problems
from clerk_supabase_cli.operate.queues import QUEUE_NAMES
from clerk_supabase_cli.printing import how_long, in_utc
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
    was: Status | None = None
    # During an outage the numbers of the database are not known, and afterwards most are as before.
    numbers: dict[str, str] = {}
    try:
        while True:
            for what, number in _numbers(status).items():
                if numbers.get(what) != number:
                    console.say(f"{in_utc(now)} UTC  {what}: {number}")
                numbers[what] = number
            for words, style in _of_problems(was, status, now):
                console.say(f"{in_utc(now)} UTC  {words}", style)
            pause()
            was, (now, status) = status, next(looks)
    except KeyboardInterrupt:
        return status


def _numbers(status: Status) -> dict[str, str]:
    """The numbers whose changes are printed, by what they count."""
    queues = {
        QUEUE_NAMES[name]: f"{depth.waiting} waiting, {depth.in_flight} in flight, {depth.delayed} delayed"
        for name, depth in (status.queues or {}).items()
    }
    if status.database is None:
        return queues
    return {**queues, "events ever parked": ever_parked(status.database.events)}


def _of_problems(was: Status | None, status: Status, now: datetime) -> Iterator[tuple[str, str]]:
    """The words for each problem that is new or over, each with its colour. *was*: None at the first look."""
    known = _by_kind(was.problems) if was else {}
    problems = _by_kind(status.problems)
    outages = _by_kind(outage_problems(was)) if was else {}
    if was and outages and (words := _end_of_outage(was, status, now)):
        yield words, GOOD
    for each, words in problems.items():
        if known.get(each) != words:
            yield f"stuck: {words}", BAD
    for each in sorted(known.keys() - problems.keys() - outages.keys()):
        # Without the advice, which was for the problem.
        yield f"no longer stuck: {known[each].partition('; ')[0]}", GOOD
    if not problems and (known or was is None):
        yield NOTHING, GOOD


def _by_kind(problems: Iterable[str]) -> dict[str, str]:
    """Each problem, by its words without numbers."""
    return {_NUMBER.sub("0", each): each for each in problems}


def _end_of_outage(was: Status, status: Status, now: datetime) -> str:
    """A sentence about the end of the outage of the look before; empty while that outage goes on."""
    if was.outage is None or (status.outage is not None and status.is_unreachable >= was.is_unreachable):
        return ""
    who = "answers again" if was.is_unreachable else "answers the functions again"
    return f"the database {who}, after {how_long((now - was.outage.since).total_seconds())}"
