"""New entries of the live list: applied events, parked events, and changes of rows without an event."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from psycopg.rows import class_row

from clerk_supabase_cli.console.hub import LISTED
from clerk_supabase_cli.operate.database import Connection

What = Literal["event", "parked", "change"]

LIMIT: Final = LISTED
"""The most entries of one look; of more new entries, only the newest are read."""
_FIRST_SECONDS: Final = 3600.0
# A row gets its time before its transaction ends: most rows at most this time before, and no row of ours longer than
# the statement_timeout of the worker, 15 seconds.
_OVERLAP_SECONDS: Final = 2.0
_LONG_OVERLAP_SECONDS: Final = 20.0
_LONG_EVERY: Final = 10

# By the indexes on the moments; then the changed columns of an event, by the key of the audit log. Column names only: a
# value may be personal data.
_NEW: Final = """
with since as (select now() - make_interval(secs => %(seconds)s) as moment),

recent as (
    select
        'event ' || d.svix_id as key, d.applied_at as at, 'event' as what, d.svix_id, d.event_type, d.entity_id,
        d.outcome::text as said, d.occurred_at, d.received_at, null::text[] as columns
    from clerk_sync.deliveries as d where d.applied_at > (select since.moment from since)
    union all
    select
        concat_ws(' ', 'parked', p.svix_id, p.last_parked_at), p.last_parked_at, 'parked', p.svix_id, p.event_type,
        p.entity_id, concat(p.reason_class, ': ', p.reason), null, p.received_at, '{}'
    from clerk_sync.parked_events as p
    where p.body is not null and p.last_parked_at > (select since.moment from since)
    union all
    select
        'change ' || a.audit_id, a.recorded_at, 'change', null, concat_ws(' ', a.kind, a.operation), a.entity_id,
        a.cause, null, null, case when a.operation = 'update' then a.changed_columns else '{}' end
    from clerk_sync.audit_log as a
    where a.recorded_at > (select since.moment from since) and a.cause not in ('delivery', 'cascade')
),

newest as (
    select recent.* from recent
    where recent.key <> all(%(seen)s) and recent.at > %(floor)s and recent.at <= clock_timestamp()
    order by recent.at desc limit %(limit)s
)

select
    newest.key, newest.at, newest.what, newest.svix_id, newest.event_type, newest.entity_id, newest.said,
    newest.occurred_at, newest.received_at,
    coalesce(newest.columns, array(
        select distinct c from clerk_sync.audit_log as a cross join unnest(a.changed_columns) as c
        where a.entity_id = newest.entity_id and a.svix_id = newest.svix_id and a.operation = 'update' order by 1
    )) as columns
from newest order by newest.at
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of the live list; without a value of the mirror."""

    key: str
    at: datetime
    """The time of the commit, nearly: by the clock of the database."""
    what: What
    svix_id: str | None
    event_type: str | None
    """Of a change: the kind and the operation."""
    entity_id: str | None
    said: str
    """The outcome of an event, the reason of a parked event, the cause of a change."""
    occurred_at: datetime | None
    received_at: datetime | None
    columns: list[str]


class Tail:
    """Reads each entry once, whatever the order of commits."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._looks = 0
        self._last: float | None = None
        self._newest: datetime | None = None
        self._floor: datetime | Literal["-infinity"] = "-infinity"
        """Nothing before this time is read any more, by the clock of the database."""
        self._seen: dict[str, datetime] = {}
        """By key, the times of the entries after `_floor` that were read."""

    def read(self, connection: Connection) -> list[Entry]:
        """The new entries, oldest first. Raises psycopg's errors."""
        now = self._clock()
        seconds = self._seconds(now)
        given = {"seconds": seconds, "seen": self._seen_within(seconds), "floor": self._floor, "limit": LIMIT}
        with connection.cursor(row_factory=class_row(Entry)) as cursor:
            found = cursor.execute(_NEW, given).fetchall()
        self._last, self._looks = now, self._looks + 1
        if found:
            self._note(found)
        return found

    def _seconds(self, now: float) -> float:
        """The seconds to go back from the present time of the database."""
        if self._last is None:
            return _FIRST_SECONDS
        overlap = _OVERLAP_SECONDS if self._looks % _LONG_EVERY else _LONG_OVERLAP_SECONDS
        return min(_FIRST_SECONDS, now - self._last + overlap)

    def _seen_within(self, seconds: float) -> list[str]:
        """The keys of all entries that a look could find again: the present is not before the newest entry."""
        if self._newest is None:
            return []
        since = self._newest - timedelta(seconds=seconds)
        return [key for key, at in self._seen.items() if at >= since]

    def _note(self, found: Sequence[Entry]) -> None:
        newest = max(found[-1].at, self._newest or found[-1].at)
        # Of more entries than the limit, the older ones were left out for good: they would come late.
        oldest = found[0].at if len(found) == LIMIT else None
        floors = [newest - timedelta(seconds=_LONG_OVERLAP_SECONDS), oldest, self._floor]
        self._newest = newest
        self._floor = floor = max(each for each in floors if isinstance(each, datetime))
        self._seen |= {each.key: each.at for each in found}
        self._seen = {key: at for key, at in self._seen.items() if at > floor}
