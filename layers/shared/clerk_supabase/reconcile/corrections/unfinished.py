"""Goes on with deletes that hide very many rows and whose events did not come to the last part."""

from __future__ import annotations

from collections.abc import Callable

from clerk_supabase.errors import ChangeRefused, RowUnavailable
from clerk_supabase.postgres.store import Store
from clerk_supabase.telemetry import logger


def finish_deletes(store: Store, is_in_time: Callable[[], bool]) -> None:
    """Hide the rest of the rows of each unfinished delete, and show the rest of each that was undone.

    A delete with rows that a trigger of the app refuses, or that a lock of the app holds up, is logged, and these rows
    wait for the next call. Raises Retryable.
    """
    for kind, object_id in store.call("list_unfinished", {}):
        try:
            if not store.finish_delete(kind, object_id, is_in_time):
                return
        except (ChangeRefused, RowUnavailable) as error:
            logger.error("a delete is unfinished", kind=kind, object_id=object_id, reason=str(error))
        else:
            logger.info("a delete in parts is finished", kind=kind, object_id=object_id)
