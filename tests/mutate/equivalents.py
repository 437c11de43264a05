"""Mutants that change nothing anybody could notice: each is listed with its reason."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.mutate.mutants import Mutant

Key = tuple[str, str, str]


class ListIsWrong(Exception):
    """The list cannot be read, or names a mutant that does not exist."""


@dataclass(frozen=True, slots=True)
class Equivalent:
    """A mutant that does the same as the code."""

    key: Key
    reason: str


def read(path: Path) -> list[Equivalent]:
    """Read the list: paragraphs of a file name, `- before`, `+ after` and `= reason`."""
    found = []
    for paragraph in path.read_text(encoding="utf-8").split("\n\n"):
        lines = [line for line in paragraph.splitlines() if line and not line.startswith("#")]
        if not lines:
            continue
        if [line[:2] for line in lines[1:]] != ["- ", "+ ", "= "]:
            raise ListIsWrong(
                f"{path.name}: a file, `- before`, `+ after` and `= reason` are expected, not\n{paragraph}"
            )
        file, old, new, reason = (lines[0], *(line[2:].strip() for line in lines[1:]))
        found.append(Equivalent((file, old, new), reason))
    return found


def check(listed: Iterable[Equivalent], there: Collection[Key]) -> None:
    """Raise ListIsWrong for what is listed and no longer there."""
    gone = [each.key for each in listed if each.key not in there]
    if gone:
        said = "\n\n".join(as_text(*key) for key in gone)
        raise ListIsWrong(f"no such mutant any more: correct the list of equivalents\n{said}")


def without(mutants: Iterable[Mutant], listed: Iterable[Equivalent]) -> list[Mutant]:
    """The mutants that a test has to notice."""
    keys = {each.key for each in listed}
    return [each for each in mutants if each.key not in keys]


def as_text(file: str, old: str, new: str) -> str:
    """A mutant as it stands in the list, without a reason."""
    return f"{file}\n- {old}\n+ {new}"
