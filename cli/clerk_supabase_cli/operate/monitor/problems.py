"""Problems in the tables and queues, each in a sentence for `status` and `doctor`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from clerk_supabase_cli.event_types import in_words
from clerk_supabase_cli.operate.monitor.database_state import (
    REPLAY_TAKES,
    Database,
    NotPurged,
    Unfed,
    UnfinishedDelete,
    WrongInstance,
)
from clerk_supabase_cli.operate.queues import Depth, Name
from clerk_supabase_cli.printing import counted, how_long, in_utc

# The limit of SyncBacklogAlarm in template.yaml.
_OLDEST_SECONDS: Final = 600.0


def database_problems(database: Database) -> Iterator[str]:
    """Problems in the tables, each in a sentence."""
    if waiting := database.events["parked"]:
        yield f"{counted(waiting)} parked; see: clerk-supabase parked list"
    if database.overdue:
        yield (
            f"{counted(database.overdue)} replayed more than {REPLAY_TAKES} ago and not back; "
            "see: clerk-supabase parked list --state replayed"
        )


def purge_problems(not_purged: Sequence[NotPurged]) -> Iterator[str]:
    """A sentence for each kind and reason of failed purges."""
    for each in not_purged:
        yield (
            f"{counted(each.count, f'deleted {in_words(each.kind)} row')} could not be purged "
            f"since {in_utc(each.since)} UTC: {each.reason}; see clerk_sync.not_purged"
        )


def unfinished_problems(unfinished: Sequence[UnfinishedDelete]) -> Iterator[str]:
    """A sentence for each delete that is applied in parts."""
    for each in unfinished:
        what = "the delete" if each.is_deleted else "the undo of the delete"
        yield (
            f"{what} of {each.id} ({in_words(each.kind)}) is being applied since {in_utc(each.since)} UTC: "
            f"{counted(each.rows_left, 'row')} left"
        )


def unfed_problems(unfed: Sequence[Unfed]) -> Iterator[str]:
    """A sentence for each table and reason of unfed rows."""
    for each in unfed:
        yield (
            f"{counted(each.count, 'row')} of {each.table} "
            f"{'is' if each.count == 1 else 'are'} not written since {in_utc(each.since)} UTC: {each.reason}; "
            "to try again and list them: clerk-supabase adopt switch --retry"
        )


def instance_problems(found: Sequence[WrongInstance]) -> Iterator[str]:
    """A sentence for each other Clerk instance whose last event came within a day."""
    for each in found:
        if each.is_recent:
            yield (
                f"{counted(each.events)} of the Clerk instance {each.instance_id or '(many others)'} not applied, the "
                f"last at {in_utc(each.last_at)} UTC: the database mirrors {each.mirrored or 'no instance'}; "
                "see docs/runbook.md#wronginstancealarm"
            )


def queue_problems(queues: Mapping[Name, Depth]) -> Iterator[str]:
    """Problems in the queues, each in a sentence."""
    if (dead := queues.get("dead_letters")) and dead.total:
        yield f"{counted(dead.total)} in the dead-letter queue, failed five times"
    if (overflow := queues.get("parked")) and overflow.total:
        yield f"{counted(overflow.total)} in the parked queue, waiting for the database"
    sync = queues.get("sync")
    if sync and sync.oldest_seconds is not None and sync.oldest_seconds > _OLDEST_SECONDS:
        yield f"the oldest event on the sync queue has waited {how_long(sync.oldest_seconds)}"
