"""docs/pictures: every picture belongs to its source, and a document shows it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.documents import documents, text_of
from tests.pictures import FOLDER, Area, pictures, straight, svg_of


@pytest.mark.parametrize(("source", "picture"), pictures(), ids=lambda path: path.name)
def test_a_picture_is_drawn_from_its_source(source: Path, picture: Path) -> None:
    assert picture.read_text(encoding="utf-8") == svg_of(source.read_text(encoding="utf-8")), "run `make pictures`"


def test_every_picture_has_a_source_and_is_shown_by_a_document() -> None:
    shown = "".join(text_of(document) for document in documents())
    drawn = sorted(FOLDER.glob("*.svg"))
    assert drawn == [picture for _, picture in pictures()]
    assert [each.name for each in drawn if f"pictures/{each.name})" not in shown] == []


def test_an_arrow_between_boxes_that_do_not_face_each_other_needs_points() -> None:
    with pytest.raises(ValueError, match="give points"):
        straight(Area(0, 0, 10, 10), Area(20, 20, 30, 30))
