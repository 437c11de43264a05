"""How the command prints times and numbers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from clerk_supabase_cli.options import Moment
from clerk_supabase_cli.printing import counted, how_long


@pytest.mark.parametrize(
    ("seconds", "printed"),
    [
        (0.0421, "42 ms"),
        (1.25, "1.2 s"),
        (119, "119.0 s"),
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
