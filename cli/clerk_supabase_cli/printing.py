"""Prints foreign text safely, and times.

All output of commands for people goes through `say()`, or through the Terminal of terminal.py: control sequences from a
user of the app, the database, Clerk, AWS, a log or the environment are shown by the terminal, and never obeyed.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from typing import Any

import click


def printable(text: str) -> str:
    """A line with an escape for every character that a terminal would obey or hide."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def shown(text: str) -> str:
    """Lines of our own, escaped except for the ends of lines. Foreign text goes through `printable()` before."""
    return "\n".join(map(printable, text.split("\n")))


def say(text: str = "", *, err: bool = False) -> None:
    """Prints lines; *err*: on standard error."""
    click.echo(shown(text), err=err)


class StandardError(io.TextIOBase):
    """Standard error, for a logger of foreign text."""

    def write(self, text: str) -> int:
        """Prints the text. Returns its length."""
        click.echo(shown(text), nl=False, err=True)
        return len(text)


def in_utc(moment: datetime | None) -> str:
    """A moment to the second; empty for None."""
    return "" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def how_long(seconds: float) -> str:
    """A duration in the unit that a person would choose: `5.0 s`, `3 min`."""
    if seconds < 0:
        return f"-{how_long(-seconds)}"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.1f} s"


def counted(number: int, noun: str = "event") -> str:
    """A number with its noun: `1 event`, `2,000 rows`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def print_json(value: object) -> None:
    """Prints JSON for machines: dataclasses as objects, times in ISO 8601 and UTC."""
    say(json.dumps(value, indent=2, default=_as_json))


def _as_json(value: object) -> Mapping[str, Any] | Sequence[Any] | str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    raise TypeError(f"not to be written as JSON: {type(value).__name__}")
