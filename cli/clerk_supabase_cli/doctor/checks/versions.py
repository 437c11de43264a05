"""Checks of the versions: the database, the deployed functions and this command."""

from __future__ import annotations

from collections.abc import Iterator

from clerk_supabase.version import VERSION
from clerk_supabase_cli.doctor.patient import Patient
from clerk_supabase_cli.doctor.verdicts import Finding, fail, ok, warn
from clerk_supabase_cli.operate.versions import UPGRADE, database_version, is_newer, major_of, why_of_another_major


def versions(patient: Patient) -> Iterator[Finding]:
    """Compares the versions: functions wait while the database is of another major version."""
    with patient.database() as connection:
        found = database_version(connection)
    if found is None:
        yield fail(f"the database has no version: no migration of 1.0.0 was applied, see {UPGRADE}", "")
    elif why := why_of_another_major(found):
        yield fail(why, "")
    elif is_newer(found, VERSION):
        yield warn(
            f"the database is of version {found}, and this command of version {VERSION}",
            f"install the command of version {found}: {UPGRADE}",
        )
    elif found == VERSION:
        yield ok(f"the database and this command are of version {VERSION}")
    else:
        yield ok(f"the database is of version {found}, which works with this command of version {VERSION}")
    if patient.has_stack:
        yield _of_functions(patient.stack().version, found)


def _of_functions(functions: str | None, database: str | None) -> Finding:
    if functions is None:
        return warn("the functions are older than version 1.0.0", f"clerk-supabase deploy: {UPGRADE}")
    if database is not None and major_of(functions) != major_of(database):
        return fail(
            f"the functions are of version {functions}, and the database of version {database}: events wait",
            f"deploy the functions of the version of the database, or apply the newer migrations: {UPGRADE}",
        )
    if functions != VERSION:
        return warn(
            f"the functions are of version {functions}, and this command of version {VERSION}",
            f"clerk-supabase deploy, or the command of version {functions}: {UPGRADE}",
        )
    return ok(f"the functions are of version {functions}")
