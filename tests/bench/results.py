"""Results of measurements, and their form on the screen."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Target:
    """The aim for a number: at most, or at least, this value."""

    limit: float
    at_least: bool = False

    def met_by(self, value: float) -> bool:
        return value >= self.limit if self.at_least else value <= self.limit

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

    @property
    def verdict(self) -> str:
        """The verdict is printed, never enforced: a measurement on a shared machine must not fail a build."""
        if self.target is None:
            return ""
        return "[green]ok[/]" if self.target.met_by(self.value) else "[bold red]MISSED[/]"


def cost(
    name: str, baseline: str, baseline_seconds: float, our_seconds: float, *, at_most: float | None = None
) -> Result:
    """The time as a multiple of the baseline, which does less."""
    return Result(
        name,
        f"{baseline}: {duration(baseline_seconds)}",
        duration(our_seconds),
        our_seconds / baseline_seconds,
        "x",
        None if at_most is None else Target(at_most),
    )


def gain(name: str, baseline: str, baseline_seconds: float, our_seconds: float, *, at_least: float) -> Result:
    """The speed as a multiple of the baseline, which does the same."""
    return Result(
        name,
        f"{baseline}: {duration(baseline_seconds)}",
        duration(our_seconds),
        baseline_seconds / our_seconds,
        "x faster",
        Target(at_least, at_least=True),
    )


def duration(seconds: float) -> str:
    """Three digits and a unit."""
    if seconds >= 1:
        return f"{seconds:.3g} s"
    if seconds >= 1e-3:
        return f"{seconds * 1e3:.3g} ms"
    return f"{seconds * 1e6:.3g} us"


def show(results: Sequence[Result], console: Console) -> None:
    """Prints the table."""
    table = Table("measured", "baseline", "ours", "value", "target", "")
    for result in results:
        target = "" if result.target is None else str(result.target)
        value = f"{result.value:.3g} {result.unit}" if result.unit != "x" else f"{result.value:.2f} x"
        table.add_row(result.name, result.baseline, result.ours, value.strip(), target, result.verdict)
    console.print(table)
    for result in results:
        for detail in result.details:
            console.print(f"{result.name}: {detail}", markup=False, soft_wrap=True)


def write(results: Sequence[Result], file: Path) -> None:
    """The numbers alone, for programs: by name, each with its unit."""
    numbers = {each.name: {"value": float(f"{each.value:.4g}"), "unit": each.unit} for each in results}
    file.write_text(f"{json.dumps(numbers, indent=2)}\n", encoding="utf-8")
