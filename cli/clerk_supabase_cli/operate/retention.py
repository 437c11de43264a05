"""The shortest times for keeping records, set by the database's owner; stack and worker cannot shorten a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import Any, Final

from psycopg import sql

from clerk_supabase.settings import Keep
from clerk_supabase_cli.operate.database import Connection

PARAMETERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "hold_back_days": "HoldBackDays",
        "purge_by": "PurgeBy",
        "deliveries_days": "DeliveriesDays",
        "audit_days": "AuditDays",
        "sessions_days": "SessionsDays",
    }
)
"""Parameters of template.yaml by the columns of clerk_sync.retention. Runs of reconcile have no parameter."""

_READ: Final = "select to_jsonb(clerk_sync.allowed_retention()) - 'is_only'"
_SET: Final = sql.SQL("update clerk_sync.retention set {} where true")


def allowed(connection: Connection) -> dict[str, Any]:
    """Reads the owner's shortest times, by the columns of clerk_sync.retention."""
    [(found,)] = connection.execute(_READ).fetchall()
    return {each.name: found[each.name] for each in fields(Keep)}


def allow(connection: Connection, changes: Mapping[str, int | str]) -> dict[str, Any]:
    """Changes the owner's shortest times; returns all times."""
    with connection.transaction():
        allowed(connection)
        assignments = [sql.SQL("{} = {}").format(sql.Identifier(name), value) for name, value in changes.items()]
        if assignments:
            connection.execute(_SET.format(sql.SQL(", ").join(assignments)))
        return allowed(connection)


def shortfalls(keep: Keep, allows: Mapping[str, Any]) -> dict[str, tuple[int | str, int | str]]:
    """The times asked for by the stack that the database does not allow: both times, by column."""
    pairs = {name: (getattr(keep, name), allows[name]) for name in PARAMETERS}
    return {name: pair for name, pair in pairs.items() if _falls_short(*pair)}


def _falls_short(asked: int | str, allows: int | str) -> bool:
    if isinstance(asked, int) and isinstance(allows, int):
        return asked < allows
    return (asked, allows) == ("delete", "scrub")


def command_for(changes: Mapping[str, int | str]) -> str:
    """The command for allowing these times."""
    options = [f"--{name.replace('_', '-')} {value}" for name, value in changes.items()]
    return " ".join(["clerk-supabase retention", *options])
