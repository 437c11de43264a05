"""`clerk-supabase simulate`, from nothing to its verdict."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

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
