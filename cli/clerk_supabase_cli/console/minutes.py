"""Volume and lag of the last hour, minute by minute."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from psycopg.rows import class_row

from clerk_supabase_cli.operate.database import Connection

SHOWN: Final = 60
_MINUTE: Final = timedelta(minutes=1)

_MINUTES: Final = """
with applied as (
    select
        date_trunc('minute', d.applied_at) as minute, count(*) as events,
        percentile_cont(0.5) within group (order by extract(epoch from d.applied_at - d.occurred_at)) as p50,
        percentile_cont(0.95) within group (order by extract(epoch from d.applied_at - d.occurred_at)) as p95
    from clerk_sync.deliveries as d
    where d.applied_at >= date_trunc('minute', now()) - make_interval(mins => %(minutes)s)
    group by 1
)

select minute, coalesce(applied.events, 0) as events, applied.p50, applied.p95
from generate_series(
    date_trunc('minute', now()) - make_interval(mins => %(minutes)s), date_trunc('minute', now()), interval '1 minute'
) as minute left join applied using (minute)
order by minute
"""


@dataclass(frozen=True, slots=True)
class Minute:
    """The events applied within a minute. Lag: seconds from Clerk's clock to the commit; None without an event."""

    minute: datetime
    events: int
    p50: float | None
    p95: float | None


class Hour:
    """The last hour; a look reads only the minutes that may have changed."""

    def __init__(self) -> None:
        self.minutes: list[Minute] = []
        """Oldest first; the last minute is not over."""

    def read(self, connection: Connection) -> None:
        """Reads the last two minutes; the first time, the whole hour. Raises psycopg's errors."""
        asked = 1 if self.minutes else SHOWN - 1
        with connection.cursor(row_factory=class_row(Minute)) as cursor:
            found = cursor.execute(_MINUTES, {"minutes": asked}).fetchall()
        if self.minutes and found[0].minute - self.minutes[-1].minute > _MINUTE:
            # Nobody has looked for a while.
            self.minutes = []
            self.read(connection)
            return
        older = [each for each in self.minutes if each.minute < found[0].minute]
        self.minutes = [*older, *found][-SHOWN:]
