"""Times, numbers and foreign text in print."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table
from rich.text import Text

from clerk_supabase_cli.options import Moment
from clerk_supabase_cli.printing import StandardError, counted, how_long, printable, say, shown
from clerk_supabase_cli.terminal import Terminal

# C0, DEL, C1, what turns the direction of text around, ends of lines of other kinds, and half a surrogate pair.
COMMANDS_OF_TERMINALS = [
    *map(chr, (*range(0x20), 0x7F, *range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A))),
    *("\u200e", "\u200f", "\u2028", "\u2029", "\ufeff", "\ud800"),
]
PIECES = st.characters() | st.sampled_from([*COMMANDS_OF_TERMINALS, "[red]", "[/]", ":smile:", "\x1b[2J"])
anything = st.lists(PIECES, max_size=20).map("".join)


@pytest.mark.parametrize(
    ("seconds", "printed"),
    [
        (0.0421, "42 ms"),
        (1.25, "1.2 s"),
        (0.9996, "1.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (101.7, "102 s"),
        (119, "119 s"),
        (120, "2 min"),
        (7_200, "2 h"),
        (172_800, "2 d"),
        # Clerk's clock may be ahead of ours.
        (-0.05, "-50 ms"),
    ],
)
def test_a_duration_is_printed_in_the_unit_a_person_would_take(seconds: float, printed: str) -> None:
    assert how_long(seconds) == printed


def test_one_event_is_not_called_events() -> None:
    assert [counted(number) for number in (0, 1, 2)] == ["0 events", "1 event", "2 events"]


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-01-31", datetime(2026, 1, 31, tzinfo=UTC)),
        ("2026-01-31T12:00", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31T12:00+02:00", datetime(2026, 1, 31, 10, tzinfo=UTC)),
    ],
)
def test_a_time_without_an_offset_is_utc(text: str, moment: datetime) -> None:
    assert Moment().convert(text, None, None) == moment


@pytest.mark.parametrize(
    ("text", "ago"), [("90m", timedelta(minutes=90)), ("2h", timedelta(hours=2)), ("1w", timedelta(weeks=1))]
)
def test_an_age_counts_back_from_now(text: str, ago: timedelta) -> None:
    moment = Moment().convert(text, None, None)
    assert timedelta() <= datetime.now(UTC) - ago - moment < timedelta(seconds=5)


def obeyed(printed: str) -> set[str]:
    """The characters that a terminal would obey instead of showing them."""
    return {each for each in printed if not each.isprintable() and each != "\n"}


@pytest.mark.parametrize("character", COMMANDS_OF_TERMINALS, ids=ascii)
def test_characters_that_a_terminal_would_obey_are_shown_escaped(character: str) -> None:
    assert printable(f"a{character}b").isprintable()
    assert printable(f"a{character}b").startswith("a\\")


@given(anything)
def test_a_text_is_printed_on_one_line_and_stays_as_it_is_if_it_can_be_seen(text: str) -> None:
    assert printable(text).isprintable()
    assert (printable(text) == text) == text.isprintable()
    assert shown(text).count("\n") == text.count("\n")


@given(anything, st.booleans())
def test_no_output_commands_the_terminal(text: str, err: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        out = io.StringIO()
        patch.setattr("sys.stderr" if err else "sys.stdout", out)
        say(text, err=err)
    assert out.getvalue() == f"{shown(text)}\n"
    assert not obeyed(out.getvalue())


def test_a_record_of_the_log_is_shown_in_words_beside_a_bar(capsys: pytest.CaptureFixture[str]) -> None:
    placed = '"level":"ERROR","location":"send:115","message":"not repaired","service":"x","version":"1.0.0"'
    record = f'{{{placed},"reason":"\\u001b[2J"}}'
    StandardError().write(f"{record}\nno record\n")
    assert capsys.readouterr().err == "error: not repaired; reason: \\x1b[2J\nno record\n"


@given(anything)
def test_nothing_in_a_table_or_in_styled_text_commands_the_terminal(text: str) -> None:
    out = io.StringIO()
    terminal = Terminal(file=out, width=500)
    table = Table("plain", text, title=text)
    table.add_row(text, Text(text))
    terminal.print(text, table, Text(text, "red"))
    terminal.print(text, style="bold", soft_wrap=True)
    assert not obeyed(out.getvalue())


@pytest.mark.parametrize("text", ["[red]x[/red]", "[bold", "[/]", "[link=https://evil.test]x[/link]", ":smile:"])
def test_markup_in_what_others_wrote_stays_text(text: str) -> None:
    out = io.StringIO()
    terminal = Terminal(file=out, width=100)
    table = Table("one", "two")
    table.add_row(text, Text(text))
    terminal.print(text, table)
    assert out.getvalue().count(text) == 3
