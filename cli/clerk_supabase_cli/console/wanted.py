"""The subject of the page, and the rights of its viewers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from clerk_supabase_cli.doctor.patient import Named
from clerk_supabase_cli.operate.queues import Queues


@dataclass(frozen=True, slots=True)
class Wanted:
    """The subject of the page, and the rights of its viewers."""

    named: Named
    """The database and the stack, with the secrets for the doctor."""
    queues: Callable[[], Queues | None]
    """The queues; raises AwsUnreachable."""
    has_queues: bool
    """True: the sync queue was named."""
    port: int
    """0: a free port."""
    can_write: bool

    @property
    def database_url(self) -> str:
        """The owner's connection string."""
        return self.named.database_url
