"""The lease of a run: no other process continues the run as long as the lease is renewed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager

from clerk_supabase.errors import ClerkSupabaseError
from clerk_supabase.reconcile.pages import Work
from clerk_supabase.telemetry import logger


@contextmanager
def renewed_lease(work: Work) -> Iterator[None]:
    """Renews the lease inside the block, with a connection of its own; stops the run after it was taken over."""
    ended = threading.Event()
    seconds = work.settings.lease_seconds

    def renew() -> None:
        runs = work.runs.twin()
        with closing(runs.store):
            while not ended.wait(seconds / 5):
                try:
                    if not runs.renew(work.run_id, work.begun.lease, seconds):
                        work.stopped.set()
                except ClerkSupabaseError as error:
                    logger.warning("the lease was not renewed", reason=str(error))

    thread = threading.Thread(target=renew, name="reconcile-lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
