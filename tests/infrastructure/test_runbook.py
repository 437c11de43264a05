"""docs/runbook.md: an entry for every alarm, with four parts for the operator."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.infrastructure.template import Template, alarms
from tests.kit.documents import table_of

ROOT = Path(__file__).parents[2]
RUNBOOK = ROOT / "docs" / "runbook.md"
REASONS = [
    said for line in table_of(RUNBOOK, "FullReconcileOverdueAlarm") for said in re.findall(r"`([^`]+)`", line[0])
]


def text() -> str:
    return RUNBOOK.read_text(encoding="utf-8")


def entries() -> dict[str, str]:
    """The text under each heading."""
    _, *parts = re.split(r"^## (.+)$", text(), flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_every_alarm_has_an_entry_and_every_entry_an_alarm(template: Template) -> None:
    assert sorted(set(entries()) - {"Before you start"}) == sorted(alarms(template))


@pytest.mark.parametrize("alarm", [name for name in entries() if name.endswith("Alarm")])
def test_an_entry_says_what_it_means_what_to_look_at_what_to_type_and_when_it_is_over(alarm: str) -> None:
    parts = re.findall(r"^\*\*(It means:|Look at|Type:|It is over)\*\*", entries()[alarm], flags=re.MULTILINE)
    assert parts == ["It means:", "Look at", "Type:", "It is over"]
    assert "```sh" in entries()[alarm]


@pytest.fixture(scope="module")
def texts_of_the_layer() -> list[str]:
    """Every text in the code of the layer; of a text with holes the parts between the holes."""
    files = (ROOT / "layers/shared/clerk_supabase").rglob("*.py")
    nodes = (node for file in files for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
    return [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]


@pytest.mark.parametrize("reason", REASONS)
def test_a_reason_that_is_explained_is_one_that_a_run_can_print(reason: str, texts_of_the_layer: list[str]) -> None:
    # "..." stands for a hole, and what is shorter for what was filled in.
    parts = [part for each in reason.split("...") if len(part := each.strip()) > 4]
    assert parts
    assert [part for part in parts if not any(part in text for text in texts_of_the_layer)] == []
