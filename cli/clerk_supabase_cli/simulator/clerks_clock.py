"""What must be known of every entity in the end, by Clerk's clock alone: worked out without any database."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from clerk_supabase.model.changes import Change, Changes, Delete, Delivery
from clerk_supabase.model.clerk_object import Columns
from clerk_supabase.model.kinds import FACTS, Kind

Place = tuple[Kind, str]
"""An entity: its kind and id."""

# The columns of a row that name its parents.
_PARENTS: Final[Mapping[str, Kind]] = {
    column: parent for facts in FACTS.values() for column, parent in facts.parents.items()
}


@dataclass(frozen=True, slots=True)
class Truth:
    """What must be known of an entity in the end: the newest content by Clerk's clock, and the earliest delete."""

    id: str
    version: tuple[int, int]
    contents: tuple[Columns, ...]
    """Those of the newest version; any of them, when there are several."""
    deleted_at: int | None

    @classmethod
    def of(cls, changes: Sequence[Change]) -> Self:
        """The truth about the one entity these changes are about."""
        deletes = [change.deleted_at for change in changes if isinstance(change, Delete)]
        upserts = [change for change in changes if not isinstance(change, Delete)]
        versions = [(change.version.source_updated_at, change.version.observed_at) for change in upserts]
        newest = max(versions, default=(-1, -1))
        contents = tuple(change.content for change, version in zip(upserts, versions, strict=True) if version == newest)
        return cls(changes[0].id, newest, contents, min(deletes, default=None))

    def agrees(self, state: Sequence[Any], truths: Mapping[Place, Truth]) -> bool:
        """Whether this is what the database holds: the entity's version and delete, and the row."""
        source_updated_at, observed_at, deleted_at, row = state
        if (source_updated_at, observed_at) != self.version or deleted_at != self.deleted_at:
            return False
        if row is None:
            return not self.contents
        hidden = row["deleted_at"] is not None
        return hidden == self._is_hidden(row, truths) and any(mirrors(row, content) for content in self.contents)

    def _is_hidden(self, row: Columns, truths: Mapping[Place, Truth]) -> bool:
        """A row is hidden by its own delete and by those of its parents."""
        named = [(kind, row.get(column)) for column, kind in _PARENTS.items()]
        parents = [truths[kind, parent_id] for kind, parent_id in named if parent_id not in (None, self.id)]
        return any(truth.deleted_at is not None for truth in (self, *parents))


def truths_of(history: Iterable[tuple[Changes, Delivery]]) -> dict[Place, Truth]:
    """The truth about every entity these events are about, or bring along."""
    by_place: defaultdict[Place, list[Change]] = defaultdict(list)
    for changes, _ in history:
        for change in (changes.main, *changes.companions):
            by_place[change.kind, change.id].append(change)
    return {place: Truth.of(changes) for place, changes in by_place.items()}


def mirrors(row: Columns, content: Columns) -> bool:
    """Whether the row says what the content says."""
    # Times are spelled differently by Postgres; the reference's rows have been compared with them included.
    return all(row[name] == value for name, value in content.items() if not name.endswith("_at"))
