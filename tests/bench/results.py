"""Results of measurements, and their form on the screen."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from rich.console import Console
from rich.table import Table

Verdict = Literal["ok", "MISSED", "unclear"]
_COLORS: Final[Mapping[Verdict, str]] = {"ok": "green", "MISSED": "bold red", "unclear": "yellow"}


@dataclass(frozen=True, slots=True)
class Target:
    """The aim for a number: at most, or at least, this value."""

    limit: float
    at_least: bool = False

    def met_by(self, value: float) -> bool:
        return value >= self.limit if self.at_least else value <= self.limit

    def verdict_on(self, spread: tuple[float, float]) -> Verdict:
        """The verdict on the smallest and the largest value measured; `unclear` when the limit lies between them."""
        met = {self.met_by(value) for value in spread}
        return "unclear" if len(met) > 1 else "ok" if met == {True} else "MISSED"

    def __str__(self) -> str:
        return f"{'>=' if self.at_least else '<='} {self.limit:g}"


@dataclass(frozen=True, slots=True)
class Result:
    """One line: the baseline, this project's figure, and the number of the target."""

    name: str
    baseline: str
    ours: str
    value: float
    unit: str = ""
    target: Target | None = None
    details: tuple[str, ...] = ()
    """Printed below the table."""
    spread: tuple[float, float] | None = None
    """The smallest and the largest value in groups of turns; None for a number that is counted, not timed."""

    @property
    def verdict(self) -> Verdict | None:
        """Only printed, never enforced: a measurement on a shared machine must not fail a build.

        A value is *ok* when the whole spread meets the target.
        """
        return None if self.target is None else self.target.verdict_on(self.spread or (self.value, self.value))


def duration(seconds: float) -> str:
    """Three digits and a unit."""
    if seconds >= 1:
        return f"{seconds:.3g} s"
    if seconds >= 1e-3:
        return f"{seconds * 1e3:.3g} ms"
    return f"{seconds * 1e6:.3g} us"


def show(results: Sequence[Result], console: Console) -> None:
    """Prints the table."""
    table = Table("measured", "baseline", "ours", "value", "spread", "target", "")
    for result in results:
        target = "" if result.target is None else str(result.target)
        value = f"{result.value:.3g} {result.unit}" if result.unit != "x" else f"{result.value:.2f} x"
        spread = "" if result.spread is None else f"{result.spread[0]:.3g} to {result.spread[1]:.3g}"
        verdict = "" if result.verdict is None else f"[{_COLORS[result.verdict]}]{result.verdict}[/]"
        table.add_row(result.name, result.baseline, result.ours, value.strip(), spread, target, verdict)
    console.print(table)
    for result in results:
        for detail in result.details:
            console.print(f"{result.name}: {detail}", markup=False, soft_wrap=True)


def write(results: Sequence[Result], file: Path) -> None:
    """The numbers alone, for programs: by name, each with its unit."""
    numbers = {each.name: {"value": float(f"{each.value:.4g}"), "unit": each.unit} for each in results}
    file.write_text(f"{json.dumps(numbers, indent=2)}\n", encoding="utf-8")
