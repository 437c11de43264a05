"""Retries of rows held by a lock: at the end of a run, and in later runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from clerk_supabase.clerk.api import MOST_IDS
from clerk_supabase.clerk.lookups import Held
from clerk_supabase.errors import ClerkKeyRejected, ClerkRejected
from clerk_supabase.model.facts import ReadKind
from clerk_supabase.model.found_kinds import READ_KINDS
from clerk_supabase.reconcile.corrections.reading import repairs_by_reading
from clerk_supabase.reconcile.corrections.repairs import Settled, settled
from clerk_supabase.reconcile.pages import Work
from clerk_supabase.telemetry import logger

# Of each kind: with locks on more rows, most rows are locked, and the next run comes soon.
_MOST: Final = MOST_IDS


class StillWrong(NamedTuple):
    """Numbers of rows that a run could not change."""

    held_up: int
    """Rows held by a lock of another transaction."""
    refused: int
    """Rows whose correction the app refuses, or whose repair Postgres refuses after the lock has ended."""


def retry_held_up(work: Work) -> StillWrong:
    """Retry the rows held up by locks in this run, and in earlier runs since yesterday."""
    held = work.runs.retry_held_up(work.run_id, work.begun.lease, _MOST)
    held_up, refused = held.rows + held.waiting, held.refused
    for kind in READ_KINDS:
        if kind in held.objects:
            work.check()
            became = _repaired(work, kind, held.objects[kind])
            held_up -= len(became.sent) + len(became.refused)
            refused += len(became.refused)
    return StillWrong(held_up, refused)


def _repaired(work: Work, kind: ReadKind, held: Sequence[Held]) -> Settled:
    try:
        repairs = repairs_by_reading(work.clerk, work.run_id, kind, held, work.features)
    except ClerkKeyRejected:
        raise
    except ClerkRejected as error:
        logger.warning("objects held up by locks could not be read again", kind=kind, reason=str(error))
        return settled([], [])
    became = settled(repairs, work.repairs.send(work.runs.store, repairs, work.clock_ms()))
    work.runs.settle(work.run_id, kind, sent=became.sent, refused=became.refused)
    return became
