"""Checks the tables that Realtime sends to the subscribers of an app."""

from __future__ import annotations

from collections.abc import Iterator

from clerk_supabase_cli.adopt.supabase_auth.callers import callers
from clerk_supabase_cli.doctor.patient import Patient
from clerk_supabase_cli.doctor.verdicts import Finding, fail, ok


def realtime(patient: Patient) -> Iterator[Finding]:
    """Looks for policies of published tables that raise an error with Clerk's token, such as with `auth.uid()`."""
    with patient.database() as connection:
        tables = callers(connection).realtime
    for table in tables:
        yield fail(
            f"{table} is published to Realtime, and a policy of the table needs a uuid of the caller: a single "
            "subscriber with Clerk's token breaks the messages of all subscribers (22P02)",
            f"alter publication supabase_realtime drop table {table}; or let the policies ask for Clerk's id: "
            "docs/migrate-from-supabase-auth.md",
        )
    if not tables:
        yield ok("no published table has a policy that fails with Clerk's token")
