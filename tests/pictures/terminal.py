"""A recording of a terminal as an animated SVG, without a script.

Each line is a text that is visible for a part of the time. The picture plays three times and ends with the last screen.
People who have asked their system for less motion see the last screen only. Colours follow the reader's light or dark
theme.
"""

from __future__ import annotations

import colorsys
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Final
from xml.sax.saxutils import escape

from tests.pictures.casts import Cast, Frame, Line, Run

SIZE: Final = 14
CELL: Final = 8.4
LINE: Final = 19
PADDING: Final = 20
TIMES: Final = 3
# For reading the last screen.
HOLD: Final = 6.0

# By the colour of the terminal: its colour in the light and in the dark theme. The contrast with the paper is at least
# 4.5, but for what lies behind a bar.
THEMES: Final = {
    "red": ("#b4232c", "#ff7b72"),
    "green": ("#116329", "#4ac26b"),
    "brown": ("#7d4e00", "#d9a92c"),
    "blue": ("#0757b0", "#79b8ff"),
    "magenta": ("#8a2aa8", "#d2a8ff"),
    "cyan": ("#1b6f77", "#56d4dd"),
    "grey": ("#59636e", "#9aa4ae"),
    "faint": ("#d1d9e0", "#3d444d"),
}
# The end of each colour on the circle of hues.
HUES: Final = {0.07: "red", 0.18: "brown", 0.46: "green", 0.56: "cyan", 0.72: "blue", 0.92: "magenta", 1.0: "red"}
TEXT: Final = ("#1f2328", "#e6edf3")
PAPER: Final = ("#fbfbfc", "#0d1117")
BORDER: Final = ("#d1d9e0", "#3d444d")
# Words with more than one blank between them have places of their own, whatever the width of a letter is.
_WORDS: Final = re.compile(r"\S+(?: \S+)*")


def svg_of(source: str) -> str:
    """The picture of a recording in the format of asciinema."""
    cast = Cast.of(source)
    frames = list(cast.frames())
    rows = max(len(frame.text.splitlines()) for frame in frames)
    width, height = cast.columns * CELL + 2 * PADDING, rows * LINE + 2 * PADDING
    seconds = frames[-1].at + HOLD
    parts: dict[tuple[float, float | None], list[str]] = defaultdict(list)
    for row, line, start, end in _stretches(frames):
        parts[start, end].append(_line(row, line))
    rules, groups = [], []
    for number, ((start, end), texts) in enumerate(sorted(parts.items(), key=lambda part: part[0][0])):
        name = f"k{number}"
        rules.append(_rule(name, start, end, seconds))
        groups.append(f'<g class="{name}">\n{"".join(texts)}</g>\n')
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}" '
        f'viewBox="0 0 {width:g} {height:g}" role="img">\n<title>{escape(cast.title)}</title>\n'
    )
    paper = f'<rect class="paper" x="0.5" y="0.5" width="{width - 1:g}" height="{height - 1:g}" rx="8"/>\n'
    return f"{head}<style>\n{_style()}{''.join(rules)}{_STILL}</style>\n{paper}{''.join(groups)}</svg>\n"


def _stretches(frames: Sequence[Frame]) -> Iterator[tuple[int, Line, float, float | None]]:
    """Each line with its row, its first moment and its end; None: until the end of the recording."""
    for row in range(len(frames[0].lines)):
        start, line = 0.0, frames[0].lines[row]
        for frame in frames[1:]:
            if frame.lines[row] != line:
                if line:
                    yield row, line, start, frame.at
                start, line = frame.at, frame.lines[row]
        if line:
            yield row, line, start, None


def _line(row: int, line: Line) -> str:
    y = PADDING + row * LINE + SIZE
    return f'<text y="{y:g}">{"".join(_spans(line))}</text>\n'


def _spans(line: Sequence[Run]) -> Iterator[str]:
    for run in line:
        names = f"{_theme_of(run.colour)} {'bold' if run.is_bold else ''}".strip()
        kind = f' class="{names}"' if names else ""
        for found in _WORDS.finditer(run.text):
            x = PADDING + (run.column + found.start()) * CELL
            length = len(found[0]) * CELL
            yield f'<tspan x="{x:g}" textLength="{length:g}"{kind}>{escape(found[0])}</tspan>'


def _theme_of(colour: str) -> str:
    """The name of a colour in THEMES; empty for the colour of text."""
    name = colour.removeprefix("bright")
    if name in THEMES:
        return name
    if name in {"default", "white"}:
        return ""
    if name == "black":
        return "grey"
    hue, saturation, value = colorsys.rgb_to_hsv(*(part / 255 for part in bytes.fromhex(colour)))
    if saturation < 0.2:
        return "" if value > 0.5 else "faint"
    return next(name for end, name in HUES.items() if hue <= end)


def _rule(name: str, start: float, end: float | None, seconds: float) -> str:
    """The part of the time for which a group is visible; outside the animation, only the last screen is."""
    if start == 0 and end is None:
        return ""
    first = "visible" if start == 0 else "hidden"
    steps = f"0%{{visibility:{first}}}"
    if start:
        steps += f"{start / seconds:.2%}{{visibility:visible}}"
    if end is not None:
        steps += f"{end / seconds:.2%}{{visibility:hidden}}"
    still = "" if end is None else "visibility:hidden;"
    return f".{name}{{{still}animation:{name} {seconds:.1f}s step-end {TIMES}}}\n@keyframes {name}{{{steps}}}\n"


def _style() -> str:
    fonts = "ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono','Liberation Mono',monospace"
    light, dark = (
        f".paper{{fill:{PAPER[theme]};stroke:{BORDER[theme]}}}\ntext{{fill:{TEXT[theme]}}}\n"
        + "".join(f".{name}{{fill:{colours[theme]}}}\n" for name, colours in THEMES.items())
        for theme in (0, 1)
    )
    return (
        f"text{{font:{SIZE}px {fonts}}}\n.bold{{font-weight:700}}\n{light}"
        f"@media (prefers-color-scheme:dark){{\n{dark}}}\n"
    )


_STILL: Final = "@media (prefers-reduced-motion:reduce){g{animation:none!important}}\n"
