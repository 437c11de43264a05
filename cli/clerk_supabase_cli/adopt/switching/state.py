"""The Clerk instance of a database, and the open move to another instance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from clerk_supabase_cli.operate.database import Connection

_INSTANCE: Final = "select i.instance_id from clerk_sync.instance as i"
_OPEN: Final = """
select s.from_instance, s.to_instance, s.began_at, s.moved_at, exists (
    select from clerk_sync.reconcile_runs as r
    where r.started_at > s.began_at and r.mode = 'full' and r.state = 'complete' and not r.is_dry_run
)
from clerk_sync.open_switch() as s where s.switch_id is not null
"""
_MIRRORED: Final = "select e.kind, count(*) from clerk_sync.entities as e group by e.kind order by e.kind"
_ARCHIVED: Final = "select s.kind, count(*) from clerk_sync.successors as s group by s.kind order by s.kind"


@dataclass(frozen=True, slots=True)
class Switch:
    """The open move to another Clerk instance."""

    from_instance: str | None
    to_instance: str
    began_at: datetime
    moved_at: datetime | None
    """Moment at which the ids in the app's tables were last replaced; None: not yet."""
    is_compared: bool
    """True: a comparison with the new instance was complete since the move began."""


@dataclass(frozen=True, slots=True)
class State:
    """The instance of a database, with the number of its objects by kind."""

    instance: str | None
    switch: Switch | None
    mirrored: Mapping[str, int]
    archived: Mapping[str, int]
    """The objects of the old instance; empty without an open switch."""


def read_state(connection: Connection) -> State:
    """Reads the instance, and the open switch if there is one."""
    found = connection.execute(_INSTANCE).fetchone()
    row = connection.execute(_OPEN).fetchone()
    return State(
        found[0] if found else None,
        Switch(*row) if row else None,
        dict(connection.execute(_MIRRORED).fetchall()),
        dict(connection.execute(_ARCHIVED).fetchall()),
    )
