"""docs/upgrade.md: each table, function, file and field in the text exists. test_documents.py checks its commands."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

import pytest

from clerk_supabase_cli.doctor.registry import CHECKS
from tests.kit.documents import OURS, ROOT, commands
from tests.kit.released import releases

GUIDE = (ROOT / "docs" / "upgrade.md").read_text(encoding="utf-8")
LAYER = "\n".join(file.read_text(encoding="utf-8") for file in (ROOT / "layers/shared/clerk_supabase").rglob("*.py"))
# Fields that Powertools gives to each line.
OF_POWERTOOLS = {"level", "message", "service"}


def test_every_table_and_function_in_the_guide_exists() -> None:
    objects = json.loads((ROOT / "sql" / "objects.json").read_text(encoding="utf-8"))["objects"]
    known = {re.sub(r"\(.*", "", each["name"]) for each in objects}
    named = set(re.findall(r"`((?:clerk|clerk_sync)\.\w+)", GUIDE))
    assert {"clerk_sync.version", "clerk_sync.parked_events", "clerk.requesting_user_id"} <= named
    assert named <= known


def test_every_field_of_the_log_in_the_guide_is_written() -> None:
    [row] = [line for line in GUIDE.splitlines() if line.startswith("| fields of log lines")]
    fields = set(re.findall(r"`(\w+)`", row.split("|")[1])) - OF_POWERTOOLS
    assert {"version", "svix_id", "reason"} <= fields
    assert [each for each in fields if not re.search(rf"\b{each}=", LAYER)] == []


def test_every_check_in_the_guide_exists() -> None:
    known = {check.name for check in CHECKS}
    typed = [
        command.arguments for command in commands({OURS}) if command.program == OURS and "--check" in command.arguments
    ]
    assert {name for each in typed for option, name in itertools.pairwise(each) if option == "--check"} <= known
    assert "versions" in known


@pytest.mark.parametrize("folder", ["sql/migrations", "sql/released"])
def test_the_folders_of_the_guide_exist_once_there_is_a_release(folder: str) -> None:
    assert f"`{folder}" in GUIDE
    assert (ROOT / folder).is_dir() or not releases(ROOT)


def test_the_sqlstate_of_the_guide_is_raised() -> None:
    [migration] = Path(ROOT, "sql", "migrations").glob("*_create_version.sql")
    assert "errcode = '42VER'" in migration.read_text(encoding="utf-8")
    assert "`42VER`" in GUIDE
