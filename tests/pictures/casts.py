"""Recordings of a terminal, in asciinema's format asciicast v2, and the screens that they show."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import pyte
from pyte.screens import Char

# Colours of a terminal by pyte's names, each with the number that selects it. Any other colour is `rrggbb`.
COLOURS: Final = {
    name: number
    for start, prefix in ((30, ""), (90, "bright"))
    for number, name in enumerate(
        (f"{prefix}{each}" for each in ("black", "red", "green", "brown", "blue", "magenta", "cyan", "white")), start
    )
}


@dataclass(frozen=True, slots=True)
class Run:
    """Characters of one style within a line."""

    column: int
    text: str
    colour: str
    """A name of COLOURS, `rrggbb`, or `default`."""
    is_bold: bool


Line = tuple[Run, ...]


@dataclass(frozen=True, slots=True)
class Frame:
    """A screen, from a moment on."""

    at: float
    """Seconds since the start."""
    lines: tuple[Line, ...]

    @property
    def text(self) -> str:
        """The characters of the screen."""
        return "\n".join(_plain(line) for line in self.lines).rstrip()


@dataclass(frozen=True, slots=True)
class Cast:
    """A recording."""

    title: str
    columns: int
    rows: int
    output: tuple[tuple[float, str], ...]
    """Seconds since the start, and the text that the terminal got then."""

    @classmethod
    def of(cls, source: str) -> Cast:
        """The recording in a file of asciinema."""
        header, *events = map(json.loads, source.splitlines())
        output = tuple((at, data) for at, kind, data in events if kind == "o")
        return cls(header["title"], header["width"], header["height"], output)

    @classmethod
    def showing(cls, title: str, columns: int, rows: int, frames: Sequence[Frame]) -> Cast:
        """The shortest recording of these screens: only the lines that change."""
        empty: tuple[Line, ...] = ((),) * rows
        before = itertools.chain([empty], (frame.lines for frame in frames))
        output = tuple(
            (round(frame.at, 2), _escapes(old, frame.lines)) for old, frame in zip(before, frames, strict=False)
        )
        return cls(title, columns, rows, output)

    def written(self) -> str:
        """The content of a file of asciinema."""
        header = {"version": 2, "width": self.columns, "height": self.rows, "title": self.title}
        lines = [header, *([at, "o", data] for at, data in self.output)]
        return "".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in lines)

    def frames(self) -> Iterator[Frame]:
        """The screens, one for each output that changes something."""
        seen = Seen(self.columns, self.rows)
        shown: tuple[Line, ...] = ()
        for at, data in self.output:
            seen.feed(data)
            if (lines := seen.lines) != shown:
                shown = lines
                yield Frame(at, lines)


class Seen:
    """A terminal, and the lines on its screen."""

    def __init__(self, columns: int, rows: int) -> None:
        self._screen = pyte.Screen(columns, rows)
        self._stream = pyte.Stream(self._screen)
        self._lines: list[Line] = [()] * rows

    def feed(self, text: str) -> None:
        """Shows what a program prints."""
        self._stream.feed(text)

    @property
    def lines(self) -> tuple[Line, ...]:
        """The lines from top to bottom; only the changed ones are read again."""
        for row in self._screen.dirty:
            self._lines[row] = tuple(_runs(self._screen, row))
        self._screen.dirty.clear()
        return tuple(self._lines)


def _runs(screen: pyte.Screen, row: int) -> Iterator[Run]:
    cells = [(column, screen.buffer[row][column]) for column in range(screen.columns)]
    for (colour, is_bold), same in itertools.groupby(cells, key=lambda cell: _style(cell[1])):
        run = list(same)
        text = "".join(char.data for _, char in run)
        if text.strip():
            first = len(text) - len(text.lstrip())
            yield Run(run[first][0], text.strip(), colour, is_bold)


def _style(char: Char) -> tuple[str, bool]:
    return char.fg, char.bold


def _plain(line: Line) -> str:
    text = ""
    for run in line:
        text = f"{text:<{run.column}}{run.text}"
    return text


def _escapes(old: Sequence[Line], new: Sequence[Line]) -> str:
    changed = [row for row, (before, after) in enumerate(zip(old, new, strict=True)) if before != after]
    return "".join(f"\x1b[{row + 1}H\x1b[2K{''.join(map(_escaped, new[row]))}" for row in changed) + "\x1b[0m"


def _escaped(run: Run) -> str:
    selected = [0, *([1] if run.is_bold else []), *_numbers(run.colour)]
    return f"\x1b[{run.column + 1}G\x1b[{';'.join(map(str, selected))}m{run.text}"


def _numbers(colour: str) -> Sequence[int]:
    if colour == "default":
        return []
    return [COLOURS[colour]] if colour in COLOURS else [38, 2, *bytes.fromhex(colour)]
