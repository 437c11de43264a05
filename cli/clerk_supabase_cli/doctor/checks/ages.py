"""Checks how long ago all objects of each kind were compared with Clerk."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from clerk_supabase.reconcile.pages import ReconcileSettings
from clerk_supabase_cli.doctor.patient import NotLookedAt, Patient
from clerk_supabase_cli.doctor.verdicts import Finding, ok, warn
from clerk_supabase_cli.event_types import compared_with, how_it_comes, is_compared, plural, what_heals
from clerk_supabase_cli.operate.monitor.database_state import read_compared
from clerk_supabase_cli.printing import how_long

# A multiple of ReconcileSweepMinutes: a single failed run delays a slice, which is no reason for an alarm.
_FACTOR: Final = 2
# Every user is compared by the full run only, once a day by default.
OLDEST_USERS_SECONDS: Final = 49 * 3_600
_ADVICE: Final = (
    "clerk-supabase reconcile compares all; clerk-supabase reconcile runs shows the runs that ended early or failed"
)


def compared(patient: Patient) -> Iterator[Finding]:
    """Checks that every kind was compared within the bounds set by the stack, or the default bounds without a stack.

    Names each kind that no run can compare, with what repairs its rows.
    """
    bound = _sweep_minutes(patient) * 60 * _FACTOR
    with patient.database() as connection:
        found = read_compared(connection)
    for kind, each in found.items():
        oldest = OLDEST_USERS_SECONDS if kind == "user" else bound
        name = plural(kind)
        if other := compared_with(kind):
            yield ok(f"{name} are compared with {other}: {what_heals(kind)}")
        elif not is_compared(kind):
            yield ok(f"{name} are not compared, as Clerk has no list of them: {what_heals(kind)}")
        elif each.is_switched_off:
            yield ok(f"{name} are switched off in Clerk, and not compared")
        elif each.age_seconds is None:
            yield warn(f"{name} were never compared as a whole{how_it_comes(kind)}", _ADVICE)
        elif each.age_seconds > oldest:
            ago = how_long(each.age_seconds)
            yield warn(
                f"all {name} were last compared {ago} ago, longer than {how_long(oldest)}{how_it_comes(kind)}", _ADVICE
            )
        else:
            yield ok(f"all {name} were compared within {how_long(max(0.0, each.age_seconds))}{how_it_comes(kind)}")


def _sweep_minutes(patient: Patient) -> float:
    if not patient.named.stack_name:
        return ReconcileSettings().sweep_minutes
    functions = patient.functions()
    if functions.reconcile is None:
        raise NotLookedAt("this stack has no reconcile function, so nothing is compared (UseClerkApi=false)")
    return functions.rules.sweep_minutes
