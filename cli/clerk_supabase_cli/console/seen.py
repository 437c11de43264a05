"""The last results of all looks: the material of the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final

from clerk_supabase.reconcile.records import RunSummary
from clerk_supabase_cli.doctor.verdicts import Result
from clerk_supabase_cli.operate.parked import ParkedEvent
from clerk_supabase_cli.operate.queues import Depth, Name
from clerk_supabase_cli.operate.status import Database, Status

NOT_LOOKED_AT: Final = Status(None, None, {}, {})


@dataclass(frozen=True, slots=True)
class Outage:
    """A time without answers of the database."""

    since: datetime
    reason: str


@dataclass(slots=True)
class Seen:
    """The newest state that a look has found; older than now while the database is unavailable."""

    database: Database | None = None
    database_error: str = ""
    queues: dict[Name, Depth] | None = None
    queues_error: str = ""
    why_no_queues: str = ""
    """The reason why no queue is looked at, if no queue was named."""
    parked: Sequence[ParkedEvent] = ()
    parked_total: int = 0
    runs: Sequence[RunSummary] = ()
    """Newest first."""
    outage: Outage | None = None
    read_at: datetime | None = None
    """The time of the last complete look at the database."""
    checks: list[Result] = field(default_factory=list)
    """The results of the doctor's checks."""
    checks_running: bool = False
    checks_at: datetime | None = None

    @property
    def status(self) -> Status:
        """The state as `clerk-supabase status` tells it."""
        failed = {"database": self.database_error, "queues": self.queues_error}
        failed = {name: reason for name, reason in failed.items() if reason}
        missing = {"queues": self.why_no_queues} if self.why_no_queues else {}
        return replace(NOT_LOOKED_AT, database=self.database, queues=self.queues, not_looked_at=missing, failed=failed)

    def begin_outage(self, reason: str) -> None:
        """Notes that the database does not answer; the beginning of an outage stays."""
        since = self.outage.since if self.outage else datetime.now(UTC)
        self.outage = Outage(since, reason)
