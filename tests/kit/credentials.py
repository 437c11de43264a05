"""Credentials with several values, or of a database with outages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from clerk_supabase_cli.local.processes import free_port

SOURCE: Final = "the test's URL"
NOWHERE: Final = f"postgresql://clerk_sync_worker:secret@127.0.0.1:{free_port()}/postgres?sslmode=disable"
"""The connection string of a database that never answers."""


@dataclass
class Changing:
    """A credential that a test changes while a store uses the credential."""

    current: str
    newer: str = ""
    """The value that a look for a newer value finds; empty: the present value stays."""
    source: str = SOURCE

    def value(self) -> str:
        """The present value."""
        return self.current

    def changed(self) -> bool:
        """Takes the newer value, if any."""
        before = self.current
        self.current = self.newer or self.current
        return self.current != before


@dataclass
class Sometimes:
    """The connection string of a database that is available for some of the connections only."""

    url: str
    is_available: Callable[[int], bool]
    """Tells for the number of a connection, from 1, whether the database is available."""
    connections: int = 0
    """Number of connections that the store was about to make."""
    source: str = SOURCE

    def value(self) -> str:
        """The connection string for the next connection."""
        self.connections += 1
        return self.url if self.is_available(self.connections) else NOWHERE

    def changed(self) -> bool:
        """False: there is no newer value."""
        return False
