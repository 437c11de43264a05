"""The words about versions that differ: between the functions, the database and the command."""

from __future__ import annotations

import pytest

from clerk_supabase.version import MAJOR, VERSION
from clerk_supabase_cli.doctor.checks.versions import _of_functions
from clerk_supabase_cli.doctor.verdicts import Verdict
from clerk_supabase_cli.operate.versions import is_newer, why_of_another_major

NEXT = f"{MAJOR + 1}.0.0"


@pytest.mark.parametrize(
    ("functions", "database", "verdict"),
    [
        (VERSION, VERSION, Verdict.OK),
        (VERSION, None, Verdict.OK),
        (f"{MAJOR}.99.0", VERSION, Verdict.WARN),
        (None, VERSION, Verdict.WARN),
        (NEXT, VERSION, Verdict.FAIL),
        (VERSION, NEXT, Verdict.FAIL),
    ],
)
def test_functions_of_another_major_version_fail_and_of_another_minor_one_are_a_warning(
    functions: str | None, database: str | None, verdict: Verdict
) -> None:
    found = _of_functions(functions, database)
    assert found.verdict == verdict
    assert ("docs/upgrade.md" in found.todo) == (verdict != Verdict.OK)


def test_versions_are_compared_by_their_numbers() -> None:
    assert is_newer("1.10.0", "1.9.9")
    assert not is_newer("1.2.3", "1.2.3")


def test_a_command_names_the_database_of_another_major_version() -> None:
    assert why_of_another_major(VERSION) is None
    assert why_of_another_major(None) is None
    assert f"use the command of version {MAJOR + 1}" in str(why_of_another_major(NEXT))
