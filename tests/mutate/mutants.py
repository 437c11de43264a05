"""A mutant: one small change of one file, which some test should notice."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

Change = tuple[int, int, str]
"""The start and the end of the old text, and the new text."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """A file in which the text from `start` to `end` is replaced."""

    file: str
    """Path below the root."""
    start: int
    end: int
    after: str
    line: int
    old: str
    """The changed lines as one, with single blanks."""
    new: str
    """The same lines after the change."""
    subject: str = ""
    """Name of the changed function, table or resource."""

    def applied(self, text: str) -> str:
        """The whole text of the file with the change."""
        return text[: self.start] + self.after + text[self.end :]

    @property
    def key(self) -> tuple[str, str, str]:
        """A key that stays the same when lines are added above."""
        return self.file, self.old, self.new

    @property
    def name(self) -> tuple[str, str, str]:
        """A key that survives a move of the code to another file: the file counts only without a subject."""
        return self.subject or Path(self.file).stem, self.old, self.new


def mutant(file: str, text: str, change: Change, subject: str = "") -> Mutant | None:
    """The mutant of a file with this text; None for a change of blanks alone."""
    start, end, after = change
    first = text.rfind("\n", 0, start) + 1
    last = text.find("\n", end)
    last = len(text) if last < 0 else last
    old = one_line(text[first:last])
    new = one_line(text[first:start] + after + text[end:last])
    if old == new:
        return None
    return Mutant(file, start, end, after, text.count("\n", 0, start) + 1, old, new, subject)


def one_line(text: str) -> str:
    """The text with single blanks and no ends of lines."""
    return re.sub(r"\s+", " ", text).strip()
