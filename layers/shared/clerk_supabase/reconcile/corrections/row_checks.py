"""Rows that contradict other tables here: found and corrected without a question to Clerk."""

from __future__ import annotations

import math
from typing import Final

from clerk_supabase.errors import OutOfTime, RowUnavailable
from clerk_supabase.model.facts import Kind
from clerk_supabase.model.found_kinds import KINDS
from clerk_supabase.reconcile.pages import Work
from clerk_supabase.telemetry import logger

ROWS_OF_QUICK_RUN: Final = 50_000
"""Of each kind: half a second of a quick run, for any number of rows."""

# A check of so many rows takes a tenth of a second.
_ROWS_AT_ONCE: Final = 5_000
_PORTIONS: Final = 16


def check_rows(work: Work, most: float = math.inf) -> None:
    """Corrects rows that contradict other tables here, after a check of at most `most` rows of each kind.

    The first step of a run: a deleted row that was made visible by hand is no candidate for a delete. Raises OutOfTime.
    """
    for kind in KINDS:
        _check_rows_of(work, kind, most)


def _check_rows_of(work: Work, kind: Kind, most: float) -> None:
    """See check_rows. Smaller and smaller portions find a row that takes too long; the row stays unchanged."""
    at_once = _ROWS_AT_ONCE
    only_look = is_done = False
    looked_at = 0
    while not is_done and looked_at < most:
        work.check()
        if work.seconds_left() <= 0:
            raise OutOfTime("the time for this work was up before every row was checked")
        try:
            is_done, _ = work.runs.check_rows(work.run_id, work.begun.lease, kind, at_once, only_look=only_look)
        except RowUnavailable as error:
            if only_look:
                raise
            logger.warning("rows were not corrected", kind=kind, rows=at_once, reason=str(error))
            only_look = at_once == 1
            at_once = max(1, at_once // _PORTIONS)
        else:
            looked_at += at_once
            only_look = False
            at_once = min(_ROWS_AT_ONCE, at_once * _PORTIONS)
