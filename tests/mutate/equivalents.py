"""Mutants without a noticeable effect: each is listed with its reason."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.mutate.mutants import Mutant

Name = tuple[str, str, str]
"""The changed function, class, table or resource (else the file), the lines before, and the lines after."""


class ListIsWrong(Exception):
    """The list cannot be read, or names a mutant that does not exist."""


@dataclass(frozen=True, slots=True)
class Equivalent:
    """A mutant that does the same as the code."""

    name: Name
    reason: str


def read(path: Path) -> list[Equivalent]:
    """Read the list: paragraphs of the changed name, `- before`, `+ after` and `= reason`."""
    found = []
    for paragraph in path.read_text(encoding="utf-8").split("\n\n"):
        lines = [line for line in paragraph.splitlines() if line and not line.startswith("#")]
        if not lines:
            continue
        if [line[:2] for line in lines[1:]] != ["- ", "+ ", "= "]:
            raise ListIsWrong(
                f"{path.name}: a name, `- before`, `+ after` and `= reason` are expected, not\n{paragraph}"
            )
        name, old, new, reason = (lines[0], *(line[2:].strip() for line in lines[1:]))
        found.append(Equivalent((name, old, new), reason))
    return found


def names_in(report: str) -> Iterator[Name]:
    """The mutants named in a report of survivors; all other text is ignored."""
    yield from re.findall(r"^(\S+)\n- (.*)\n\+ (.*)$", report, re.MULTILINE)


def check(listed: Iterable[Equivalent], there: Collection[Name]) -> None:
    """Raise ListIsWrong for a listed mutant that no longer exists."""
    gone = [each.name for each in listed if each.name not in there]
    if gone:
        said = "\n\n".join(as_text(name) for name in gone)
        raise ListIsWrong(f"no such mutant any more: correct the list of equivalents\n{said}")


def without(mutants: Iterable[Mutant], listed: Iterable[Equivalent]) -> list[Mutant]:
    """The mutants that a test has to notice."""
    names = {each.name for each in listed}
    return [each for each in mutants if each.name not in names]


def as_text(name: Name) -> str:
    """A mutant as it stands in the list, without a reason."""
    changed, old, new = name
    return f"{changed}\n- {old}\n+ {new}"
