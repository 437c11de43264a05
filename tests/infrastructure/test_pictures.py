"""The pictures of the documents: each follows from its source, is shown, is described in words, and is small."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.infrastructure.dashboard import widgets
from tests.infrastructure.template import Template
from tests.kit.documents import documents, text_of
from tests.pictures import dashboard, terminal
from tests.pictures.casts import Cast
from tests.pictures.diagrams import Area, straight
from tests.pictures.sources import DASHBOARD, FOLDER, ROOT, drawn, picture_of, sources
from tests.pictures.stories import tells_the_same

FOLDERS = (FOLDER, ROOT / "examples" / "nextjs" / "pictures")
LARGEST = 200_000
ALL_OF_DOCS = 1_500_000
LEAST_WORDS = 4
_MARKDOWN = re.compile(r"!\[([^\]]*)\]\(([^)\s]+)\)")
_IMG = re.compile(r'<img\s[^>]*?src="([^"]+)"[^>]*?alt="([^"]*)"')
_SOURCE = re.compile(r'<source\s[^>]*?srcset="([^"]+)"')
# Folders of a machine, keys, and addresses with a password or a token.
_OF_A_MACHINE = re.compile(
    r"/(?:home|root|Users|tmp|work|private|var)/|(?:whsec|sk_live|sk_test)_(?!\*)|token=(?!\*)|postgres:[^/*@]+@"
)


def shown() -> Iterator[tuple[Path, str | None]]:
    """The pictures in the documents, each with its description in words."""
    for document in documents():
        text = text_of(document)
        for alternative, place in _MARKDOWN.findall(text):
            yield (document.parent / place).resolve(), alternative
        for place, alternative in _IMG.findall(text):
            yield (document.parent / place).resolve(), alternative
        for place in _SOURCE.findall(text):
            yield (document.parent / place).resolve(), None


@pytest.mark.parametrize("source", sources(), ids=lambda path: path.name)
def test_a_picture_is_drawn_from_its_source(source: Path, template: Template) -> None:
    again = "run `make pictures ARGS=--draw`"
    assert picture_of(source).read_text(encoding="utf-8") == drawn(source, template), again


def test_every_picture_is_shown_described_in_words_and_small() -> None:
    pictures = {each for folder in FOLDERS for each in folder.iterdir() if each.suffix in {".svg", ".png"}}
    found = list(shown())
    assert {path for path, _ in found} == pictures
    assert [path.name for path, text in found if text is not None and len(text.split()) < LEAST_WORDS] == []
    assert [each.name for each in pictures if each.stat().st_size > LARGEST] == []
    assert sum(each.stat().st_size for each in FOLDER.iterdir()) <= ALL_OF_DOCS
    drawings = {each for each in pictures if each.suffix == ".svg"}
    assert drawings == {picture_of(source) for source in sources()}
    assert [each.name for each in drawings if "<title>" not in each.read_text(encoding="utf-8")] == []


def test_no_picture_shows_a_key_or_a_folder_of_the_machine_and_none_runs_a_script() -> None:
    for file in (each for each in FOLDER.iterdir() if each.suffix != ".png"):
        text = file.read_text(encoding="utf-8")
        assert _OF_A_MACHINE.findall(text) == [], file.name
        assert [each for each in ("<script", "href=") if each in text] == [], file.name


def test_the_dashboard_has_a_number_or_no_data_for_each_metric_and_no_widget_is_left_out(template: Template) -> None:
    numbers = dashboard.Numbers.of(DASHBOARD.read_text(encoding="utf-8"))
    body = widgets(template)
    assert numbers.values.keys() == dashboard.shown_by(body), "run `make pictures`"
    text = {"type": "text", "x": 0, "y": 30, "width": 12, "height": 6, "properties": {"markdown": "# Notes"}}
    with pytest.raises(dashboard.CannotDraw, match="text"):
        dashboard.svg_of([*body, text], numbers)


def test_a_recording_shows_its_last_screen_to_people_who_want_less_motion() -> None:
    picture = terminal.svg_of(Cast("A title", 80, 4, ((0.0, "first"), (2.0, "\x1b[H\x1b[2Klast"))).written())
    first, last = re.findall(r'<g class="(\w+)">\n<text[^>]*><tspan[^>]*>\w+<', picture)
    assert f".{first}{{visibility:hidden;animation" in picture
    assert f".{last}{{animation" in picture
    assert "@media (prefers-reduced-motion:reduce){g{animation:none" in picture


def test_a_recording_is_taken_anew_for_other_words_and_not_for_other_times() -> None:
    def said(text: str) -> Cast:
        return Cast("", 80, 4, ((0.0, text),))

    kept = said("Deploy 1/1 0:00:09\r\n1 row differed, took 3.1 s, msg_2abc")
    assert tells_the_same(said("Deploy 1/1 0:01:12\r\n1 row differed, took 12 s, msg_9xyz"), kept)
    assert not tells_the_same(said("Deploy 1/1 0:00:09\r\n2 rows differed, took 3.1 s, msg_2abc"), kept)


def test_an_arrow_between_boxes_that_do_not_face_each_other_needs_points() -> None:
    with pytest.raises(ValueError, match="give points"):
        straight(Area(0, 0, 10, 10), Area(20, 20, 30, 30))
