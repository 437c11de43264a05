"""`clerk-supabase simulate`, from nothing to its verdict."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import redirect_stdout, suppress
from pathlib import Path

import pytest

from clerk_supabase_cli.commands.develop.simulate import simulate_command
from clerk_supabase_cli.simulator import simulation
from clerk_supabase_cli.simulator.orders import exploration


@pytest.fixture(autouse=True)
def same_handlers_afterwards() -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM)
    handlers = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, handlers, strict=True):
        signal.signal(number, handler)


def test_a_run_says_what_it_explored_and_how_to_repeat_it(monkeypatch: pytest.MonkeyPatch) -> None:
    # The last round is not full.
    monkeypatch.setattr(exploration, "AT_ONCE", 20)
    printed = io.StringIO()
    assert simulate(["--runs", "51", "--seed", "7", "--jobs", "1"], printed) == 0
    assert "51 schedules explored" in printed.getvalue()
    assert "(seed 7)" in printed.getvalue()
    assert "0 deadlocks, 0 differences" in printed.getvalue()
    assert "1 worlds reconciled" in printed.getvalue()
    assert "0 not as in Clerk" in printed.getvalue()
    assert "2 episodes played" in printed.getvalue()
    assert "0 deadlocks, 0 untrue" in printed.getvalue()
    happened = dict(re.findall(r"^  (\D+?) +([\d,]+)$", printed.getvalue(), re.MULTILINE))
    assert happened.keys() >= {"Clerk lives", "webhooks"}
    assert all(len(f"  {what}") <= 80 for what in happened)


class _Impatient(io.StringIO):
    """A listener that ends a run at its first report."""

    def write(self, text: str) -> int:
        if text.startswith("Schedules:"):
            os.kill(os.getpid(), signal.SIGTERM)
        return super().write(text)


def test_a_search_ended_early_reports_its_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulation, "_SECONDS_BETWEEN_LINES", 0)
    monkeypatch.setattr(exploration, "AT_ONCE", 10)
    assert simulate(["--runs", "1000000", "--seed", "7", "--jobs", "1"], printed := _Impatient()) == 130
    assert "of 1,000,000" in printed.getvalue()
    assert re.search(r"^[1-9]\d*0 schedules explored", printed.getvalue(), re.MULTILINE)
    assert "0 worlds reconciled" in printed.getvalue()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_to_the_whole_process_group_ends_a_search_without_a_traceback(
    number: signal.Signals, tmp_path: Path
) -> None:
    """As a shell, a supervisor or a pipeline ends a command: also while the processes of the search still begin."""
    printed, errors = tmp_path / "printed", tmp_path / "errors"
    command = [sys.executable, "-m", "clerk_supabase_cli.main", "simulate", "--runs", "1000000", "--jobs", "2"]
    with printed.open("wb") as out, errors.open("wb") as err:
        process = subprocess.Popen(command, stdout=out, stderr=err, start_new_session=True)
    try:
        wait_for_the_first_search(process)
        os.killpg(process.pid, number)
        assert process.wait(60) == 130, errors.read_text()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert errors.read_text() == ""
    assert "schedules explored" in printed.read_text()


def wait_for_the_first_search(process: subprocess.Popen[bytes]) -> None:
    """Returns when a process of the search has just been begun."""
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        listed = subprocess.run(["ps", "-A", "-ww", "-o", "pgid=,command="], capture_output=True, text=True, check=True)
        if any(line.split()[0] == str(process.pid) and "spawn_main" in line for line in listed.stdout.splitlines()):
            return
    raise AssertionError(f"no search began: {process.returncode}")


def simulate(options: list[str], printed: io.StringIO) -> object:
    """The exit code of the command."""
    with redirect_stdout(printed), pytest.raises(SystemExit) as end:
        simulate_command.main(options, prog_name="simulate")
    return end.value.code
