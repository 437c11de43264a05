"""Removal of old data: the data of deleted objects, for good, and records without further use."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from clerk_supabase.errors import ClerkSupabaseError
from clerk_supabase.postgres.store import Store
from clerk_supabase.settings import Keep
from clerk_supabase.telemetry import count, logger

_SECONDS = 60.0
# Rows that still hold their data. Such rows ring the alarm once, and the run of another night tries them again.
_KEPT = ("kept", "still kept")


class Housekeeping:
    """Purges and prunes. Harmless to repeat, to interrupt, and to run twice at once."""

    def __init__(self, store: Store, keep: Keep) -> None:
        self._store = store
        self._keep = keep

    def run(self, seconds: float = _SECONDS, monotonic: Callable[[], float] = time.monotonic) -> int:
        """Purge rows, and return their number. Rows left at the end of the time ring, and wait for the next run."""
        total = 0
        deadline = monotonic() + seconds
        is_told = False
        is_held_up = False
        while True:
            if monotonic() >= deadline:
                is_held_up = True
                logger.error("not all that is due was purged and pruned", reason=f"it took longer than {seconds:g} s")
                break
            try:
                answer = self._store.call("keep_house", asdict(self._keep))
            except ClerkSupabaseError as error:
                is_held_up = True
                logger.error("nothing purged or pruned", reason=str(error))
                break
            if answer["not_followed"] and not is_told:
                is_told = True
                self._tell_not_followed(answer["not_followed"])
            pruned = {what: rows for what, rows in answer["pruned"].items() if rows}
            if pruned:
                logger.info("old records pruned", **pruned)
            for portion in answer["purged"]:
                self._tell(portion["kind"], portion["outcome"], portion["constraint"], portion["rows"])
                total += portion["rows"] if portion["outcome"] not in _KEPT else 0
                is_held_up = is_held_up or portion["outcome"] == "kept"
            if answer["failed"]:
                is_held_up = True
                logger.error("nothing purged", reason=answer["failed"])
            if not pruned and not answer["purged"]:
                break
        if is_held_up:
            count("HousekeepingFailed")
        return total

    def _tell_not_followed(self, not_followed: Mapping[str, Mapping[str, object]]) -> None:
        """Log each parameter of the stack with a shorter time than the owner of the database allows."""
        told: dict[str, Any] = {
            name: f"{each['asked']} asked for, {each['allowed']} allowed" for name, each in not_followed.items()
        }
        logger.warning("the database keeps more than the stack asks for", todo="clerk-supabase retention", **told)

    def _tell(self, kind: str, outcome: str, constraint: str | None, rows: int) -> None:
        if outcome in _KEPT:
            level = logger.error if outcome == "kept" else logger.info
            level("rows can be neither deleted nor scrubbed", kind=kind, constraint=constraint, rows=rows)
        elif outcome == "refused":
            count("PurgeRefused", rows)
            logger.warning("rows could not be deleted and were scrubbed", kind=kind, constraint=constraint, rows=rows)
        else:
            count("Purged", rows)
            logger.info("rows purged", kind=kind, outcome=outcome, rows=rows)
