"""`clerk-supabase simulate`, from nothing to its verdict."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from clerk_supabase_cli import simulation
from clerk_supabase_cli.simulate_command import simulate_command
from clerk_supabase_cli.simulation import simulate


def test_a_run_says_what_it_explored_and_how_to_repeat_it(root: Path) -> None:
    printed = io.StringIO()

    # More than one search has to do, and the last round of one is not full.
    assert simulate(root, runs=250, seed=7, first=0, console=Console(file=printed, width=200))
    assert "250 schedules explored" in printed.getvalue()
    assert "(seed 7)" in printed.getvalue()
    assert "0 deadlocks, 0 differences" in printed.getvalue()
    assert "3 worlds reconciled" in printed.getvalue()
    assert "0 not as in Clerk" in printed.getvalue()


class _Impatient(io.StringIO):
    """Somebody who ends a run as soon as they hear of it."""

    def write(self, text: str) -> int:
        if text.startswith("Schedules:"):
            os.kill(os.getpid(), signal.SIGTERM)
        return super().write(text)


@pytest.fixture
def same_handlers_afterwards() -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM)
    handlers = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, handlers, strict=True):
        signal.signal(number, handler)


@pytest.mark.usefixtures("same_handlers_afterwards")
def test_ended_early_it_says_what_it_explored_until_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulation, "_SECONDS_BETWEEN_LINES", 0)
    printed = _Impatient()
    monkeypatch.setattr(sys, "stdout", printed)
    with pytest.raises(SystemExit) as end:
        simulate_command.main(["--runs", "1000000", "--seed", "7"], prog_name="simulate")
    assert end.value.code == 130
    assert "of 1,000,000" in printed.getvalue()
    assert "00 schedules explored" in printed.getvalue()
    assert "0 worlds reconciled" in printed.getvalue()
