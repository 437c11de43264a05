"""The rows of the mirrored tables at a moment, and the rows expected by Clerk's objects."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self, cast

import msgspec

from clerk_supabase.model.changes import Upsert, changes_of, changes_of_object
from clerk_supabase.model.clerk_object import Columns
from clerk_supabase.model.events import parse_event
from clerk_supabase.model.facts import Kind
from clerk_supabase.model.found_kinds import FACTS, READ_KINDS
from clerk_supabase_cli.operate.database import Connection
from clerk_supabase_cli.simulator.app_rules import TABLES
from clerk_supabase_cli.simulator.clerks_clock import TIMES, mirrors
from clerk_supabase_cli.standin import samples
from clerk_supabase_cli.standin.samples import Json
from clerk_supabase_cli.standin.worlds import World

Place = tuple[str, str]
"""The kind and id of an object."""

_ROWS_OF: Final = "\nunion all\n".join(
    f"""
    select '{kind}', {key}, to_jsonb(mirror) from clerk.{table} as mirror
    where %(ids)s::text[] is null or {key} = any(%(ids)s)
    """  # noqa: S608 - names from TABLES
    for kind, (table, key, _) in TABLES.items()
)
_ENTITIES: Final = "select kind, id, version::text, deleted_at, purged_at is not null from clerk_sync.entities"
_PROFILES: Final = "select clerk_id, to_jsonb(p) from clerk.users_public as p"


@dataclass(frozen=True, slots=True)
class Entity:
    """The state of an object in clerk_sync.entities."""

    version: str
    deleted_at: int | None
    is_purged: bool

    @property
    def newest(self) -> int:
        """The later time in its version, by Clerk's clock, in milliseconds."""
        return max(self.moments)

    @property
    def is_stub(self) -> bool:
        """True: only other objects told of the object."""
        return self.moments[0] <= 0

    @property
    def moments(self) -> tuple[int, int]:
        """Both parts of the version, by Clerk's clock, in milliseconds."""
        source_updated_at, observed_at, _ = (int(each) for each in self.version.strip("()").split(","))
        return source_updated_at, observed_at


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Rows, entities and public profiles of a database."""

    rows: Mapping[Place, Columns]
    entities: Mapping[Place, Entity]
    profiles: Mapping[str, Columns]

    @classmethod
    def of(cls, connection: Connection) -> Self:
        """Reads the present rows, entities and profiles."""
        return cls(
            rows_of(connection),
            {(kind, object_id): Entity(*rest) for kind, object_id, *rest in connection.execute(_ENTITIES)},
            dict(connection.execute(_PROFILES).fetchall()),
        )

    def shows(self, place: Place) -> bool:
        """Tells whether the object has a visible row."""
        row = self.rows.get(place)
        return row is not None and row["deleted_at"] is None

    def is_changed(self, before: Snapshot, place: Place) -> bool:
        """Tells whether the row of an object, or the public profile of a user, differs from an earlier snapshot."""
        ours, theirs = (
            [_told(each.rows.get(place)), _told(each.profiles.get(place[1]) if place[0] == "user" else None)]
            for each in (self, before)
        )
        return ours != theirs

    def is_tombstone_changed(self, before: Snapshot, object_id: str) -> bool:
        """Tells whether an object was deleted or restored since an earlier snapshot, whatever became of its row."""
        ours, theirs = (
            {kind: entity.deleted_at for (kind, each), entity in state.entities.items() if each == object_id}
            for state in (self, before)
        )
        return ours != theirs

    def is_deleted(self, place: Place) -> bool:
        """Tells whether the object has a tombstone."""
        entity = self.entities.get(place)
        return entity is not None and entity.deleted_at is not None

    def touched_since(self, before: Snapshot) -> set[Place]:
        """Objects whose row, public profile, version or tombstone has changed."""
        places = self.entities.keys() | before.entities.keys()
        touched = {each for each in places if self.entities.get(each) != before.entities.get(each)}
        return self.changed_since(before) | touched

    def hidden_since(self, before: Snapshot) -> set[Place]:
        """Rows that were visible before, and are hidden or missing now."""
        return {place for place in before.rows if before.shows(place) and not self.shows(place)}

    def changed_since(self, before: Snapshot) -> set[Place]:
        """Objects whose row, or the public profile of a user, has changed."""
        return {place for place in self.rows.keys() | before.rows.keys() if self.is_changed(before, place)}


def _told(row: Columns | None) -> Columns | None:
    """The row as an app sees it: hidden or not, at any time."""
    return row and {**row, "deleted_at": row["deleted_at"] is not None}


def rows_of(connection: Connection, ids: Collection[str] | None = None) -> dict[Place, Columns]:
    """The rows of the objects with these ids, or of all objects."""
    rows = connection.execute(_ROWS_OF, {"ids": None if ids is None else list(ids)})
    return {(kind, object_id): row for kind, object_id, row in rows}


def content_of(kind: Kind, found: Json) -> Columns:
    """The columns expected in the row of an object of Clerk's."""
    if not FACTS[kind].verbs:
        return cast("Upsert", changes_of_object(kind, msgspec.json.encode(found), 1, 1).main).content
    return content_of_event(samples.event(FACTS[kind].whole, found, timestamp=int(found["updated_at"])))


def content_of_event(event: Mapping[str, Any]) -> Columns:
    """The columns expected in the row of the object of an event."""
    body = msgspec.json.encode(event)
    return cast("Upsert", changes_of(parse_event(body), int(event["timestamp"])).main).content


def not_as_clerk(snapshot: Snapshot, world: World) -> Iterator[tuple[Place, str]]:
    """Objects of compared kinds whose row differs from Clerk, each with the difference in words."""
    objects = world.objects()
    for kind in READ_KINDS:
        for object_id, found in objects[kind].items():
            place = (kind, object_id)
            if not snapshot.shows(place):
                why = "is hidden" if place in snapshot.rows else "has no row"
                yield place, f"{kind} {object_id} {why}, and Clerk has it"
            elif not mirrors(snapshot.rows[place], content := content_of(kind, as_of(world.now, found))):
                yield place, f"{kind} {object_id} says {differing(snapshot.rows[place], content)}"
    ids = {object_id for of_kind in objects.values() for object_id in of_kind}
    for place, row in snapshot.rows.items():
        # No answer of Clerk names an object of another kind: only the end of its parent is known.
        needed = {place[1]} if place[0] in READ_KINDS else {row.get("clerk_org_id"), row.get("clerk_user_id")} - {None}
        if place[0] in objects and snapshot.shows(place) and not needed <= ids:
            yield place, f"{' '.join(place)} is shown, and Clerk does not have it"


def as_of(now: int, found: Json) -> Json:
    """The object at a moment: for the end of an invitation, Clerk sends no event."""
    has_run_out = found.get("status") == "pending" and found.get("expires_at", now + 1) <= now
    return found | {"status": "expired"} if has_run_out else found


def differing(row: Columns, content: Columns) -> str:
    """The differing columns of a row and of the content of an object."""
    names = [name for name, value in content.items() if not name.endswith(TIMES) and row[name] != value]
    said, wanted = (json.dumps({name: each[name] for name in names}, default=str) for each in (row, content))
    return f"{said}, in Clerk {wanted}"
