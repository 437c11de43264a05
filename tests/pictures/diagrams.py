"""Diagrams of boxes and arrows, drawn from text files.

A source has boxes on a grid (`at`: column and row, `size`: columns and rows) and arrows between boxes. An arrow is a
straight line, or a line through the points of `via`; its `text` stands at `at`, else above its longest part.
"""

from __future__ import annotations

import itertools
import tomllib
from dataclasses import dataclass
from typing import Any, Final
from xml.sax.saxutils import escape

LINE: Final = 15  # between two lines of text
# Fill and border of a box, by its kind.
COLOURS: Final = {
    "outside": ("#f1f5f9", "#64748b"),
    "function": ("#fff7ed", "#ea580c"),
    "queue": ("#faf5ff", "#9333ea"),
    "table": ("#ecfdf5", "#059669"),
    "end": ("#f8fafc", "#334155"),
}
HEAD: Final = """\
<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}" viewBox="0 0 {width:g} {height:g}" \
font-family="system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif" font-size="12" role="img">
<title>{title}</title>
<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">\
<path d="M0 0 8 4 0 8z" fill="#475569"/></marker></defs>
<rect width="{width:g}" height="{height:g}" rx="8" fill="#ffffff"/>
"""


@dataclass(frozen=True)
class Area:
    """A rectangle in pixels; a point is an area without a size."""

    left: float
    top: float
    right: float
    bottom: float


Point = tuple[float, float]


@dataclass(frozen=True)
class Grid:
    """The size of a cell, and the part of a cell that a box leaves free on each side."""

    cell: Point
    gap: Point
    margin: float

    def point(self, at: Point) -> Area:
        """The middle of a cell, or a point between cells."""
        x, y = (self.margin + (at[axis] + 0.5) * self.cell[axis] for axis in (0, 1))
        return Area(x, y, x, y)

    def box(self, at: Point, size: Point) -> Area:
        """The cells that a box covers, without its gaps."""
        left, top = (self.margin + at[axis] * self.cell[axis] + self.gap[axis] for axis in (0, 1))
        width, height = (size[axis] * self.cell[axis] - 2 * self.gap[axis] for axis in (0, 1))
        return Area(left, top, left + width, top + height)


def straight(one: Area, other: Area) -> tuple[Point, Point]:
    """The straight line from *one* area to the *other*, in the middle of the stretch where they face each other."""
    top, bottom = max(one.top, other.top), min(one.bottom, other.bottom)
    if top <= bottom:
        y = (top + bottom) / 2
        return ((one.right, y), (other.left, y)) if one.right <= other.left else ((one.left, y), (other.right, y))
    left, right = max(one.left, other.left), min(one.right, other.right)
    if left > right:
        raise ValueError(f"no straight line leads from {one} to {other}: give points in `via`")
    x = (left + right) / 2
    return ((x, one.bottom), (x, other.top)) if one.bottom <= other.top else ((x, one.top), (x, other.bottom))


def svg_of(source: str) -> str:
    """The picture that a source describes."""
    said: dict[str, Any] = tomllib.loads(source)
    grid = Grid(tuple(said["cell"]), tuple(said["gap"]), said.get("margin", 12))
    boxes = {name: grid.box(box["at"], box.get("size", (1, 1))) for name, box in said["boxes"].items()}
    width = said["columns"] * grid.cell[0] + 2 * grid.margin
    height = said["rows"] * grid.cell[1] + 2 * grid.margin
    parts = [HEAD.format(width=width, height=height, title=escape(said["title"]))]
    parts += [_box(boxes[name], box["kind"], box.get("text", name)) for name, box in said["boxes"].items()]
    parts += [_arrow(arrow, grid, boxes) for arrow in said["arrows"]]
    return "".join(parts) + "</svg>\n"


def _box(area: Area, kind: str, text: str) -> str:
    fill, border = COLOURS[kind]
    width, height = area.right - area.left, area.bottom - area.top
    frame = (
        f'<rect x="{area.left:g}" y="{area.top:g}" width="{width:g}" height="{height:g}" rx="6" '
        f'fill="{fill}" stroke="{border}" stroke-width="1.5"/>\n'
    )
    middle = ((area.left + area.right) / 2, (area.top + area.bottom) / 2)
    return frame + _text(middle, text, title=True)


def _arrow(arrow: dict[str, Any], grid: Grid, boxes: dict[str, Area]) -> str:
    stops = [boxes[arrow["from"]], *(grid.point(at) for at in arrow.get("via", [])), boxes[arrow["to"]]]
    pieces = [straight(*pair) for pair in itertools.pairwise(stops)]
    points = [pieces[0][0], *(end for _, end in pieces)]
    path = " ".join(f"{x:g} {y:g}" for x, y in points)
    line = f'<path d="M{path}" fill="none" stroke="#475569" stroke-width="1.5" marker-end="url(#head)"/>\n'
    if "text" not in arrow:
        return line
    if "at" in arrow:
        where = grid.point(arrow["at"])
        return line + _text((where.left, where.top), arrow["text"])
    (x1, y1), (x2, y2) = max(pieces, key=lambda piece: abs(piece[0][0] - piece[1][0]) + abs(piece[0][1] - piece[1][1]))
    above = LINE * (arrow["text"].count("\n") + 1) / 2 + 3 if y1 == y2 else 0
    return line + _text(((x1 + x2) / 2, (y1 + y2) / 2 - above), arrow["text"])


def _text(middle: Point, text: str, *, title: bool = False) -> str:
    """Lines around a middle; the first line of a box is its title."""
    lines = text.strip().splitlines()
    x, first = middle[0], middle[1] - LINE * (len(lines) - 1) / 2 + 4
    return "".join(
        f'<text x="{x:g}" y="{first + LINE * number:g}" text-anchor="middle" '
        + (
            'font-weight="600" font-size="13" fill="#0f172a">'
            if title and number == 0
            else 'fill="#334155" stroke="#ffffff" stroke-width="3" stroke-opacity="0.8" paint-order="stroke">'
        )
        + f"{escape(line)}</text>\n"
        for number, line in enumerate(lines)
    )
