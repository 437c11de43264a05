"""A Postgres of the benchmark's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clerk_supabase_cli.local.postgres import EmbeddedPostgres
from tests.kit.databases import Databases


@contextmanager
def databases(root: Path) -> Iterator[Databases]:
    """Migrated databases, as long as the `with` block lasts.

    The server does not flush to disk. Only the baselines gain from that: they commit after every event.
    """
    with EmbeddedPostgres() as server:
        yield Databases(server, root)
