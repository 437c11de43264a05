"""The events of an object that wait in the queues.

The queues themselves are not read: a message that SQS gives to this command would be hidden from sync for a while, and
count as an attempt.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from clerk_supabase_cli.operate.database import LOOK, open_database
from clerk_supabase_cli.operate.monitor.function_logs import FunctionLogs
from clerk_supabase_cli.operate.queues import HOW_TO_NAME_QUEUES, AwsUnreachable, Queues
from clerk_supabase_cli.printing import counted

# A replayed event is on its way again.
_IN_TABLES: Final = """
    select svix_id from clerk_sync.deliveries where svix_id = any(%(ids)s)
    union all
    select svix_id from clerk_sync.parked_events where svix_id = any(%(ids)s) and replayed_at is null
"""


@dataclass(frozen=True, slots=True)
class QueuedEvent:
    """An event that ingest accepted, and that is neither applied nor parked."""

    accepted_at: datetime
    event_type: str
    svix_id: str
    failed_at: datetime | None
    """The time of the last attempt, which failed; None before the first."""
    reason: str | None


@dataclass(frozen=True, slots=True)
class InQueues:
    """The events of one object in the queues."""

    events: list[QueuedEvent] = field(default_factory=list)
    total: int | None = None
    """The number of events of all objects; None if unknown."""
    not_looked_at: str = ""
    """The reason why `events` may lack some; empty if it lacks none."""

    def __str__(self) -> str:
        if self.not_looked_at:
            of_all = "" if self.total is None else f"{counted(self.total)} in the queues, of any object; "
            return f"{of_all}the events in the queues were not looked at: {self.not_looked_at}"
        if not self.total:
            return "no event waits in the queues"
        return f"{counted(self.total)} in the queues, none of this object" if not self.events else ""


def look_for(
    clerk_id: str, queues: Callable[[], Queues | None], logs: FunctionLogs | None, database_url: str | None
) -> InQueues:
    """The events of an object in the queues: what the log of ingest names, and the tables lack.

    *database_url*: None while the database is unavailable; then the log of sync stands for the tables. Raises
    DatabaseFailed.
    """
    total = None
    try:
        named = queues()
        if named is None:
            return InQueues(not_looked_at=f"name them by {HOW_TO_NAME_QUEUES}")
        total = sum(depth.total for depth in named.depths().values())
        if total == 0:
            return InQueues(total=0)
        if logs is None:
            return InQueues(total=total, not_looked_at=f"their objects are in the log of ingest: {HOW_TO_NAME_QUEUES}")
        accepted = logs.accepted(clerk_id)
        settled = _settled([each.svix_id for each in accepted], clerk_id, logs, database_url)
        waiting = [each for each in accepted if each.svix_id not in settled]
        failures = logs.failures() if waiting else {}
    except AwsUnreachable as error:
        return InQueues(total=total, not_looked_at=str(error))
    events = []
    for each in waiting:
        failed = failures.get(each.svix_id)
        events.append(
            QueuedEvent(
                each.at, each.event_type, each.svix_id, failed.at if failed else None, failed.reason if failed else None
            )
        )
    return InQueues(events, total)


def _settled(svix_ids: Collection[str], clerk_id: str, logs: FunctionLogs, database_url: str | None) -> set[str]:
    """The svix ids of the events that are applied or parked."""
    if database_url is None:
        return logs.applied(clerk_id)
    with open_database(database_url, LOOK) as connection:
        return {svix_id for (svix_id,) in connection.execute(_IN_TABLES, {"ids": list(svix_ids)})}
