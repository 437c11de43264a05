"""A comparison on a terminal of 80 columns: no text that a person reads or copies is cut."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from clerk_supabase.reconcile.records import Finding, RunDetails, RunSummary
from clerk_supabase.reconcile.report import Report
from clerk_supabase_cli.operate.reconcile_report import findings_table, print_report, print_run, runs_table
from clerk_supabase_cli.terminal import Terminal

ID = "orginv_2abcdefghijklmnopqrstuvwxyzA"
AT = datetime(2026, 11, 28, 15, 53, 18, tzinfo=UTC)
CAUSE = "its last change did not arrive"
FIELDS = ("two_factor_enabled", "public_metadata", "email_addresses")
FINDING = Finding("invitation", ID, "different", "repair", FIELDS, CAUSE, None, AT, AT, "settled")
COUNTS = {
    kind: {"listed": 1_234_567, "compared": 1_234_567, "different": 1, "deleted_here": 12, "repaired": 12}
    for kind in ("organization_membership", "organization", "user")
}
RUN = RunSummary(
    run_id=42_000,
    mode="quick",
    is_dry_run=True,
    versions_only=False,
    allow_deletes=None,
    state="incomplete",
    reason="Clerk's list of users changed while it was read",
    as_of=0,
    started_at=AT,
    finished_at=AT,
    invocations=1,
    calls=123_456,
    expected={},
    counts=COUNTS,
    newest_change=None,
    newest_delivery=None,
    is_silent=None,
)


def printed(what: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> str:
    """The output on a terminal of 80 columns; fails for a line that is too long."""
    out = io.StringIO()
    monkeypatch.setenv("COLUMNS", "80")
    with contextlib.redirect_stdout(out):
        shown = what()
        if shown is not None:
            Terminal().print(shown)
    assert "…" not in out.getvalue()
    assert all(len(line) <= 80 for line in out.getvalue().splitlines() if line[0] in "│┃┏└")
    return out.getvalue()


def cells(text: str, column: int) -> str:
    """The cells of a column, from top to bottom."""
    lines = [line.split("│")[1:-1] for line in text.splitlines() if line.startswith("│")]
    return " ".join(" ".join(line[column] for line in lines).split())


def test_the_list_of_runs_shows_each_day_and_each_reason_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    text = printed(lambda: runs_table([RUN]), monkeypatch)
    assert cells(text, 2) == "2026-11-28 15:53:18"
    assert cells(text, 6) == f"incomplete: {RUN.reason}"
    assert "3,703,701" in text


def test_the_counts_of_a_run_name_each_table_of_the_app_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [*COUNTS, *(f"feed public.{table}" for table in ("users", "teams", "team_members"))]
    numbers = {name: {"compared": 1_234_567, "different": 1, "repaired": 12, "listed": 0} for name in names}
    text = printed(lambda: print_run(replace(RUN, counts=numbers)), monkeypatch)
    assert cells(text, 0) == " ".join(names)
    assert cells(text, 1) == " ".join(["1,234,567 compared, 1 different, 12 repaired"] * len(names))


def test_a_difference_shows_id_cause_columns_and_day_to_their_end(monkeypatch: pytest.MonkeyPatch) -> None:
    text = printed(lambda: findings_table([FINDING]), monkeypatch)
    assert cells(text, 0) == f"invitation {ID}"
    assert cells(text, 1) == f"different {CAUSE}"
    assert cells(text, 2).replace(" ", "") == ",".join(FIELDS)
    assert cells(text, 3) == "repair settled, 2026-11-28 15:53:18"


def test_a_member_hidden_with_its_organization_is_not_called_a_delete_that_was_not_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hidden = replace(FINDING, difference="extra", action="delete", sent_at=None, outcome="hidden with its organization")
    text = printed(lambda: findings_table([hidden]), monkeypatch)
    assert cells(text, 3) == "hidden with its org"


def test_a_line_about_several_alike_differences_names_an_object_to_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    report = Report(RUN.run_id, RUN.mode, RUN.state, RUN.reason, COUNTS, findings=1, calls=RUN.calls)
    text = printed(lambda: print_report(report, RunDetails(RUN, [], [FINDING], 1), 1.0, as_json=False), monkeypatch)
    assert f"│ {ID} │" in text
    assert text.count("1,234,567") == 6
