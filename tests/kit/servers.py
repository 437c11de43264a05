"""Postgres servers for tests, one of each major version, started for the first test that needs the server."""

from __future__ import annotations

import os
import shutil
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Final

from clerk_supabase_cli.local.postgres import EmbeddedPostgres
from tests.kit.databases import SESSION, WORKER, Databases
from tests.kit.pooler import pooling
from tests.kit.supabase import Supabase

# Tests connect a thousand times, and hashing passwords would be most of it. A log of 1 GB is too much for memory.
# Autovacuum would analyze a table at a moment that depends on the load: a plan would change between two runs.
# Ten thousand sessions would each load the language of our functions anew.
_SETTINGS: Final = {
    "scram_iterations": "1",
    "max_wal_size": "96MB",
    "min_wal_size": "32MB",
    "autovacuum": "off",
    "shared_preload_libraries": "plpgsql",
}
# All servers of a run need half of it.
_ROOM_FOR_DATA: Final = 2 * 1024**3
# Fewer than there are workers in some tests, so that they take turns.
_POOLED_CONNECTIONS: Final = 2

ON_EVERY_VERSION: Final = frozenset({"test_sql", "test_hostile_objects"})
"""Modules of tests that run on every version; the others run on the newest one.

`make outside` runs those about events and comparisons on the oldest one, and `--postgres 16` any.
"""


class Server:
    """A Postgres of one major version, and the databases of the tests in it."""

    def __init__(self, version: int, root: Path, undo: ExitStack, *, through_pooler: bool) -> None:
        """Makes a server. *undo*: the function that ends the server."""
        self._version = version
        self._root = root
        self._undo = undo
        self._through_pooler = through_pooler

    @cached_property
    def postgres(self) -> EmbeddedPostgres:
        """The server itself."""
        return self._start()

    @cached_property
    def databases(self) -> Databases:
        """Migrated databases of the server, behind a pooler if the tests use one."""
        databases = Databases(self.postgres, self._root)
        self._undo.callback(databases.close)
        if self._through_pooler:
            passwords = dict.fromkeys((WORKER, SESSION), databases.worker_password)
            pooler = pooling(self.postgres.port, passwords, connections=_POOLED_CONNECTIONS)
            databases.pooler_port = self._undo.enter_context(pooler)
        return databases

    @cached_property
    def supabase(self) -> Supabase:
        """Another server of the same version, with Supabase's roles."""
        return Supabase(self._start(), self._root)

    def _start(self) -> EmbeddedPostgres:
        server = EmbeddedPostgres(version=self._version, settings=_SETTINGS, data_in=_memory())
        return self._undo.enter_context(server)


def _memory() -> Path | None:
    """The folder for shared memory, if it has room: there a database is copied in a third of the time.

    In a container this folder may have only 64 MB.
    """
    folder = Path("/dev/shm")  # noqa: S108 - the data gets a folder of its own in it
    has_room = os.access(folder, os.W_OK) and shutil.disk_usage(folder).free > _ROOM_FOR_DATA
    return folder if has_room else None
