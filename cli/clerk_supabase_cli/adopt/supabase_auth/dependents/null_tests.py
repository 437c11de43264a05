"""Policies, and views of their owner, that test a column for null: an emptied column may open its row to everybody."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from clerk_supabase_cli.adopt.supabase_auth.dependents.generated_columns import GeneratedColumn
from clerk_supabase_cli.adopt.supabase_auth.dependents.policies import policies
from clerk_supabase_cli.adopt.supabase_auth.dependents.views import views
from clerk_supabase_cli.adopt.supabase_auth.user_columns import UserColumn
from clerk_supabase_cli.operate.database import Connection

# As Postgres prints expressions. A comparison with null is null, and closes the row; only these constructs turn a null
# into true. Behind the name of a column stand its casts, each with a parenthesis.
_BEHIND: Final = r"""(?: \) | ::[\w ."]+? )*"""
_TURNS_NULL_INTO_TRUE: Final = r"""
    {column} {behind} \ IS\ (?: NULL | (?: NOT\ )? DISTINCT\ FROM )
    | DISTINCT\ FROM\ \(* {column}
    | \bCASE\b
    | \bIS\ (?: NOT\ (?: TRUE | FALSE ) | UNKNOWN )
"""
_TAKES_NULLS: Final = re.compile(r"\b(?:COALESCE|num_nulls|num_nonnulls)\(")
_LITERAL: Final = re.compile(r"'(?:[^']|'')*'")


def null_tests(connection: Connection, column: UserColumn, generated: Sequence[GeneratedColumn]) -> list[str]:
    """The objects whose expressions may be true for a null in the column.

    These are policies, views that read as their owner, and columns of *generated*.
    """
    name = re.compile(rf"""(?<![\w$"]){re.escape(column.printed_column)}(?![\w$"])""")
    test = re.compile(_TURNS_NULL_INTO_TRUE.format(column=name.pattern, behind=_BEHIND), re.VERBOSE)

    def tests(text: str | None) -> bool:
        expression = _LITERAL.sub("''", text or "")
        calls = (_arguments(expression, call.end()) for call in _TAKES_NULLS.finditer(expression))
        return bool(test.search(expression)) or any(name.search(arguments) for arguments in calls)

    return [
        *(
            f"policy {each.name} on {each.table}"
            for each in policies(connection, [column])
            if each.reads and (tests(each.qual) or tests(each.check))
        ),
        *(
            f"view {each.name}"
            for each in views(connection, [column])
            if each.reads_as_owner and tests(each.definition)
        ),
        *(f"generated column {each.column.at}" for each in generated if tests(each.column.default)),
    ]


def _arguments(expression: str, start: int) -> str:
    """The text from *start* up to the parenthesis that closes the call."""
    depth = 1
    for end, letter in enumerate(expression[start:], start):
        depth += (letter == "(") - (letter == ")")
        if not depth:
            return expression[start:end]
    return expression[start:]
