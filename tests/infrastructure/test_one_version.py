"""The layer, the command and the template have one version, which users, logs and Clerk are told."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from clerk_supabase.version import MAJOR, USER_AGENT, VERSION
from tests.infrastructure.template import FUNCTIONS, Template
from tests.kit.version import numbers, write


def test_every_place_names_the_same_version(root: Path) -> None:
    found = numbers(root)
    assert all(found.values()), found
    assert {number for each in found.values() for number in each} == {VERSION}
    assert str(MAJOR) == VERSION.partition(".")[0]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_the_description_of_a_function_names_the_version(function: str, template: Template) -> None:
    assert f" {VERSION} ${{Revision}}" in template[function]["Description"]["Fn::Sub"]


def test_another_version_is_written_into_every_place(root: Path, tmp_path: Path) -> None:
    for name in {place.partition(" ")[0] for place in numbers(root)}:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / name, tmp_path / name)
    write(tmp_path, "12.3.4")
    found = numbers(tmp_path)
    assert {number for each in found.values() for number in each} == {"12.3.4"}
    assert {place: len(each) for place, each in found.items()} == {
        place: len(each) for place, each in numbers(root).items()
    }
    assert "\nMAJOR: Final = 12\n" in (tmp_path / "layers/shared/clerk_supabase/version.py").read_text()
    for number in ("1.0", "01.1.0", "\N{ARABIC-INDIC DIGIT ONE}.1.0"):
        with pytest.raises(ValueError, match="is no version"):
            write(tmp_path, number)


def test_the_command_prints_the_version() -> None:
    command = Path(sys.executable).with_name("clerk-supabase")
    said = subprocess.run([command, "--version"], check=True, capture_output=True, text=True).stdout
    assert said == f"clerk-supabase {VERSION}\n"


def test_clerk_is_told_the_version() -> None:
    assert f"clerk-supabase-sync/{VERSION}" == USER_AGENT


def test_a_line_of_the_log_names_the_version() -> None:
    # A process of its own: the logger of this one writes where pytest tells it.
    program = "from clerk_supabase.telemetry import logger; logger.info('accepted', svix_id='msg_1')"
    done = subprocess.run(
        [sys.executable, "-c", program], env=dict(os.environ), check=True, capture_output=True, text=True
    )
    assert json.loads(done.stdout) | {"version": VERSION, "svix_id": "msg_1"} == json.loads(done.stdout)
