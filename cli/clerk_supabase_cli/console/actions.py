"""Replay and discard of one parked event, by the code behind `clerk-supabase parked`."""

from __future__ import annotations

from collections.abc import Callable

from clerk_supabase.aws.queue import Queue
from clerk_supabase_cli.failure import Failure
from clerk_supabase_cli.operate.database import open_database
from clerk_supabase_cli.operate.parked import (
    OPEN_STATES,
    Selection,
    check_discardable,
    check_replayable,
    discard,
    find,
    replay,
)
from clerk_supabase_cli.operate.queues import HOW_TO_NAME_QUEUES, Queues, client
from clerk_supabase_cli.operator_name import operator_name


class NotDone(Failure):
    """The action was not carried out; the message says why."""


def replay_event(database_url: str, queues: Callable[[], Queues | None], svix_id: str) -> str:
    """Sends an event to the sync queue again. Returns what was done. Raises Failure."""
    found = queues()
    if found is None or "sync" not in found.urls:
        raise NotDone(f"not replayed: name the sync queue by {HOW_TO_NAME_QUEUES}")
    with open_database(database_url) as connection:
        check_replayable(connection, [svix_id])
        selection = Selection((svix_id,), states=OPEN_STATES)
        result = replay(connection, Queue(client("sqs"), found.urls["sync"]), selection)
    if result.too_large:
        raise NotDone(f"{svix_id} is too large for a queue")
    if result.stopped_by:
        raise NotDone(f"{svix_id} was not replayed: {result.stopped_by}")
    return f"{svix_id} was sent to the queue again"


def discard_event(database_url: str, svix_id: str) -> str:
    """Discards an event. Returns what was done. Raises Failure."""
    with open_database(database_url) as connection:
        check_discardable(connection, [svix_id])
        events = find(connection, Selection((svix_id,), states=OPEN_STATES))
        number = discard(connection, events, operator_name())
    if not number:
        raise NotDone(f"{svix_id} was changed by somebody else meanwhile: look again")
    return f"{svix_id} was discarded"
