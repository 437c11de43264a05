"""Where other terminals find the stack of `dev`, and that they are not sent to one that is gone."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from clerk_supabase_cli.dev_state import NotRunning, RunningStack, running_stack

STACK = RunningStack(
    process_id=os.getpid(),
    webhook_url="http://127.0.0.1:1/webhooks/clerk",
    session_url="http://127.0.0.1:1/session",
    webhook_secret="whsec_local-only",
    database_url="postgresql://127.0.0.1:2/postgres",
    aws_endpoint_url="http://127.0.0.1:1",
    clerk_api_url="http://127.0.0.1:3/v1",
    clerk_secret_key="sk_live_standin",
    logs="logs",
)


@pytest.fixture
def of_the_dead() -> RunningStack:
    """What `dev` left behind when it was killed."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return replace(STACK, process_id=process.pid)


def test_a_stack_that_runs_is_found(tmp_path: Path) -> None:
    STACK.save(tmp_path)
    assert running_stack(tmp_path) == STACK


def test_a_stack_that_was_killed_is_not(tmp_path: Path, of_the_dead: RunningStack) -> None:
    of_the_dead.save(tmp_path)
    with pytest.raises(NotRunning, match="`make dev`"):
        running_stack(tmp_path)


def test_a_stack_that_starts_after_one_was_killed_is_found(tmp_path: Path, of_the_dead: RunningStack) -> None:
    of_the_dead.save(tmp_path)
    STACK.save(tmp_path)
    of_the_dead.forget(tmp_path)
    assert running_stack(tmp_path) == STACK


@pytest.mark.parametrize("left", ["", "{", "[]", '{"process_id": 1}'], ids=["empty", "half", "a list", "of old"])
def test_a_file_that_says_nothing_usable_is_as_good_as_none(tmp_path: Path, left: str) -> None:
    (tmp_path / ".local").mkdir()
    (tmp_path / ".local" / "dev.json").write_text(left)
    with pytest.raises(NotRunning, match="`make dev`"):
        running_stack(tmp_path)


def test_nobody_else_can_read_its_secrets(tmp_path: Path) -> None:
    STACK.save(tmp_path)
    assert (tmp_path / ".local" / "dev.json").stat().st_mode & 0o077 == 0
    assert (tmp_path / ".local").stat().st_mode & 0o077 == 0
