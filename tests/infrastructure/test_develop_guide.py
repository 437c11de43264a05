"""docs/develop.md: its tables name every room of the code, from top to bottom, and every tool of the tests."""

from __future__ import annotations

import re
import tomllib

import pytest

from tests.kit.documents import ROOT, table_of

GUIDE = ROOT / "docs" / "develop.md"
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]


@pytest.mark.parametrize(
    ("heading", "package"),
    [("The rooms of the layer", "clerk_supabase"), ("The rooms of the command", "clerk_supabase_cli")],
)
def test_the_rooms_stand_on_the_floors_of_the_import_contracts(heading: str, package: str) -> None:
    floors = next(each["layers"] for each in CONTRACTS if each.get("containers") == [package])
    named: list[set[str]] = []
    for floor, rooms, _ in table_of(GUIDE, heading):
        if floor:
            assert int(floor) == len(named) + 1
            named.append(set())
        named[-1] |= {room.removesuffix("/").removesuffix(".py") for room in re.findall(r"`([^`]+)`", rooms)}
    assert named == [set(floor.split(" | ")) for floor in floors]


def test_every_tool_of_the_tests_is_named_once() -> None:
    named = re.findall(r"`(\w+\.py)`", " ".join(modules for _, modules, _ in table_of(GUIDE, "The tools of the tests")))
    assert sorted(named) == sorted(each.name for each in (ROOT / "tests" / "kit").glob("*.py"))
