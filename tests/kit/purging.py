"""Purges, time that passes before them, and deletes that are undone instead."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any, LiteralString

from tests.kit.databases import Connection, Database, Rows, rows, value

HELD_BACK: LiteralString = "30 days"


def purge(database: Database, how: str = "scrub", hold_back: str = HELD_BACK) -> Rows:
    """Purges; returns the outcomes of the due rows, kind by kind."""
    with database.connect() as admin:
        return rows(
            admin,
            "select kind, outcome, constraint_name, purged from clerk_sync.purge(%s::interval, %s)",
            hold_back,
            how,
        )


def allow_at_once(admin: Connection) -> None:
    """Let the stack purge without a hold-back, as the owner may."""
    admin.execute(
        "insert into clerk_sync.retention (hold_back_days) values (0) "
        "on conflict (is_only) do update set hold_back_days = 0"
    )


def let_time_pass(admin: Connection, days: int = 31) -> None:
    """Date the record of every delete back by so many days."""
    admin.execute("update clerk_sync.entities set delete_recorded_at = delete_recorded_at - %s", [timedelta(days=days)])


def undo(admin: Connection) -> Any:
    """Undo the deletes of all users, as if a comparison had made them; return kinds and ids."""
    run = value(
        admin,
        """
        insert into clerk_sync.reconcile_runs (mode, is_dry_run, versions_only, as_of, state)
        values ('full', false, false, 1, 'incomplete') returning run_id
        """,
    )
    admin.execute(
        """
        with deleted as (
            select kind, id from clerk_sync.entities where kind = 'user' and deleted_at is not null
            order by kind, id for update
        )
        update clerk_sync.entities as e set delete_run = %s from deleted as d where (e.kind, e.id) = (d.kind, d.id)
        """,
        [run],
    )
    return value(admin, "select clerk_sync.undo_run(%s::jsonb) -> 'restored'", json.dumps({"run": run}))
