"""Prints foreign text safely, and times.

All output of commands for people goes through `say()`, or through the Terminal of terminal.py: control sequences from a
user of the app, the database, Clerk, AWS, a log or the environment are shown by the terminal, and never obeyed.
"""

from __future__ import annotations

import io
import json
import os
import re
import sys
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from typing import Any, Final

import click

# A command to copy, or a word: no line ends inside.
_PIECE: Final = re.compile(r"(?:`[^`]+`|clerk-supabase(?: [^\s;,()]+)+)\S*|\S+")
_LEAST_WIDTH: Final = 20
_AS_SECONDS: Final = 0.9995
"""Seconds that would round to `1000 ms`."""
_WITHOUT_TENTHS: Final = 9.95
"""Seconds that round to `10.0 s`: from there on, tenths are noise."""
_FIELDS_OF_THE_LOGGER: Final = frozenset(
    {"level", "message", "location", "timestamp", "service", "version"}
    | {"exception_name", "stack_trace", "xray_trace_id"}
)


def printable(text: str) -> str:
    """A line with an escape for every character that a terminal would obey or hide."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def shown(text: str) -> str:
    """Lines of our own, escaped except for the ends of lines. Foreign text goes through `printable()` before."""
    return "\n".join(map(printable, text.split("\n")))


def say(text: str = "", *, err: bool = False, as_it_is: bool = False) -> None:
    """Prints lines, folded to the width of the terminal; *err*: on standard error.

    *as_it_is*: print text for machines, such as SQL, which no line may fold.
    """
    width = None if as_it_is else width_of(sys.stderr if err else sys.stdout)
    click.echo("\n".join(piece for line in shown(text).split("\n") for piece in _folded(line, width)), err=err)


class StandardError(io.TextIOBase):
    """Standard error, for a logger whose records are JSON: each becomes a line for people."""

    def write(self, text: str) -> int:
        """Prints the text. Returns its length."""
        for line in text.splitlines():
            say(printable(_record(line)), err=True)
        return len(text)


def _record(line: str) -> str:
    """`error: not repaired; reason: ...` for a record of the functions' logger; another line as it is."""
    try:
        fields: dict[str, Any] = json.loads(line)
        level, message = fields["level"], fields["message"]
    except (ValueError, TypeError, KeyError):
        return line
    details = [f"{name}: {value}" for name, value in fields.items() if name not in _FIELDS_OF_THE_LOGGER]
    return "; ".join([f"{str(level).lower()}: {message}", *details])


def width_of(stream: Any) -> int | None:
    """The number of columns of a terminal; None for a pipe or a file, whose lines may have any length."""
    try:
        if not stream.isatty():
            return None
        columns = int(os.environ.get("COLUMNS") or 0) or os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):
        return None
    return max(columns, _LEAST_WIDTH) if columns else None


def cells(text: str) -> int:
    """The number of columns that a text takes on a terminal."""
    return len(text) if text.isascii() else sum(map(_cells_of, text))


def folds(line: str, width: int, indent: int) -> Iterator[tuple[int, int]]:
    """The parts of a line, as pairs of offsets, each at most *width* columns wide; *indent*: for all but the first.

    A line ends between words only, and not inside a command. A longer word, such as an id, stays whole.
    """
    start = end = 0
    room = width
    for piece in _pieces(line, width - indent):
        if line[start:end].strip() and cells(line[start : piece[1]]) > room:
            yield start, end
            start, room = piece[0], width - indent
        end = piece[1]
    yield start, end


def _pieces(line: str, width: int) -> Iterator[tuple[int, int]]:
    for found in _PIECE.finditer(line):
        if cells(found[0]) <= width:
            yield found.span()
            continue
        for word in re.finditer(r"\S+", found[0]):
            yield found.start() + word.start(), found.start() + word.end()


def _folded(line: str, width: int | None) -> Iterator[str]:
    if width is None or cells(line) <= width:
        yield line
        return
    indent = min(len(line) - len(line.lstrip()) + 2, width // 2)
    for start, end in folds(line, width, indent):
        yield f"{' ' * indent if start else ''}{line[start:end]}"


def _cells_of(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in {"W", "F"} else 1


def in_utc(moment: datetime | None) -> str:
    """A moment to the second; empty for None."""
    return "" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def how_long(seconds: float) -> str:
    """A duration in the unit that a person would choose: `5.0 s`, `102 s`, `3 min`."""
    if seconds < 0:
        return f"-{how_long(-seconds)}"
    if seconds < _AS_SECONDS:
        return f"{seconds * 1000:.0f} ms"
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= _WITHOUT_TENTHS else f"{seconds:.1f} s"


def counted(number: int, noun: str = "event") -> str:
    """A number with its noun: `1 event`, `2,000 rows`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def print_json(value: object) -> None:
    """Prints JSON for machines: dataclasses as objects, times in ISO 8601 and UTC."""
    say(json.dumps(value, indent=2, default=_as_json), as_it_is=True)


def _as_json(value: object) -> Mapping[str, Any] | Sequence[Any] | str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    raise TypeError(f"not to be written as JSON: {type(value).__name__}")
