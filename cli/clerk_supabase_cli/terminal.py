"""The terminal, for tables, colours and bars: foreign text is shown, and neither obeyed nor styled."""

from __future__ import annotations

from collections.abc import Iterable
from typing import IO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Column, Table

from clerk_supabase_cli.printing import shown


class Terminal(Console):
    """Prints text as text: no markup such as `[red]`, no `:emoji:`, and no escape sequence but its own."""

    def __init__(self, *, stderr: bool = False, file: IO[str] | None = None, width: int | None = None) -> None:
        """*stderr*: print on standard error. *file*, *width*: replace the real terminal and its width."""
        super().__init__(stderr=stderr, file=file, width=width, markup=False, emoji=False)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The pieces of the output; rich calls the method for each piece, also for the cells of a table."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else shown(text), style, control)


def table(*headings: str) -> Table:
    """Makes a table without rows, which cuts no cell: a text too long for its column goes on in the next line."""
    return Table(*(Column(heading, overflow="fold") for heading in headings))
