"""The back-fill of a new stack: the first comparison writes the rows of the stand-in's users and organizations."""

from __future__ import annotations

import math

from clerk_supabase.credentials import Fixed
from clerk_supabase.reconcile.pages import ReconcileSettings
from clerk_supabase.reconcile.request import Request
from clerk_supabase_cli.local.processes import LocalStackError
from clerk_supabase_cli.operate.comparing import open_reconcile


def fill(database_url: str, clerk_api_url: str, secret_key: str) -> None:
    """Runs the comparison of `clerk-supabase reconcile`. Raises LocalStackError for an incomplete comparison."""
    key = Fixed(secret_key, "the key of the stand-in")
    with open_reconcile(database_url, clerk_api_url, None, ReconcileSettings(), key=key) as tools:
        # No row of another beginning is deleted.
        report = tools.reconcile.run(Request("full", allow_deletes=0), math.inf)
    if report.state != "complete":
        raise LocalStackError(
            f"the first comparison with the stand-in for Clerk is {report.state}: {report.reason}; begin "
            "with an empty database, or with --no-population"
        )
