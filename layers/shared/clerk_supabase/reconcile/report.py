"""Reports of runs and resyncs: to the caller, in metrics for the alarms, and in the log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from clerk_supabase.model.facts import ReadKind
from clerk_supabase.model.found_kinds import READ_KINDS
from clerk_supabase.reconcile.corrections.resync import Outcome, Resynced
from clerk_supabase.reconcile.drift import WRONG_CARRIER
from clerk_supabase.reconcile.records import Counts, RunSummary, State
from clerk_supabase.reconcile.request import Mode
from clerk_supabase.telemetry import count, count_by, logger

_COUNTED: Final = ("missing", "stale", "different", "extra", "deleted here")
# Items without a right subscription are the only sign of a lost event of the subscription, which Clerk does not list.
_FOUND: Final = (*_COUNTED, WRONG_CARRIER)


@dataclass(frozen=True, slots=True)
class Report:
    """Results of a run until now, or of a resync."""

    run_id: int | None
    """The number of the run; None for a resync of one object, which is no run."""
    mode: Mode
    state: State | Literal["busy"]
    """The state of the run; `busy`: another process works on it."""
    reason: str | None
    counts: Counts
    findings: int
    """Differences, the repaired ones included."""
    calls: int
    """Requests to Clerk by this process."""
    is_resumed: bool = False
    dry_run: bool = False
    is_silent: bool = False
    objects: Sequence[Resynced] = ()
    """The actions of a resync, by object."""
    compared_until: Mapping[ReadKind, int] = field(default_factory=dict)
    """The latest moment, by Clerk's clock, up to which all objects of a kind are known to be compared; kinds without
    such a moment are missing."""


def report_of(
    run: RunSummary,
    *,
    state: State | Literal["busy"],
    reason: str | None,
    calls: int,
    is_resumed: bool = False,
    compared_until: Mapping[ReadKind, int] | None = None,
) -> Report:
    """The report of a run: its row, with the facts known to this process only."""
    return Report(
        run_id=run.run_id,
        mode=run.mode,
        state=state,
        reason=reason,
        counts=run.counts,
        findings=sum(_sum(run.counts, name) for name in _FOUND),
        calls=calls,
        is_resumed=is_resumed,
        dry_run=run.is_dry_run,
        is_silent=bool(run.is_silent),
        compared_until=compared_until or {},
    )


def report_of_resync(outcome: Outcome, *, calls: int) -> Report:
    """The report of a resync, which counts the actions by kind."""
    counts: dict[str, dict[str, int]] = {}
    for each in outcome.objects:
        of_kind = counts.setdefault(each.kind, {})
        of_kind[each.done] = of_kind.get(each.done, 0) + 1
    not_changed = sum(each.done == "not changed" for each in outcome.objects)
    left = f"{not_changed} of {len(outcome.objects)} objects could not be changed" if not_changed else None
    reason = "; ".join(filter(None, [left, outcome.doubts])) or None
    return Report(
        run_id=None,
        mode="quick",
        state="complete" if reason is None else "incomplete",
        reason=reason,
        counts=counts,
        findings=0,
        calls=calls,
        objects=outcome.objects,
    )


def _sum(counts: Counts, name: str) -> int:
    return sum(of_kind.get(name, 0) for of_kind in counts.values())


def tell(report: Report, *, is_first: bool) -> None:
    """Counts for the alarms, once a run, and a line in the log. The first run fills the tables and finds no drift."""
    count("ClerkCalls", report.calls)
    if report.state != "running" and not report.dry_run:
        ended = {"complete": "FullRunsComplete" if report.mode == "full" else "QuickRunsComplete"}
        count(ended.get(report.state, "RunsFailed" if report.state == "failed" else "RunsIncomplete"))
        count("Drift", 0 if is_first else report.findings)
        for kind in READ_KINDS:
            drift = sum(report.counts.get(kind, {}).get(name, 0) for name in _FOUND)
            count_by("Drift", "kind", kind, 0 if is_first else drift)
        for name in _COUNTED:
            count(name.title().replace(" ", ""), _sum(report.counts, name))
        count("RepairsSent", _sum(report.counts, "repaired") + _sum(report.counts, "repairs sent"))
        count("DeletesSent", _sum(report.counts, "deleted") + _sum(report.counts, "deletes sent"))
        if report.mode == "quick":
            count("Silence", int(report.is_silent))
    log = logger.info if report.state in ("complete", "running") else logger.error
    log(
        f"run {report.state}",
        run_id=report.run_id,
        mode=report.mode,
        reason=report.reason,
        counts=report.counts,
        calls=report.calls,
        is_resumed=report.is_resumed,
        compared_until=report.compared_until,
    )


def tell_ages(compared_until: Mapping[ReadKind, int], now: int) -> None:
    """Counts the age of the oldest comparison of a row, by kind: later losses are not found yet."""
    for kind, moment in compared_until.items():
        count_by("MinutesSinceCompared", "kind", kind, max(0, now - moment) // 60_000)
