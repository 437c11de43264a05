"""`SideBySide` runs each test once, in copies of one process, and reports what happened there."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.kit.side_by_side import by_file

_CONFTEST = """
import os, pathlib, pytest
from tests.kit.side_by_side import SideBySide

SAID = pathlib.Path(__file__).with_name("said")

def pytest_configure(config):
    config.pluginmanager.register(SideBySide(2, together="one/"), "side_by_side")

@pytest.fixture(scope="session")
def say():
    def say(word):
        with SAID.open("a") as file:
            file.write(f"{os.getpid()} {word}\\n")
    say("opened")
    yield say
    say("closed")
    END
"""
_FILE = """
import pytest, time

@pytest.fixture(scope="module")
def table(say):
    say("NAME made")
    yield
    say("NAME removed")

@pytest.mark.parametrize("number", range(3))
def test_it(table, say, number, tmp_path):
    time.sleep(0.1)
    say(f"NAME {number} {tmp_path.parent}")
"""
_FAILING = """
import sys

# As a logger keeps it.
EARLY = sys.stdout

def test_wrong():
    print("printed", "NAME", file=EARLY)
    assert [1, 2] == [1, 3]
"""
_ENDING = """
import os

def test_end():
    os._exit(7)

def test_after():
    pass
"""


@dataclass(frozen=True)
class Ended:
    """A run of pytest."""

    status: int
    output: str
    said: dict[str, list[list[str]]]
    """The lines of each process that ran tests."""


def run(root: Path, folder: Path, *files: str, end: str = "", options: tuple[str, ...] = ()) -> Ended:
    """Runs files with these contents in two processes. *end*: the last step of the end of the session."""
    (folder / "pytest.ini").write_text("[pytest]\naddopts = -p no:hypothesispytest -p no:anyio -p no:xdist\n")
    (folder / "conftest.py").write_text(_CONFTEST.replace("END", end))
    for number, content in enumerate(files):
        (folder / f"test_{number}.py").write_text(content.replace("NAME", f"file-{number}"))
    command = [sys.executable, "-m", "pytest", f"--basetemp={folder / 'scratch'}", *options, str(folder)]
    ended = subprocess.run(
        command, cwd=root, env={"PYTHONPATH": str(root)}, capture_output=True, text=True, check=False, timeout=100
    )
    said: dict[str, list[list[str]]] = {}
    if (folder / "said").exists():
        for process, *words in map(str.split, (folder / "said").read_text().splitlines()):
            said.setdefault(process, []).append(words)
    return Ended(ended.returncode, ended.stdout + ended.stderr, said)


def test_each_file_runs_in_one_process_and_each_process_has_its_own_fixtures_and_folders(
    root: Path, tmp_path: Path
) -> None:
    ended = run(root, tmp_path, *[_FILE] * 4)
    assert ended.status == 0, ended.output
    assert "12 passed" in ended.output
    folders = set()
    files = []
    for begin, *words, end in ended.said.values():
        assert (begin, end) == (["opened"], ["closed"])
        for place in range(0, len(words), 5):
            made, *tests, removed = words[place : place + 5]
            files.append(made[0])
            assert (made[1], removed[1]) == ("made", "removed")
            assert [test[:2] for test in tests] == [[made[0], str(number)] for number in range(3)]
        folders.add(frozenset(word[2] for word in words if len(word) > 2))
    assert sorted(files) == [f"file-{number}" for number in range(4)]
    assert sorted(map(len, folders)) == [1, 1]


def test_what_fails_is_reported_with_its_reason_and_output_and_the_others_run(root: Path, tmp_path: Path) -> None:
    end = "raise RuntimeError('not closed')"
    ended = run(root, tmp_path, _FAILING, _ENDING, _FILE, _FAILING, end=end)
    assert ended.status == 1
    assert "4 failed, 3 passed, 1 error" in ended.output
    assert ended.output.count("E       assert [1, 2] == [1, 3]\n") == 2
    assert ended.output.count("printed file-0") == ended.output.count("printed file-3") == 1
    assert "the process of this test has ended with status 7" in ended.output
    assert "test_1.py::test_after" in ended.output
    assert "was not run, because the process that should have run it had ended" in ended.output
    assert "RuntimeError: not closed" in ended.output


def test_after_the_first_failure_no_other_test_begins_if_asked(root: Path, tmp_path: Path) -> None:
    ended = run(root, tmp_path, _FAILING, *[_FILE] * 8, options=("--exitfirst",))
    assert ended.status == 1
    assert "stopping after 1 failures" in ended.output
    words = [word for said in ended.said.values() for word in said]
    # Another process may be among the tests of a file then.
    assert len({word[0] for word in words if word[0].startswith("file")}) < 8
    assert words.count(["opened"]) == words.count(["closed"])


def test_what_cannot_be_collected_is_said_and_nothing_runs(root: Path, tmp_path: Path) -> None:
    ended = run(root, tmp_path, "import nothing_of_this_name\n", _FILE)
    assert ended.status == 2
    assert "nothing_of_this_name" in ended.output
    assert ended.said == {}


def test_a_folder_may_count_as_one_file(request: pytest.FixtureRequest) -> None:
    tests = [each for each in request.session.items if each.path == request.path]
    assert [len(file) for file in by_file(tests, "none/")] == [len(tests)]
    assert by_file(tests, "tests/unit/") == [tests]
