"""Sessions whose locks block others, named as far as the operator may see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import psycopg

from clerk_supabase_cli.failure import Failure
from clerk_supabase_cli.printing import how_long, printable

# Only the strongest lock blocks a reader; a session that waits for this lock blocks the readers behind it, too, and its
# own blockers with it. The text of a query is not read, because it may hold personal data.
_HOLDERS: Final = """
    with strong as (
        select l.pid, l.granted, l.relation::regclass::text as table_name from pg_locks as l
        where l.locktype = 'relation' and l.mode = 'AccessExclusiveLock' and l.pid is distinct from pg_backend_pid()
        and l.database = (select d.oid from pg_database as d where d.datname = current_database())
        and l.relation in (select c.oid from pg_class as c where c.relkind in ('r', 'p', 'v', 'm', 'f'))
    ),

    blocking as (
        select coalesce(s.pid, 0) as pid, min(s.table_name) as table_name from strong as s group by 1
        union all
        select b.pid, null from strong as s cross join lateral unnest(pg_blocking_pids(s.pid)) as b (pid)
        where not s.granted and b.pid not in (select other.pid from strong as other where other.pid is not null)
    )

    select
        b.pid, a.usename::text, a.application_name, a.state, extract(epoch from clock_timestamp() - a.xact_start),
        max(b.table_name)
    from blocking as b left join pg_stat_activity as a on a.pid = b.pid
    group by 1, 2, 3, 4, 5 order by 1
"""
_UNKNOWN: Final = "a session that cannot be seen from here"


class LockedByOthers(Failure):
    """Other sessions kept the locks; nothing was changed."""


@dataclass(frozen=True, slots=True)
class Blocker:
    """A session whose lock blocks another session; a field is None if the operator may not see it."""

    pid: int
    role: str | None
    application: str | None
    state: str | None
    seconds: float | None
    """Age of the transaction."""
    table: str | None = None
    """A table that the session has locked, or waits to lock, against everybody."""

    def __str__(self) -> str:
        if self.pid == 0:
            return "a prepared transaction (see pg_prepared_xacts)"
        since = None if self.seconds is None else f"for {how_long(float(self.seconds))}"
        application = f"application {self.application!r}" if self.application else None
        seen = [each for each in (self.role and f"role {self.role}", application, self.state, since) if each]
        described = f" ({', '.join(seen)})" if seen else ""
        table = f" with a lock on {self.table}" if self.table else ""
        return printable(f"pid {self.pid}{described}{table}")


def in_words(blockers: list[Blocker]) -> str:
    """The blockers, for a message."""
    return " and ".join(map(str, blockers)) or _UNKNOWN


def locked(connection: psycopg.Connection[tuple[Any, ...]], error: psycopg.Error) -> LockedByOthers:
    """The error for a statement that waited too long for a lock. Needs a connection without an open transaction."""
    try:
        blockers = [Blocker(*row) for row in connection.execute(_HOLDERS)]
    except psycopg.Error:
        blockers = []
    # No table says which session had locked a row, once the wait is over: Postgres names the row.
    row = next(iter((error.diag.context or "").splitlines()), "")
    by = f"a session with a lock on a row ({printable(row)})" if row and not blockers else in_words(blockers)
    return LockedByOthers(
        f"a lock was not free in time, blocked by {by}; run the command again when that session has "
        "ended, or end the session with select pg_terminate_backend(PID)"
    )
