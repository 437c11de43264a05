"""Checks the tables that Realtime sends to the subscribers of an app."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from clerk_supabase_cli.adopt.supabase_auth.callers import callers
from clerk_supabase_cli.doctor.patient import Patient
from clerk_supabase_cli.doctor.verdicts import Finding, fail, ok

_OF_OURS: Final = """
    select string_agg(format('%I.%I', t.schemaname, t.tablename), ', ' order by t.tablename)
    from pg_publication_tables as t where t.pubname = 'supabase_realtime' and t.schemaname = 'clerk_sync'
"""


def realtime(patient: Patient) -> Iterator[Finding]:
    """Looks for published tables of clerk_sync, and for policies that fail with Clerk's token, as with `auth.uid()`."""
    with patient.database() as connection:
        tables = callers(connection).realtime
        [(ours,)] = connection.execute(_OF_OURS).fetchall()
    if ours:
        yield fail(
            f"Realtime decodes every change of tables of clerk_sync, which no subscriber may read: {ours}",
            f"alter publication supabase_realtime drop table {ours}; or, if it publishes all tables, make it anew",
        )
    for table in tables:
        yield fail(
            f"{table} is published to Realtime, and a policy of the table needs a uuid of the caller: a single "
            "subscriber with Clerk's token breaks the messages of all subscribers (22P02)",
            f"alter publication supabase_realtime drop table {table}; or let the policies ask for Clerk's id: "
            "docs/migrate-from-supabase-auth.md",
        )
    if not tables and not ours:
        yield ok("no published table has a policy that fails with Clerk's token")
