"""Compares the tables with the tables of another database, with Clerk's clock, and with the worlds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import psycopg

from clerk_supabase.model.changes import Changes, Delivery
from clerk_supabase.model.facts import Kind
from clerk_supabase.model.found_kinds import FACTS
from clerk_supabase_cli.operate.install.mirror import DEFAULT
from clerk_supabase_cli.simulator.clerks_clock import Place, Truth, truths_of
from clerk_supabase_cli.simulator.orders.schedules import Schedule

# The table of each kind, and its key.
_TABLES: Final[Mapping[Kind, tuple[str, str]]] = {
    **{kind: (facts.relation(DEFAULT), facts.key) for kind, facts in FACTS.items()},
    "private_metadata": ("clerk_sync.private_metadata", "entity_id"),
}
_STATE: Final = "\nunion all\n".join(
    f"""
    select kind, id, (version).source_updated_at, (version).observed_at, entities.deleted_at, to_jsonb(mirror)
    from clerk_sync.entities left join {table} as mirror on id = {key}
    where kind = '{kind}' and id = any(%(ids)s)
    """  # noqa: S608 - names from _TABLES
    for kind, (table, key) in _TABLES.items()
)
# Without the outcome of a delivery and times of our own clock, which depend on the order of arrival.
_ROWS: Final = "\nunion all\n".join(
    [
        """
        select
            'entities', kind || ' ' || id,
            (version, deleted_at, delete_recorded_at is not null, purged_at is not null)::text
        from clerk_sync.entities where id = any(%(ids)s)
        """,
        "select 'users_public', clerk_id, users_public::text from clerk.users_public where clerk_id = any(%(ids)s)",
        """
        select 'deliveries', svix_id, (event_type, entity_id, occurred_at, received_at)::text
        from clerk_sync.deliveries where svix_id = any(%(svix_ids)s)
        """,
        *(
            f"select '{table}', {key}, {table.split('.')[1]}::text from {table} where {key} = any(%(ids)s)"  # noqa: S608 - names from _TABLES
            for table, key in _TABLES.values()
        ),
    ]
)
# An id is <prefix>_<name of its world>x<number>.
_SHOWN: Final = "\nunion all\n".join(
    f"""
    select '{kind}', world, id
    from {table}, lateral (select {key} as id, split_part(split_part({key}, '_', 2), 'x', 1) as world) as of_row
    where deleted_at is null and world = any(%(worlds)s)
    """  # noqa: S608 - names from _TABLES
    for kind, (table, key) in _TABLES.items()
)

_BANNED: Final = "select clerk_id, banned from clerk.users where deleted_at is null and clerk_id = any(%s)"

History = Sequence[tuple[Changes, Delivery]]
Connection = psycopg.Connection[tuple[Any, ...]]
Rows = Mapping[tuple[str, str], str]
"""Every row as text, by table and key."""


@dataclass(frozen=True, slots=True)
class Expected:
    """The expected result of some events, each applied at least once."""

    truths: Mapping[Place, Truth]
    svix_ids: Sequence[str]

    @classmethod
    def of(cls, history: History) -> Self:
        """Computes the result expected after these events."""
        return cls(truths_of(history), [delivery.svix_id for _, delivery in history])

    def rows(self, connection: Connection) -> Rows:
        """The rows of a database about these events."""
        return {row[:2]: row[2] for row in connection.execute(_ROWS, self._keys)}

    def untrue(self, connection: Connection) -> Iterator[str]:
        """Entities for which a database disagrees with Clerk's clock."""
        states = {row[:2]: row[2:] for row in connection.execute(_STATE, self._keys)}
        for place, truth in self.truths.items():
            state = states.get(place)
            if state is None or not truth.agrees(state, self.truths):
                yield f"{' '.join(place)}: {state}, but by Clerk's clock: {truth}"

    @property
    def ids(self) -> list[str]:
        """Ids of the objects changed by these events, companions included."""
        return [truth.id for truth in self.truths.values()]

    @property
    def _keys(self) -> dict[str, object]:
        return {"ids": self.ids, "svix_ids": self.svix_ids}


def different(found: Rows, wanted: Rows) -> Iterator[str]:
    """Differences between the rows of two databases."""
    for place in sorted(found.keys() | wanted.keys()):
        if found.get(place) != wanted.get(place):
            yield f"{' '.join(place)}: {found.get(place)}, but applied in order: {wanted.get(place)}"


def not_as_in_the_worlds(connection: Connection, schedules: Iterable[Schedule]) -> Iterator[str]:
    """Differences between the visible rows and the objects of each world without lost events."""
    worlds = {schedule.world.name: schedule.world for schedule in schedules if schedule.is_complete}
    shown: dict[tuple[str, str], set[str]] = {}
    for kind, name, id_ in connection.execute(_SHOWN, {"worlds": list(worlds)}):
        shown.setdefault((name, kind), set()).add(id_)
    for name, world in worlds.items():
        for kind, objects in world.objects().items():
            found = shown.get((name, kind), set())
            if not FACTS[kind].verbs:
                # No event brings the object: only a comparison does.
                continue
            if kind == "waitlist_entry":
                # Clerk sends no event about its delete: only a comparison finds the delete.
                found &= objects.keys()
            if found != objects.keys():
                yield f"world _{name}x: {_TABLES[kind][0]} shows {sorted(found)}, not {sorted(objects)}"


def bans_not_arrived(connection: Connection, schedules: Iterable[Schedule]) -> Iterator[str]:
    """Users whose row differs from their newest event in the ban. No code of the layer reads the events here."""
    newest: dict[str, tuple[tuple[int, int], set[bool]]] = {}
    for event in (_read(envelope.body) for schedule in schedules for envelope in schedule.delivered):
        user = event["data"]
        if event["type"] not in {"user.created", "user.updated"}:
            continue
        version = int(user["updated_at"]), _milliseconds(int(event["timestamp"]))
        known, bans = newest.get(user["id"], ((-1, -1), set()))
        if version > known:
            newest[user["id"]] = version, {user["banned"]}
        elif version == known:
            bans.add(user["banned"])
    for user_id, banned in connection.execute(_BANNED, [list(newest)]):
        if banned not in newest[user_id][1]:
            yield f"user {user_id}: banned is {banned}, though the newest event says the contrary"


def _read(body: bytes) -> Any:
    # Numbers other than versions may have more digits than Python converts.
    return json.loads(body, parse_int=str)


def _milliseconds(timestamp: int) -> int:
    return timestamp * 1_000 if timestamp < 100_000_000_000 else timestamp
