"""The pictures of docs/pictures that are drawn: each lies beside its source."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tests.infrastructure.dashboard import widgets
from tests.infrastructure.template import Template
from tests.pictures import dashboard, diagrams, terminal

ROOT: Final = Path(__file__).parents[2]
FOLDER: Final = ROOT / "docs" / "pictures"
DASHBOARD: Final = FOLDER / "dashboard.json"


def sources() -> list[Path]:
    """Diagrams (.toml), recordings (.cast), and the numbers of the dashboard (.json)."""
    return sorted(each for each in FOLDER.iterdir() if each.suffix in {".toml", ".cast", ".json"})


def picture_of(source: Path) -> Path:
    """The file with the picture of a source."""
    return source.with_suffix(".svg")


def drawn(source: Path, template: Template) -> str:
    """The picture of a source. *template*: has the body of the dashboard."""
    text = source.read_text(encoding="utf-8")
    if source == DASHBOARD:
        return dashboard.svg_of(widgets(template), dashboard.Numbers.of(text))
    return diagrams.svg_of(text) if source.suffix == ".toml" else terminal.svg_of(text)
