"""Tables of the app that follow the mirror: unfed rows are tried again, and a full run compares every row."""

from __future__ import annotations

from clerk_supabase.errors import ClerkSupabaseError, OutOfTime
from clerk_supabase.reconcile.pages import Work
from clerk_supabase.reconcile.runs import Runs
from clerk_supabase.telemetry import count, logger

_ROWS_AT_ONCE = 1_000
_RETRIED = 500
# A retry locks the objects: their events wait so long.
_SECONDS = 2


def retry_unfed(runs: Runs) -> None:
    """Tries unfed rows again, and counts the remaining rows for the alarm. An error does not stop the comparison."""
    try:
        tried, written, left = runs.retry_unfed(_RETRIED, _SECONDS)
    except ClerkSupabaseError as error:
        logger.error("unfed rows were not tried again", reason=str(error))
        return
    count("UnfedRows", left)
    if tried:
        logger.info("unfed rows tried again", tried=tried, written=written, left=left)


def compare_feeds(work: Work) -> None:
    """Compares each fed table with the mirror, and writes the rows that differ unless the run is a dry run."""
    while not work.runs.compare_feed(work.run_id, work.begun.lease, _ROWS_AT_ONCE):
        work.check()
        if work.seconds_left() <= 0:
            raise OutOfTime("the time for this work was up before every fed table was compared")
