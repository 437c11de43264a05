"""Checks the tables of the app that follow the mirror."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from clerk_supabase_cli.doctor.patient import Patient
from clerk_supabase_cli.doctor.verdicts import Finding, fail, ok
from clerk_supabase_cli.operate.monitor.database_state import read_unfed
from clerk_supabase_cli.operate.monitor.problems import unfed_problems

_FAULTS: Final = "select target, kind, fault from clerk_sync.faults_of_feeds()"
_SWITCH: Final = "clerk-supabase adopt switch --write makes the feed again"
_RUNBOOK: Final = "docs/runbook.md#unfedrowsalarm"


def feeds(patient: Patient) -> Iterator[Finding]:
    """Checks that each feed is as its mapping makes it, and that no row is unfed."""
    with patient.database() as connection:
        found = connection.execute(_FAULTS).fetchall()
        unfed = list(unfed_problems(read_unfed(connection)))
    for target, kind, fault in found:
        if fault is not None:
            yield fail(f"the feed of {target} ({kind}s): {fault}", _SWITCH)
    for problem in unfed:
        yield fail(problem, _RUNBOOK)
    if not unfed and all(fault is None for _, _, fault in found):
        tables = ", ".join(target for target, _, _ in found)
        yield ok(f"these tables follow the mirror: {tables}" if tables else "no table of the app follows the mirror")
