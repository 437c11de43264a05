"""docs/decisions: each decision has one number, and the index leads to it."""

from __future__ import annotations

import re

from tests.infrastructure.test_documents import anchor_of
from tests.kit.documents import ROOT, headings, table_of, text_of

FOLDER = ROOT / "docs" / "decisions"
INDEX = FOLDER / "README.md"
DECISIONS = {
    int(heading.partition(". ")[0]): (file.name, heading)
    for file in sorted(FOLDER.glob("*.md"))
    for heading in headings(text_of(file))
    if re.match(r"\d+\. ", heading)
}


def test_the_numbers_of_the_decisions_have_no_gap_and_come_once() -> None:
    printed = [line for file in FOLDER.glob("*.md") for line in re.findall(r"^## \d+\. ", text_of(file), re.MULTILINE)]
    assert len(printed) == len(DECISIONS)
    assert sorted(DECISIONS) == list(range(1, len(DECISIONS) + 1))


def test_the_index_lists_every_decision_by_its_number() -> None:
    wanted = [
        [str(number), f"[{heading.partition('. ')[2]}]({file}#{anchor_of(heading)})"]
        for number, (file, heading) in sorted(DECISIONS.items())
    ]
    assert table_of(INDEX, "By number") == wanted
