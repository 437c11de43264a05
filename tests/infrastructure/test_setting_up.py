"""`make setup` and the build of the layer: caches in the folder, and one line that says what to do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

# Answers the Makefile's question for the version, and plays one fault of pip or of the interpreter.
PYTHON = """#!/bin/sh
case "$1 $2" in
"-c "*) {version} ;;
"-m pip") echo "$UV_CACHE_DIR $PIP_CACHE_DIR $npm_config_cache" > caches; echo '{fault}' >&2; exit 1 ;;
*) mkdir -p .tools/uv/bin && cp "$0" .tools/uv/bin/python ;;
esac
"""
REAL = f'exec {sys.executable} "$@"'
NO_NETWORK = "NewConnectionError: Temporary failure in name resolution; No matching distribution found for uv"


@pytest.fixture
def clone(root: Path, tmp_path: Path) -> Path:
    """A folder with what the first step of `make setup` reads."""
    (tmp_path / "requirements").mkdir()
    shutil.copy(root / "Makefile", tmp_path)
    shutil.copy(root / "requirements" / "uv.txt", tmp_path / "requirements")
    return tmp_path


def make(clone: Path, version: str = REAL, fault: str = "", target: str = ".tools/uv/.stamp") -> list[str]:
    """The errors of a failing `make` without a home folder; the line of make itself is left out."""
    (clone / "python").write_text(PYTHON.format(version=version, fault=fault))
    (clone / "python").chmod(0o755)
    made = subprocess.run(
        ["make", target, f"PYTHON={clone / 'python'}"],
        cwd=clone,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode != 0
    return [line for line in made.stderr.splitlines() if "Error 1" not in line]


def test_without_a_network_one_line_says_what_to_do(clone: Path) -> None:
    [said] = make(clone, fault=NO_NETWORK)
    assert said.startswith("make: nothing could be downloaded: connect to the internet, or set HTTPS_PROXY")
    assert NO_NETWORK in (clone / ".tools" / "uv" / "setup.log").read_text()


def test_another_fault_of_the_installation_is_shown_as_it_is(clone: Path) -> None:
    assert make(clone, fault="the hashes do not match") == ["the hashes do not match"]


@pytest.mark.parametrize(
    ("version", "said"),
    [("echo old", "is older than 3.11"), ("echo bare", "cannot make environments"), ("exit 1", "does not run")],
)
def test_a_python_that_cannot_be_used_is_named_with_the_way_to_another(clone: Path, version: str, said: str) -> None:
    [line] = make(clone, version=version)
    assert said in line
    assert "install" in line


def test_everything_downloaded_stays_in_the_folder(clone: Path) -> None:
    make(clone)
    tools = clone / ".tools" / "cache"
    assert (clone / "caches").read_text().split() == [str(tools / name) for name in ("uv", "pip", "npm")]


@pytest.mark.parametrize(
    ("cache", "said"),
    [
        ("uv/cache", "uv may not write its cache, {}/uv/cache: set UV_CACHE_DIR to a folder that you may write"),
        (
            "cache",
            (
                "the layer needs Python 3.13, which is neither on PATH nor could be downloaded "
                "(cause: no route to host): install it, or set LAYER_PYTHON to its interpreter"
            ),
        ),
    ],
)
def test_what_the_layer_lacks_is_said_in_a_line(cache: str, said: str, root: Path, tmp_path: Path) -> None:
    uv = tmp_path / "uv"
    uv.write_text(
        f'#!/bin/sh\ntest "$1" = cache && echo {tmp_path}/{cache} && exit\n'
        'test "$2" = install && printf "error: nothing\\n  cause: no route to host\\n" >&2\nexit 2\n'
    )
    uv.chmod(0o755)
    made = subprocess.run(
        ["make", "--makefile", "arm64/Makefile", "prerequisites"],
        cwd=root / "layers" / "shared",
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "ARTIFACTS_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.stderr.splitlines()[0] == said.format(tmp_path)
    assert len(made.stderr.splitlines()) == 2
