"""Finds the columns that each field of Clerk's objects fills, by trying.

A field of an event is changed, and the columns that change with the field are its columns.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from clerk_supabase.errors import UnusableEvent
from clerk_supabase.model.changes import Delete, Upsert, changes_of
from clerk_supabase.model.events import parse_event
from clerk_supabase.model.facts import Kind
from clerk_supabase.model.found_kinds import FACTS

Json = Any
FieldPath = tuple[str, ...]
"""The names on the way to a field; `[]` stands for the elements of a list."""
LIST: Final = "[]"

# Later than all samples: an event from the future is unusable.
_LATER: Final = 1_800_000_000_000
_OTHER: Final = "user_other"
_MISSING: Final = object()


class Place(NamedTuple):
    """A column that a field fills."""

    column: str
    missing: str = ""
    """Another field, without which alone the field fills the column."""


def columns_of(trials: Sequence[tuple[str, Json]], paths: Sequence[FieldPath]) -> dict[FieldPath, set[Place]]:
    """The columns of the fields. *trials*: types of events with an object of each, to be tried in turn."""
    found: defaultdict[FieldPath, set[Place]] = defaultdict(set)
    usable = [trial for trial in trials if _told(*trial)]
    for event_type, base in usable:
        _try(event_type, base, [path for path in paths if path not in found], found)
    # A field that another field replaces counts only when that other field is missing.
    for event_type, whole in usable[:1]:
        for other in sorted(_all_paths(whole), key=len):
            rest = [path for path in paths if path not in found and _are_beside(path, other)]
            _try(event_type, _without(whole, other), rest, found, spelled(other))
    return found


def _are_beside(path: FieldPath, other: FieldPath) -> bool:
    """Tells whether two fields, or a field around the first one, are in the same object."""
    return path[: len(other)] != other and path[: len(other) - 1] == other[:-1]


def _try(
    event_type: str,
    base: Json,
    paths: Sequence[FieldPath],
    found: defaultdict[FieldPath, set[Place]],
    missing: str = "",
) -> None:
    """Changes the fields, first all at once, then in halves, and notes the columns of each field."""
    before = _told(event_type, base)

    def note(some: Sequence[FieldPath]) -> None:
        after = _told(event_type, _changed(base, some))
        differing = _differing(before, after)
        if len(some) > 1 and (differing or not after):
            half = len(some) // 2
            note(some[:half])
            note(some[half:])
        elif differing:
            found[some[0]] |= {Place(each, missing) for each in differing}

    if before and paths:
        note(paths)


def _told(event_type: str, data: Json) -> Mapping[str, Json]:
    """The values that an event writes, by column; empty for an event that is unusable."""
    event = {"type": event_type, "timestamp": _LATER, "data": data}
    try:
        changes = changes_of(parse_event(msgspec.json.encode(event)), _LATER, keep_private_metadata=True)
    except UnusableEvent:
        return {}
    told: dict[str, Json] = {}
    for change in (changes.main, *changes.companions):
        if isinstance(change, Delete):
            told |= {f"{_relation(change.kind)}.deleted_at": (change.id, change.deleted_at)}
            continue
        is_stub = change is not changes.main and change.version.source_updated_at == 0
        told |= {_column(change, name, is_stub=is_stub): value for name, value in change.content.items()}
        if not is_stub:
            told["clerk_sync.entities.version"] = (*told.get("clerk_sync.entities.version", ()), change.version)
    return told


def _column(change: Upsert, name: str, *, is_stub: bool) -> str:
    column = f"{_relation(change.kind)}.{name}"
    return f"{column} (stub)" if is_stub else column


def _relation(kind: Kind) -> str:
    return FACTS[kind].relation("clerk") if kind in FACTS else f"clerk_sync.{kind}"


def _differing(before: Mapping[str, Json], after: Mapping[str, Json]) -> set[str]:
    if not before or not after:
        return set()
    return {each for each in before.keys() | after.keys() if before.get(each, _MISSING) != after.get(each, _MISSING)}


def _changed(base: Json, paths: Iterable[FieldPath]) -> Json:
    """A copy with other values in these fields."""
    changed = _copy(base)
    for path in paths:
        for holder in _holders(changed, path[:-1]):
            if path[-1] in holder:
                holder[path[-1]] = _other(holder[path[-1]])
    return changed


def _without(base: Json, path: FieldPath) -> Json:
    changed = _copy(base)
    for holder in _holders(changed, path[:-1]):
        holder.pop(path[-1], None)
    return changed


def _copy(value: Json) -> Json:
    return msgspec.json.decode(msgspec.json.encode(value))


def _holders(value: Json, path: FieldPath) -> Iterator[dict[str, Json]]:
    """The objects in which the last name of a path is a field."""
    if path:
        inside = value if path[0] == LIST else [value.get(path[0])] if isinstance(value, dict) else []
        for each in inside or []:
            yield from _holders(each, path[1:])
    elif isinstance(value, dict):
        yield value


def _other(value: Json) -> Json:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, list):
        return [*value, _OTHER]
    return {"id": _OTHER} if isinstance(value, dict) else _OTHER


def _all_paths(value: Json, path: FieldPath = ()) -> Iterator[FieldPath]:
    """The paths of all fields of an object."""
    if isinstance(value, dict):
        for name, each in value.items():
            yield (*path, name)
            yield from _all_paths(each, (*path, name))
    elif isinstance(value, list):
        for each in value:
            yield from _all_paths(each, (*path, LIST))


def spelled(path: FieldPath) -> str:
    """The field as documents spell it: `email_addresses[].id`."""
    return ".".join(path).replace(f".{LIST}", LIST)
