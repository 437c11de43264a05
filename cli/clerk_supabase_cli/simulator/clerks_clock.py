"""The expected final state of every entity, computed from Clerk's clock alone, without any database."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from clerk_supabase.model.changes import Change, Changes, Delete, Delivery
from clerk_supabase.model.clerk_object import Columns
from clerk_supabase.model.facts import Kind
from clerk_supabase.model.found_kinds import FACTS

Place = tuple[Kind, str]
"""The kind and id of an entity."""

TIMES: Final = ("_at", "_start", "_end", "_date", "_until")
"""Ends of the names of the columns with times."""
# The columns of a row with the ids of its parents.
_PARENTS: Final[Mapping[str, Kind]] = {
    column: parent for facts in FACTS.values() for column, parent in facts.parents.items()
}


@dataclass(frozen=True, slots=True)
class Truth:
    """The expected final state of an entity: the newest content by Clerk's clock, and the earliest delete."""

    id: str
    version: tuple[int, int]
    contents: tuple[Columns, ...]
    """The contents of the newest version; if several events have this version, any of their contents is right."""
    deleted_at: int | None

    @classmethod
    def of(cls, changes: Sequence[Change]) -> Self:
        """Computes the truth from all changes of an entity."""
        deletes = [change.deleted_at for change in changes if isinstance(change, Delete)]
        upserts = [change for change in changes if not isinstance(change, Delete)]
        versions = [(change.version.source_updated_at, change.version.observed_at) for change in upserts]
        newest = max(versions, default=(-1, -1))
        contents = tuple(change.content for change, version in zip(upserts, versions, strict=True) if version == newest)
        return cls(changes[0].id, newest, contents, min(deletes, default=None))

    def agrees(self, state: Sequence[Any], truths: Mapping[Place, Truth]) -> bool:
        """Tells whether the state in a database agrees: the entity's version and delete, and the row."""
        source_updated_at, observed_at, deleted_at, row = state
        if (source_updated_at, observed_at) != self.version or deleted_at != self.deleted_at:
            return False
        if row is None:
            return not self.contents
        hidden = row["deleted_at"] is not None
        return hidden == self._is_hidden(row, truths) and any(mirrors(row, content) for content in self.contents)

    def _is_hidden(self, row: Columns, truths: Mapping[Place, Truth]) -> bool:
        """Tells whether the row is hidden, by its own delete or the delete of a parent."""
        named = [(kind, row.get(column)) for column, kind in _PARENTS.items()]
        parents = [truths[kind, parent_id] for kind, parent_id in named if parent_id not in (None, self.id)]
        return any(truth.deleted_at is not None for truth in (self, *parents))


def truths_of(history: Iterable[tuple[Changes, Delivery]]) -> dict[Place, Truth]:
    """The truth about every entity changed by these events, companions included."""
    by_place: defaultdict[Place, list[Change]] = defaultdict(list)
    for changes, _ in history:
        for change in (changes.main, *changes.companions):
            by_place[change.kind, change.id].append(change)
    return {place: Truth.of(changes) for place, changes in by_place.items()}


def mirrors(row: Columns, content: Columns) -> bool:
    """Tells whether the row has the values of the content."""
    # Postgres writes times in another form. The comparison with the reference database includes the times.
    return all(row[name] == value for name, value in content.items() if not name.endswith(TIMES))
