"""The last results of all looks: the material of the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from clerk_supabase.reconcile.records import RunSummary
from clerk_supabase_cli.doctor.verdicts import Result
from clerk_supabase_cli.operate.monitor.database_state import Database
from clerk_supabase_cli.operate.monitor.function_logs import Outage
from clerk_supabase_cli.operate.monitor.status import Status
from clerk_supabase_cli.operate.parked import ParkedEvent
from clerk_supabase_cli.operate.queues import Depth, Name

Reader = Literal["events", "tables"]
"""The two readers of the database, each with its own connection."""


@dataclass(slots=True)
class Seen:
    """The newest state that a look has found; while the database is unavailable, the state before."""

    database: Database | None = None
    queues: dict[Name, Depth] | None = None
    queues_error: str = ""
    why_no_queues: str = ""
    """The reason why no queue is looked at, if no queue was named."""
    parked: Sequence[ParkedEvent] = ()
    parked_total: int = 0
    runs: Sequence[RunSummary] = ()
    """Newest first."""
    errors: dict[Reader, str] = field(default_factory=dict)
    """The errors of the readers whose last question had an error for an answer."""
    outages: dict[Reader, Outage] = field(default_factory=dict)
    """The outages of the readers whose last question had no answer."""
    outage_of_functions: Outage | None = None
    """The outage in the logs of the functions, while events wait."""
    is_stale: bool = False
    """True: an outage has begun since the last complete look."""
    read_at: datetime | None = None
    """The time of the last complete look at the database."""
    checks: list[Result] = field(default_factory=list)
    """The results of the doctor's checks."""
    checks_running: bool = False
    checks_at: datetime | None = None

    @property
    def database_error(self) -> str:
        """The error of the tables; empty without one."""
        return self.errors.get("tables", "") or self.errors.get("events", "")

    @property
    def status(self) -> Status:
        """The state as `clerk-supabase status` tells it."""
        outage = self.outage
        failed = {"database": outage.reason if outage else self.database_error, "queues": self.queues_error}
        failed = {name: reason for name, reason in failed.items() if reason}
        missing = {"queues": self.why_no_queues} if self.why_no_queues else {}
        told = outage or self.outage_of_functions
        return Status(self.database, self.queues, missing, failed, is_unreachable=outage is not None, outage=told)

    @property
    def outage(self) -> Outage | None:
        """The present outage, with the earliest begin of all readers; None while all are answered."""
        return min(self.outages.values(), key=lambda each: each.since, default=None)
