"""Messages of a command without the address of the database, or without another necessary option."""

from __future__ import annotations

import pytest

from tests.kit.parked import Command


@pytest.mark.parametrize(
    ("line", "option", "variable"),
    [
        (["retention"], "--database-url", "DATABASE_URL"),
        (["parked", "list"], "--database-url", "DATABASE_URL"),
        (["setup"], "--publishable-key", "CLERK_PUBLISHABLE_KEY"),
    ],
)
def test_a_missing_option_is_named_with_the_variable_that_may_hold_it(
    line: list[str], option: str, variable: str
) -> None:
    said = Command({}).run(*line, status=2).stderr
    assert f"Missing option '{option}' or the environment variable {variable}." in said
