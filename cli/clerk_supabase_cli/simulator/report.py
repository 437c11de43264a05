"""The numbers and findings of a search."""

from __future__ import annotations

from dataclasses import dataclass, field

from clerk_supabase_cli.simulator.orders.schedules import Batch


@dataclass(slots=True)
class Report:
    """The numbers of a search of schedules, and its differences."""

    schedules: int = 0
    batches: int = 0
    deliveries: int = 0
    redelivered_batches: int = 0
    connections_cut: int = 0
    outages: int = 0
    """Outages of the database and of SQS."""
    sent_back: int = 0
    """Dead letters sent back by the retry function."""
    retries_killed: int = 0
    parked: int = 0
    deadlocks: int = 0
    seconds: float = 0.0
    differences: list[str] = field(default_factory=list)
    failed_from: int | None = None
    """Number of the first schedule in the round with a difference."""
    smallest: tuple[Batch, ...] = ()
    """The smallest part of a schedule with a difference of its own: messages and accidents, for a single worker."""

    def add(self, other: Report) -> None:
        """Adds the findings of another search, but not its time: both may have run at once."""
        self.schedules += other.schedules
        self.batches += other.batches
        self.deliveries += other.deliveries
        self.redelivered_batches += other.redelivered_batches
        self.connections_cut += other.connections_cut
        self.outages += other.outages
        self.sent_back += other.sent_back
        self.retries_killed += other.retries_killed
        self.parked += other.parked
        self.deadlocks += other.deadlocks
        self.differences += other.differences
        if other.failed_from is not None and (self.failed_from is None or other.failed_from < self.failed_from):
            self.failed_from, self.smallest = other.failed_from, other.smallest
