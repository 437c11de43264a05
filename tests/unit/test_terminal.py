"""The output of all commands at three widths and in a pipe. `python -m tests.kit.screens` writes what is compared."""

from __future__ import annotations

import fcntl
import io
import os
import re
import select
import struct
import sys
import termios

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.default_styles import DEFAULT_STYLES
from rich.style import Style

from clerk_supabase.reconcile.pages import Progress
from clerk_supabase_cli.operate.reconcile_report import counts_list, progress_bar
from clerk_supabase_cli.printing import cells, folds
from clerk_supabase_cli.terminal import BAD, DOUBTFUL, GOOD, Listing, Terminal
from tests.kit.screens import IDS, WIDTHS, file_of, written


@pytest.mark.parametrize("width", WIDTHS)
def test_what_commands_print_is_as_recorded(width: int | None) -> None:
    assert written(width) == file_of(width).read_text()


@pytest.mark.parametrize("width", WIDTHS)
def test_no_line_is_wider_than_the_terminal_and_no_id_is_split(width: int | None) -> None:
    text = written(width)
    assert width is None or [line for line in text.splitlines() if cells(line) > width] == []
    whole = [written(None).count(each) for each in IDS]
    assert min(whole) > 0
    assert [text.count(each) for each in IDS] == whole


def test_a_bar_and_its_times_have_the_colours_of_the_other_output() -> None:
    ours = {Style.parse(each).color for each in (GOOD, DOUBTFUL, BAD)} | {None}
    names = [name for name in DEFAULT_STYLES if name.startswith(("bar.", "progress."))]
    assert len(names) > 5
    assert [name for name in names if Terminal().get_style(name).color not in ours] == []
    assert Terminal().get_style("progress.elapsed").color is None


def test_a_bar_whose_end_clerk_did_not_tell_is_full_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clerk counts no billing statements."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    monkeypatch.setenv("TERM", "xterm")
    with os.fdopen(theirs, "w") as screen, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", screen)
        with progress_bar(quiet=False) as show:
            show(Progress("user", 7, 7))
            show(Progress("payment_attempt", 3, None))
        screen.flush()
        printed = b""
        # A terminal hands out a few thousand bytes at a time.
        while select.select([ours], [], [], 0.2)[0]:
            printed += os.read(ours, 100_000)
        last = printed.decode().rpartition("payment attempts")[2]
    os.close(ours)
    assert "3/3" in last
    assert "3/?" not in last


def test_a_pipe_gets_each_row_as_one_line_without_a_frame() -> None:
    assert not re.search("[\u2500-\u257f\x1b]", written(None))
    out = io.StringIO()
    listed = Listing("first", "second")
    listed.add_row("x" * 300, "y" * 300)
    Terminal(file=out).show(listed)
    assert len(out.getvalue().splitlines()) == 2


def test_wide_prints_each_row_on_one_line_of_a_narrow_terminal() -> None:
    out = io.StringIO()
    listed = Listing("first", "second")
    listed.add_row("x" * 300, "y" * 300)
    Terminal(file=out, width=80, wide=True).show(listed)
    assert len(out.getvalue().splitlines()) == 2


@example("`:``", 1, 0)
@example("clerk-supabase a;b", 4, 0)
@given(st.text(st.sampled_from("ab ,`:\u6709"), max_size=120), st.integers(1, 40), st.integers(0, 10))
def test_a_folded_line_keeps_every_word(line: str, width: int, indent: int) -> None:
    parts = [line[start:end] for start, end in folds(line, width, indent)]
    assert " ".join(parts).split() == line.split()
    for part in parts[1:]:
        assert cells(part) + indent <= width or len(part.split()) == 1


def test_a_command_to_copy_is_not_folded() -> None:
    line = "7 events are parked and wait for a person; see: clerk-supabase parked list --state replayed; or ask"
    parts = [line[start:end] for start, end in folds(line, 50, 2)]
    assert "clerk-supabase parked list --state replayed; or" in parts


def test_the_kinds_of_a_run_are_in_the_order_of_writing_with_the_tables_of_the_app_last() -> None:
    listed = counts_list({each: {"listed": 1} for each in ("role", "user", "public.people", "subscription_item")})
    assert listed is not None
    kinds = [line.plain.split("  ")[0] for line in listed.lines(80)]
    assert kinds == ["kind", "user", "role", "subscription item", "public.people"]
