"""The begin of an outage, as commands remember it."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from clerk_supabase_cli.operate.monitor.function_logs import Outage
from clerk_supabase_cli.operate.monitor.outages import Outages

NOW = datetime.now(UTC)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "outage-1.json"


def test_the_begin_of_an_outage_stays_from_one_command_to_the_next_until_the_database_answers(file: Path) -> None:
    first = Outages(file).failed(NOW - 20 * MINUTE, "no answer")
    os.utime(file)
    assert Outages(file).failed(NOW - 10 * MINUTE, "no answer").since == first.since == NOW - 20 * MINUTE
    outages = Outages(file)
    assert [outages.failed(NOW + each * MINUTE, "no answer").since for each in (0, 1)] == [first.since] * 2
    outages.answered(NOW)
    assert not file.exists()
    assert Outages(file).failed(NOW, "no answer").since == NOW


def test_an_outage_that_nobody_has_looked_at_for_long_may_be_another_one(file: Path) -> None:
    file.write_text(f'["{NOW - 60 * MINUTE}", "{NOW - 16 * MINUTE}", "no answer"]')
    assert Outages(file).failed(NOW, "no answer").since == NOW


def test_the_logs_of_the_functions_may_know_an_earlier_begin_and_none_before_the_last_answer() -> None:
    outages = Outages()
    known = Outage(NOW - 5 * MINUTE, NOW, "down")
    assert outages.failed(NOW, "down", known).since == known.since
    outages.answered(NOW - MINUTE)
    assert outages.failed(NOW, "down", known).since == NOW


def test_an_outage_that_another_command_noted_before_the_last_answer_is_over(file: Path) -> None:
    """As noted by a command whose way to the database was another one, while this command was answered."""
    console = Outages(file)
    Outages(file).failed(NOW - 2 * MINUTE, "no answer")
    console.answered(NOW - MINUTE)
    Outages(file).failed(NOW - 2 * MINUTE, "no answer")
    assert console.failed(NOW, "no answer").since == NOW


@pytest.mark.parametrize(
    "content", ["", "{}", "[1, 2, 3]", '["2026-01-01", "2026-01-02", ""]', "[[]]", "\x00", "9" * 9]
)
def test_a_damaged_memory_is_no_memory(file: Path, content: str) -> None:
    file.write_text(content)
    assert Outages(file).failed(NOW, "no answer").since == NOW


def test_without_a_folder_to_write_to_an_outage_is_told_all_the_same(tmp_path: Path) -> None:
    outages = Outages(tmp_path / "missing" / "outage-1.json")
    assert outages.failed(NOW, "no answer").since == NOW
    assert outages.failed(NOW + MINUTE, "no answer").since == NOW
