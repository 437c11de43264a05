"""The terminal, for lists, colours and bars: foreign text is shown, and neither obeyed nor styled."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import IO, Final

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text
from rich.theme import Theme

from clerk_supabase_cli.printing import cells, folds, printable, shown, width_of

# The colours of all commands. A word always says the same: ok, warn, fail, error, stuck.
GOOD: Final = "green"
DOUBTFUL: Final = "yellow"
BAD: Final = "bold red"
STRONG: Final = "bold"
ASIDE: Final = "dim"

_THEME: Final = Theme(
    {
        **dict.fromkeys(("bar.complete", "bar.finished", "bar.pulse", "progress.download"), GOOD),
        **dict.fromkeys(("progress.elapsed", "progress.remaining", "progress.percentage"), "none"),
        **dict.fromkeys(("progress.spinner", "progress.data.speed", "progress.filesize"), "none"),
        **dict.fromkeys(("progress.filesize.total", "bar.back"), ASIDE),
    }
)
"""The bars in the colours above; numbers and times have none."""
_GAP: Final = "  "
_BELOW: Final = 4
"""The indent of what does not fit beside the first columns."""


class Terminal(Console):
    """Prints text as text: no markup such as `[red]`, no `:emoji:`, no coloured numbers, and no escape but its own.

    In a pipe no line is folded, so that programs read whole lines.
    """

    def __init__(
        self, *, stderr: bool = False, file: IO[str] | None = None, width: int | None = None, wide: bool = False
    ) -> None:
        """*stderr*: print on standard error. *file*, *width*: replace the real terminal and its width.

        *wide*: fold no line.
        """
        super().__init__(
            stderr=stderr, file=file, width=width, markup=False, emoji=False, highlight=False, theme=_THEME
        )
        self._folds_at = width
        self._is_wide = wide

    @property
    def columns(self) -> int | None:
        """The width at which lines are folded; None for lines of any width."""
        return None if self._is_wide else self._folds_at or width_of(self.file)

    @property
    def is_live(self) -> bool:
        """Tells whether a person looks at it: a bar can move, and a line can be replaced."""
        return width_of(self.file) is not None and not self.is_dumb_terminal

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The pieces of the output; rich calls the method for each piece, also for the cells of a table."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else shown(text), style, control)

    def say(self, text: str | Text, style: str = "", *, indent: int = 2) -> None:
        """Prints a line, which may be foreign text, folded between words; *indent*: for all parts but the first."""
        self._print(folded(_cell(text, style), self.columns, indent))

    def show(self, *parts: Listing | Text) -> None:
        """Prints lists and lines."""
        for number, each in enumerate(parts):
            if number and isinstance(each, Listing):
                self.say("")
            self._print(each.lines(self.columns) if isinstance(each, Listing) else folded(each, self.columns, 2))

    def _print(self, lines: Iterable[Text]) -> None:
        for each in lines:
            # Without `soft_wrap`, rich folds inside words what is wider than the terminal.
            self.print(each, soft_wrap=True)


class Listing:
    """A list with headings, the most important first: each row is one line, with more lines only if they are needed.

    On a terminal too narrow for a row, the columns that do not fit follow below the row, each with its heading.
    """

    def __init__(self, *headings: str, numbers: Collection[str] = ()) -> None:
        """*numbers*: the headings of columns with numbers, which end at the same place."""
        self._headings = headings
        self._numbers = numbers
        self._rows: list[Sequence[Text]] = []

    def __len__(self) -> int:
        """The number of rows."""
        return len(self._rows)

    def add_row(self, *row: str | Text) -> None:
        """Adds the cells of a row, which may be foreign text."""
        self._rows.append([_cell(each) for each in row])

    def lines(self, width: int | None) -> Iterator[Text]:
        """The lines for a terminal of this width; None: any width."""
        headings = [Text(printable(each), STRONG) for each in self._headings]
        widths = [max(cells(each.plain) for each in column) for column in zip(headings, *self._rows, strict=True)]
        beside = _beside(widths, width)
        yield self._beside_each_other(headings, widths, beside)
        below = [place for place in range(len(widths)) if place not in beside]
        for row in self._rows:
            yield self._beside_each_other(row, widths, beside)
            if width is not None:
                parts = [Text(f"{self._headings[place]}: ") + row[place] for place in below if row[place].plain]
                yield from _packed(parts, width)

    def _beside_each_other(self, row: Sequence[Text], widths: Sequence[int], beside: Sequence[int]) -> Text:
        line = Text()
        for place in beside:
            blanks = " " * (widths[place] - cells(row[place].plain))
            line += Text(_GAP if place else "")
            line += Text(blanks) + row[place] if self._headings[place] in self._numbers else row[place] + Text(blanks)
        line.rstrip()
        return line


def folded(text: Text, width: int | None, indent: int) -> Iterator[Text]:
    """The lines of a text, folded between words; *indent*: for all lines but the first."""
    if width is None or cells(text.plain) <= width:
        yield text
        return
    indent = min(indent, width // 2)
    for start, end in folds(text.plain, width, indent):
        yield Text(" " * indent if start else "") + text[start:end]


def _cell(text: str | Text, style: str = "") -> Text:
    return text if isinstance(text, Text) else Text(printable(text), style)


def _beside(widths: Sequence[int], width: int | None) -> Sequence[int]:
    """The places of the columns that fit beside each other: the first, and each that has room after the others."""
    beside, used = [0], widths[0]
    for place, each in enumerate(widths[1:], 1):
        if width is None or used + len(_GAP) + each <= width:
            beside.append(place)
            used += len(_GAP) + each
    return beside


def _packed(parts: Iterable[Text], width: int) -> Iterator[Text]:
    """Lines with as many whole parts as fit, below a row; a part wider than a line is folded."""
    line = Text()
    for part in parts:
        if line.plain and _BELOW + cells(line.plain) + len(_GAP) + cells(part.plain) > width:
            yield from folded(Text(" " * _BELOW) + line, width, _BELOW + 2)
            line = Text()
        line += Text(_GAP if line.plain else "") + part
    if line.plain:
        yield from folded(Text(" " * _BELOW) + line, width, _BELOW + 2)
