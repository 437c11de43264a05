"""Expressions that Postgres prints are the same in every version, and after a dump."""

from __future__ import annotations

import pytest

from clerk_supabase_cli.operate.objects.expressions import flat, without_qualifiers


@pytest.mark.parametrize(
    ("definition", "bare"),
    [
        ("SELECT m.role FROM public.members m WHERE m.a = 1;", "SELECT role FROM public.members m WHERE a = 1;"),
        ("SELECT asked.id FROM clerk_sync.caller() asked(id);", "SELECT id FROM clerk_sync.caller() asked(id);"),
        ("SELECT evil.f() FROM public.members m;", "SELECT evil.f() FROM public.members m;"),
        ("SELECT m.a FROM (a.b m JOIN c.d e ON (m.x = e.x))", "SELECT a FROM (a.b m JOIN c.d e ON (x = x))"),
    ],
)
def test_columns_of_a_view_lose_the_names_of_their_tables_and_nothing_else_does(definition: str, bare: str) -> None:
    assert without_qualifiers(definition) == bare


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("CHECK (((a AND b) AND (c AND d)))", "CHECK ((a AND b AND c AND d))"),
        (
            "CHECK (((x >= 0) AND (x <= 5)) AND ((y >= 0) AND (y <= 5)))",
            "CHECK ((x >= 0) AND (x <= 5) AND (y >= 0) AND (y <= 5))",
        ),
        ("(a OR (b OR c))", "(a OR b OR c)"),
        ("(a\n  AND   b)", "(a AND b)"),
    ],
)
def test_parentheses_inside_a_chain_do_not_matter(one: str, other: str) -> None:
    assert flat(one) == flat(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("((a OR b) AND c)", "(a OR (b AND c))"),
        ("((a OR b) AND c)", "(a OR b AND c)"),
        ("(NOT (a AND b) AND c)", "(NOT a AND b AND c)"),
        ("(f(a AND b) AND c)", "(f a AND b AND c)"),
        ("('x AND (y)' = z)", "('x AND y' = z)"),
        ("('a''b (' = z)", "('a''b' = z)"),
        ("(a = 'x  y')", "(a = 'x y')"),
    ],
)
def test_expressions_with_another_meaning_differ(one: str, other: str) -> None:
    assert flat(one) != flat(other)
