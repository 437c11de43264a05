"""Feeds: the app's tables that follow the mirror are looked at, switched on, filled, and removed again."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import psycopg
from psycopg.types.json import Jsonb

from clerk_supabase_cli.adopt.mapping import Mapping
from clerk_supabase_cli.failure import Failure
from clerk_supabase_cli.operate.database import Connection
from clerk_supabase_cli.operate.locking import Report, in_turns

_PAGE: Final = 500
_FIRST_PAGE: Final = 50
_PAGE_SECONDS: Final = 1.0
_LOCK_SECONDS: Final = 2.0
_PREPARE: Final = "select clerk_sync.prepare_feed(%s)"
_SWITCH: Final = "select clerk_sync.switch_feed(%s)"
_FILL: Final = "select clerk_sync.fill_feed(%s)"
_DROP: Final = "select clerk_sync.drop_feed(%s)"
_RETRY: Final = "select clerk_sync.retry_unfed(%s)"
_COMPARE: Final = """
    select clerk_sync.compare_page(f, %s, 5000, true, interval '1 second')
    from clerk_sync.feeds as f where f.feed_id = %s
"""
_REVOKES: Final = """
    select array(select clerk_sync.triggers_to_revoke(f.target::regclass))
    from clerk_sync.feeds as f where f.feed_id = %s
"""
_FEEDS: Final = """
    select f.feed_id, f.target, f.kind, (select count(*) from clerk_sync.unfed_rows as u where u.feed_id = f.feed_id)
    from clerk_sync.feeds as f order by f.feed_id
"""
_HAS_FEEDS: Final = "select to_regclass('clerk_sync.feeds') is not null"
_NUMBER_OF_OBJECTS: Final = """
    select greatest(c.reltuples, 0)::bigint from clerk_sync.feeds as f
    inner join clerk_sync.kinds as k on f.kind = k.kind
    inner join pg_class as c on c.oid = k.relation::regclass where f.feed_id = %s
"""


_UNFED: Final = """
    select f.target, u.object_id, u.reason from clerk_sync.unfed_rows as u inner join clerk_sync.feeds as f
    using (feed_id) order by f.feed_id, u.reason, u.object_id limit %s
"""


class NotSwitched(Failure):
    """The mapping cannot be used, for the reason in the message; nothing was changed."""


@dataclass(frozen=True, slots=True)
class Unfed:
    """An object of Clerk whose row is not written."""

    table: str
    object_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Outlook:
    """The rows of a table that the feed would write at first."""

    table: str
    kind: str
    objects: int
    """Objects of the mirror that were compared with the table."""
    inserts: int
    updates: int
    deletes: int
    """Rows of deleted objects to delete or to clear."""
    unlinked: int
    """Objects whose row cannot be named yet, because a row of another table is missing."""
    failing: int
    """Objects for which an expression of the mapping raises an error: their rows will be unfed."""
    revokes: list[str]
    """Statements on tables of the app that the switch runs, too."""


@dataclass(frozen=True, slots=True)
class Feed:
    """A feed in the database."""

    number: int
    table: str
    kind: str
    unfed: int


@dataclass(frozen=True, slots=True)
class Filled:
    """The result of a back-fill."""

    table: str
    kind: str
    compared: int
    written: int
    unfed: int


def feeds(connection: Connection) -> list[Feed]:
    """The feeds of a database; none before the migrations."""
    [(has_feeds,)] = connection.execute(_HAS_FEEDS).fetchall()
    return [Feed(*row) for row in connection.execute(_FEEDS)] if has_feeds else []


def outlook(connection: Connection, mappings: Sequence[Mapping]) -> list[Outlook]:
    """Counts the rows that the feeds would write. Changes nothing. Raises NotSwitched."""
    found: list[Outlook] = []
    for mapping in mappings:
        with connection.transaction(force_rollback=True):
            number = _prepared(connection, mapping)
            [(revokes,)] = connection.execute(_REVOKES, [number]).fetchall()
            counts: dict[str, int] = {}
            after: str | None = None
            while True:
                [(page,)] = connection.execute(_COMPARE, [after, number]).fetchall()
                after = page.pop("after")
                for name, value in page.items():
                    counts[name] = counts.get(name, 0) + value
                if after is None:
                    break
        found.append(
            Outlook(
                mapping.table,
                mapping.kind,
                counts["compared"],
                counts["to insert"],
                counts["to update"],
                counts["to delete"],
                counts["unlinked"],
                counts.get("failing", 0),
                revokes,
            )
        )
    return found


def switch(connection: Connection, url: str, mapping: Mapping, report: Report) -> int:
    """Switches a feed on and returns its number; locks the tables for a moment only.

    Raises NotSwitched and LockedByOthers.
    """

    def act() -> int:
        number = _prepared(connection, mapping)
        connection.execute(_SWITCH, [number])
        return number

    return in_turns(connection, url, act, lock_seconds=_LOCK_SECONDS, report=report)


def fill(connection: Connection, number: int, progress: Callable[[int, int], None]) -> Filled:
    """Fills the app's table page by page, each in a transaction of its own; goes on where another process ended.

    A page locks its objects, and their events wait: so a page takes about a second, whatever the app's triggers take.
    """
    [(objects,)] = connection.execute(_NUMBER_OF_OBJECTS, [number]).fetchall()
    compared = written = 0
    is_done = False
    limit = min(_FIRST_PAGE, _PAGE)
    while not is_done:
        began = time.monotonic()
        [(page,)] = connection.execute(_FILL, [Jsonb({"feed": number, "limit": limit})]).fetchall()
        in_time = int(limit * _PAGE_SECONDS / (time.monotonic() - began))
        limit = max(1, min(in_time, _PAGE))
        compared += page["compared"]
        written += page["written"]
        is_done = page["is_done"]
        progress(compared, max(objects, compared))
    feed = next(each for each in feeds(connection) if each.number == number)
    return Filled(feed.table, feed.kind, compared, written, feed.unfed)


def retry(connection: Connection) -> dict[str, int]:
    """Tries all unfed rows again; returns the numbers of tried, written and remaining rows.

    In short transactions: a retry locks the objects, and their events wait.
    """
    left = sum(each.unfed for each in feeds(connection))
    total = {"tried": 0, "written": 0, "left": left}
    while total["tried"] < left:
        [(answer,)] = connection.execute(_RETRY, [Jsonb({"limit": _PAGE, "seconds": 2})]).fetchall()
        total = {
            "tried": total["tried"] + answer["tried"],
            "written": total["written"] + answer["written"],
            "left": answer["left"],
        }
        if not answer["tried"]:
            break
    return total


def unfed_rows(connection: Connection, limit: int) -> list[Unfed]:
    """The first unfed rows of all tables, rows with the same reason together."""
    return [Unfed(*row) for row in connection.execute(_UNFED, [limit])]


def remove(connection: Connection, url: str, feed: Feed, report: Report) -> None:
    """Removes a feed with its guard, and leaves the rows of the app. Raises LockedByOthers."""
    in_turns(
        connection, url, lambda: connection.execute(_DROP, [feed.number]), lock_seconds=_LOCK_SECONDS, report=report
    )


def _prepared(connection: Connection, mapping: Mapping) -> int:
    try:
        [(number,)] = connection.execute(_PREPARE, [Jsonb(mapping.as_json())]).fetchall()
    except psycopg.errors.InvalidParameterValue as error:
        raise NotSwitched(f"[{mapping.name}] {error.diag.message_primary}") from error
    return int(number)
