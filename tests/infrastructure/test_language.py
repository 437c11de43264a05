"""A colleague from another country can read documents and docstrings: few pronouns that leave open their noun."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.documents import ROOT, documents, name_of
from tests.language import PROGRAM, Count, Passage, files, passages

DOCUMENTS_PER_HUNDRED = 4.5
DOCSTRINGS_PER_HUNDRED = 4.0


@pytest.mark.parametrize("document", [*documents(), ROOT / "CHANGELOG.md"], ids=name_of)
def test_a_document_has_few_vague_pronouns(document: Path) -> None:
    count = Count.of(name_of(document), passages(document))
    assert count.per_hundred <= DOCUMENTS_PER_HUNDRED, f"run `python -m tests.language {count.name}`"


def docstrings(folder: str) -> list[Passage]:
    """The docstrings of every module below a folder."""
    return [each for file in files(ROOT / folder) if file.suffix == ".py" for each in passages(file)]


@pytest.mark.parametrize("folder", [*PROGRAM, "tests"])
def test_no_docstring_opens_with_a_relative_pronoun(folder: str) -> None:
    opening = [f"{each.file}:{each.line}: {each.text[:60]}" for each in docstrings(folder) if each.opens_badly]
    assert opening == []


@pytest.mark.parametrize("folder", [*PROGRAM, "tests"])
def test_the_docstrings_have_few_vague_pronouns(folder: str) -> None:
    count = Count.of(folder, docstrings(folder))
    assert count.per_hundred <= DOCSTRINGS_PER_HUNDRED, f"run `python -m tests.language {folder}`"


def test_the_count_finds_the_pronouns_and_leaves_code_and_links_out(tmp_path: Path) -> None:
    file = tmp_path / "a.md"
    file.write_text("It is `it` [that](it/that).\n\n```sh\nwhat\n```\n\n| who | `one` |\n", encoding="utf-8")
    assert Count.of("a.md", passages(file)) == Count("a.md", words=5, vague=3, openers=0)


def test_the_count_finds_a_docstring_that_opens_with_a_relative_pronoun(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text('"""What it knows."""\n\n\ndef f() -> None:\n    """None, or nothing."""\n', encoding="utf-8")
    assert Count.of("a.py", passages(file)) == Count("a.py", words=5, vague=2, openers=1)
