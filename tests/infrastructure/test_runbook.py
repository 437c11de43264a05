"""docs/runbook.md: an entry for every alarm, and in each what an operator needs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.infrastructure.template import Template, alarms

RUNBOOK = Path(__file__).parents[2] / "docs" / "runbook.md"


def text() -> str:
    return RUNBOOK.read_text(encoding="utf-8")


def entries() -> dict[str, str]:
    """What is said under each heading."""
    _, *parts = re.split(r"^## (.+)$", text(), flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_every_alarm_has_an_entry_and_every_entry_an_alarm(template: Template) -> None:
    assert sorted(set(entries()) - {"Before you start"}) == sorted(alarms(template))


@pytest.mark.parametrize("alarm", [name for name in entries() if name.endswith("Alarm")])
def test_an_entry_says_what_it_means_what_to_look_at_what_to_type_and_when_it_is_over(alarm: str) -> None:
    parts = re.findall(r"^\*\*(It means:|Look at|Type:|It is over)\*\*", entries()[alarm], flags=re.MULTILINE)
    assert parts == ["It means:", "Look at", "Type:", "It is over"]
    assert "```sh" in entries()[alarm]
