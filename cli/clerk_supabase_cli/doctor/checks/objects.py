"""Checks of the database's objects against the migrations of this checkout, whatever tool applied them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from clerk_supabase_cli.doctor.patient import Patient
from clerk_supabase_cli.doctor.verdicts import Finding, fail, ok, skipped, warn
from clerk_supabase_cli.operate.install.exposure import faults
from clerk_supabase_cli.operate.install.migrations import NewerDatabase, differing_objects, has_objects
from clerk_supabase_cli.operate.objects.comparison import Difference
from clerk_supabase_cli.operate.objects.repair import statements

_REPAIR: Final = "clerk-supabase migrate --repair"
# A database of another version may differ in a hundred objects.
_MOST_NAMED: Final = 20
_LONGEST: Final = 200


def objects(patient: Patient) -> Iterator[Finding]:
    """Compares functions, tables, triggers, policies, rights and all other objects with the migrations.

    Views and functions made by `expose` in a schema of the app are checked, too.
    """
    with patient.database() as connection:
        if not has_objects(connection):
            yield fail("nothing of this project is in the database", "clerk-supabase migrate")
            return
        try:
            found = differing_objects(connection, patient.named.root)
        except NewerDatabase as error:
            yield skipped(str(error))
            return
        exposed = faults(connection)
    for difference in found[:_MOST_NAMED]:
        # Without an index everything works, but more slowly.
        judge = warn if difference.thing.kind == "index" else fail
        yield judge(difference.words, _todo(difference))
    if len(found) > _MOST_NAMED:
        yield fail(f"and {len(found) - _MOST_NAMED} more", f"clerk-supabase migrate names all; {_REPAIR} --dry-run")
    for fault in exposed:
        yield (fail if fault.verdict == "fail" else warn)(fault.found, fault.todo)
    if not (found or exposed):
        yield ok("all are as the migrations of this version make them")


def _todo(difference: Difference) -> str:
    """Advice: the statements against a difference, if they fit a line, and the command for all differences."""
    settling = "; ".join(statements(difference))
    if not settling or len(settling) > _LONGEST or "\n" in settling:
        return _REPAIR
    return f"{settling}; or, for all that differs: {_REPAIR}"
