"""The dashboard of template.yaml as an SVG, with numbers of the stack on this machine.

Titles, places, metrics, labels, statistics and axes come from the body of the dashboard. CloudWatch draws steps of five
minutes; here a step has some seconds, because nobody waits for hours.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import quantiles
from textwrap import wrap
from typing import Any, Final
from xml.sax.saxutils import escape

COLUMN: Final = 43
ROW: Final = 40
GAP: Final = 5
MARGIN: Final = 12
FOOT: Final = 26
LEFT: Final = 44
RIGHT: Final = 44
LEGEND_LINE: Final = 15
# The width of a letter in a label of 11 pixels, and in a title of 13 pixels.
LETTER: Final = 6.1
TITLE_LETTERS: Final = 60
# Each colour in the light and in the dark theme.
PALETTE: Final = (
    ("#0757b0", "#79b8ff"),
    ("#c4450c", "#ff9d5c"),
    ("#116329", "#4ac26b"),
    ("#b4232c", "#ff7b72"),
    ("#7a3fb0", "#d2a8ff"),
    ("#7d4e00", "#d9a92c"),
    ("#a3276f", "#f778ba"),
    ("#1b6f77", "#56d4dd"),
    ("#57606a", "#b1bac4"),
    ("#4d7a00", "#a5d65a"),
    ("#0a3069", "#a5c8ff"),
    ("#8c4a2f", "#e0a58a"),
)
_THEMES: Final = {
    "paper": ("fill:#f3f5f7", "fill:#0d1117"),
    "card": ("fill:#ffffff;stroke:#d1d9e0", "fill:#161b22;stroke:#30363d"),
    "grid": ("stroke:#e3e7eb", "stroke:#2b3139"),
    "strong": ("fill:#1f2328", "fill:#e6edf3"),
    "aside": ("fill:#59636e", "fill:#9aa4ae"),
}


class CannotDraw(Exception):
    """The body of the dashboard has something that this module does not draw."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """Values of metrics, each with its second."""

    seconds: int
    """The length of the recording."""
    step: int
    """Seconds that become one point."""
    values: Mapping[str, Sequence[tuple[float, float]]]
    """By `key_of` a metric; a metric without data has no values."""

    @classmethod
    def of(cls, source: str) -> Numbers:
        """The numbers in a file."""
        return cls(**json.loads(source))

    def written(self) -> str:
        """The content of a file: a line for each metric."""
        lines = ",\n".join(f"  {json.dumps(key)}: {json.dumps(self.values[key])}" for key in sorted(self.values))
        return f'{{"seconds": {self.seconds}, "step": {self.step}, "values": {{\n{lines}\n}}}}\n'

    def points(self, key: str, statistic: str) -> list[tuple[float, float]]:
        """The points of a metric: a statistic of the values within each step."""
        steps: dict[int, list[float]] = defaultdict(list)
        for second, value in self.values.get(key, []):
            steps[int(second // self.step)].append(value)
        return [(step * self.step, _statistic(statistic, steps[step])) for step in sorted(steps)]


def key_of(namespace: str, name: str, dimensions: Mapping[str, str]) -> str:
    """The name of a metric in a file of numbers."""
    return " ".join([namespace, name, *(f"{key}={value}" for key, value in sorted(dimensions.items()))])


@dataclass(frozen=True, slots=True)
class Series:
    """A metric of a widget."""

    label: str
    points: Sequence[tuple[float, float]]
    is_right: bool
    colour: int


def shown_by(widgets: Sequence[Mapping[str, Any]]) -> set[str]:
    """The keys of all metrics of a dashboard."""
    return {_key(metric) for widget in widgets for metric in widget["properties"].get("metrics", [])}


def svg_of(widgets: Sequence[Mapping[str, Any]], numbers: Numbers) -> str:
    """The picture of a dashboard. Raises CannotDraw."""
    width = 2 * MARGIN + COLUMN * max(each["x"] + each["width"] for each in widgets)
    height = 2 * MARGIN + FOOT + ROW * max(each["y"] + each["height"] for each in widgets)
    title = "The CloudWatch dashboard: differences, lag, queues, what is stuck, answers, results and crashes"
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'role="img">\n<title>{title}</title>\n<style>\n{_style()}</style>\n'
        f'<rect class="paper" width="{width}" height="{height}" rx="8"/>\n'
    )
    foot = (
        f"Drawn by `make pictures` from template.yaml, with {numbers.seconds} s of traffic on the stack of `make dev`: "
        f"one point is {numbers.step} s here, and 5 min on AWS."
    )
    said = f'<text class="aside" x="{MARGIN + GAP}" y="{height - MARGIN - 6}">{foot}</text>\n'
    return f"{head}{''.join(_widget(each, numbers) for each in widgets)}{said}</svg>\n"


def _widget(widget: Mapping[str, Any], numbers: Numbers) -> str:
    said = widget["properties"]
    if widget["type"] != "metric" or said["view"] != "timeSeries":
        raise CannotDraw(f"a widget of the type {widget['type']}, {said.get('view')}: {said.get('title')}")
    left, top = MARGIN + GAP + widget["x"] * COLUMN, MARGIN + GAP + widget["y"] * ROW
    width, height = widget["width"] * COLUMN - 2 * GAP, widget["height"] * ROW - 2 * GAP
    series = list(_series(said, numbers))
    titles = wrap(said["title"], TITLE_LETTERS)
    legend, lines = _legend(series, left + 12, width - 24)
    bottom = top + height - 10 - lines * LEGEND_LINE
    plot = _Plot(left + LEFT, top + 20 + 17 * len(titles), left + width - RIGHT, bottom - 24, numbers.seconds)
    return "".join(
        [
            f'<rect class="card" x="{left}" y="{top}" width="{width}" height="{height}" rx="6"/>\n',
            *(
                f'<text class="strong title" x="{left + 12}" y="{top + 21 + 17 * number}">{escape(text)}</text>\n'
                for number, text in enumerate(titles)
            ),
            plot.drawn(series),
            f'<g transform="translate(0 {bottom + 10})">\n{legend}</g>\n',
        ]
    )


def _series(said: Mapping[str, Any], numbers: Numbers) -> Iterator[Series]:
    for place, metric in enumerate(said["metrics"]):
        options = metric[-1] if isinstance(metric[-1], dict) else {}
        points = numbers.points(_key(metric), options.get("stat", said["stat"]))
        label = options.get("label", metric[1])
        yield Series(label, points, options.get("yAxis") == "right", place % len(PALETTE))


def _key(metric: Sequence[Any]) -> str:
    namespace, name, *words = (each for each in metric if isinstance(each, str))
    return key_of(namespace, name, dict(zip(words[::2], words[1::2], strict=True)))


@dataclass(frozen=True, slots=True)
class _Plot:
    """The part of a widget with axes and lines."""

    left: float
    top: float
    right: float
    bottom: float
    seconds: int

    def drawn(self, series: Sequence[Series]) -> str:
        drawn = list(self._grid())
        for is_right in (False, True):
            shown = [each for each in series if each.is_right == is_right and each.points]
            if shown:
                most = _round_up(max(value for each in shown for _, value in each.points))
                drawn += self._axis(most, is_right=is_right)
                drawn += [self._line(each, most) for each in shown]
        if not any(each.points for each in series):
            middle = (self.left + self.right) / 2, (self.top + self.bottom) / 2
            drawn.append(_text(*middle, "no data: only AWS measures this", "middle"))
        return "".join(drawn)

    def _grid(self) -> Iterator[str]:
        for share in (0, 0.5, 1):
            y = self.bottom - share * (self.bottom - self.top)
            yield f'<path class="grid" d="M{self.left:g} {y:g}H{self.right:g}"/>\n'
        for share in (0, 0.5, 1):
            x = self.left + share * (self.right - self.left)
            yield _text(x, self.bottom + 14, f"{share * self.seconds:g} s", "middle")

    def _axis(self, most: float, *, is_right: bool) -> Iterator[str]:
        x, anchor = (self.right + 6, "start") if is_right else (self.left - 6, "end")
        for share in (0, 0.5, 1):
            y = self.bottom - share * (self.bottom - self.top) + 4
            yield _text(x, y, _short(share * most), anchor)

    def _line(self, series: Series, most: float) -> str:
        places = [
            (
                self.left + second / self.seconds * (self.right - self.left),
                self.bottom - value / most * (self.bottom - self.top),
            )
            for second, value in series.points
        ]
        path = " ".join(f"{x:.1f} {y:.1f}" for x, y in places)
        dashes = ' stroke-dasharray="4 3"' if series.is_right else ""
        dots = "".join(f'<circle class="f{series.colour}" cx="{x:.1f}" cy="{y:.1f}" r="2"/>' for x, y in places)
        return f'<path class="s{series.colour}" d="M{path}"{dashes}/>{dots if len(places) < 16 else ""}\n'


def _legend(series: Sequence[Series], left: float, width: float) -> tuple[str, int]:
    """The labels of the lines, and how many lines of text they take; last, the labels without any number."""
    drawn, x, line = [], 0.0, 0
    for each in [each for each in series if each.points]:
        needed = 20 + LETTER * len(each.label) + 8
        if x and x + needed > width:
            x, line = 0, line + 1
        y = line * LEGEND_LINE
        drawn.append(f'<rect class="f{each.colour}" x="{left + x:g}" y="{y - 4}" width="12" height="3"/>\n')
        drawn.append(_text(left + x + 17, y, each.label, "start"))
        x += needed
    line += bool(drawn)
    without = ", ".join(each.label for each in series if not each.points)
    for text in wrap(f"no data: {without}", int(width / LETTER)) if without else []:
        drawn.append(_text(left, line * LEGEND_LINE, text, "start"))
        line += 1
    return "".join(drawn), line


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text class="aside" x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(text)}</text>\n'


def _style() -> str:
    light, dark = (
        "".join(f".{name}{{{rules[theme]}}}\n" for name, rules in _THEMES.items())
        + "".join(
            f".f{number}{{fill:{colours[theme]}}}.s{number}{{stroke:{colours[theme]}}}\n"
            for number, colours in enumerate(PALETTE)
        )
        for theme in (0, 1)
    )
    return (
        "text{font:11px system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif}\n"
        ".title{font-size:13px;font-weight:600}\npath{fill:none;stroke-width:1.5}\n"
        f"{light}@media (prefers-color-scheme:dark){{\n{dark}}}\n"
    )


def _statistic(name: str, values: Sequence[float]) -> float:
    match name:
        case "Sum":
            return sum(values)
        case "Maximum":
            return max(values)
        case percentile if percentile.startswith("p") and percentile[1:].isdigit():
            parts = quantiles(values, n=100, method="inclusive") if len(values) > 1 else [values[0]] * 99
            return float(parts[int(percentile[1:]) - 1])
    raise CannotDraw(f"the statistic {name}")


def _round_up(most: float) -> float:
    """The end of an axis: a number whose half is short, too."""
    if most <= 0:
        return 1
    unit = 10 ** math.floor(math.log10(most))
    return float(next(step * unit for step in (1, 2, 3, 4, 5, 6, 8, 10) if step * unit >= most))


def _short(value: float) -> str:
    return f"{value / 1000:g}k" if value >= 1000 else f"{value:.3g}"
