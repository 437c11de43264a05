"""Reads one object and its memberships from Clerk and applies them again, with a look at the tables before and after.

Needs the rights of the owner of the schema.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Literal

from clerk_supabase.clerk.api import Clerk
from clerk_supabase.clerk.pages import Item
from clerk_supabase.errors import (
    ChangeRefused,
    ClerkKeyRejected,
    ClerkRejected,
    GoneFromClerk,
    OrganizationsUnavailable,
    UnusableEvent,
)
from clerk_supabase.model.changes import changes_of_object
from clerk_supabase.model.facts import ReadKind
from clerk_supabase.postgres.batch import element_without_content, elements_to_compare
from clerk_supabase.reconcile.corrections.repairs import ClockMs, DirectRepairs, Repair, Repairs, Sent
from clerk_supabase.reconcile.features import CONTRADICTED
from clerk_supabase.reconcile.pages import ReconcileSettings
from clerk_supabase.reconcile.records import Known
from clerk_supabase.reconcile.runs import Runs

Done = Literal["created", "changed", "left as it was", "deleted", "restored", "sent", "not changed"]

_AT_ONCE: Final = 500
_NEVER_HEARD_OF: Final = Known(None, None, None, None, is_purged=False, differs=False, fields=None)


@dataclass(frozen=True, slots=True)
class Resynced:
    """The result for one object."""

    kind: str
    id: str
    done: Done
    why: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """The results for an object and its memberships."""

    objects: Sequence[Resynced]
    doubts: str | None
    """The reason why not every membership may have been compared, if any."""


@dataclass
class _Read:
    """Clerk's answers about an object."""

    kind: ReadKind
    id: str
    items: list[tuple[ReadKind, Item]] = field(default_factory=list)
    gone_at: int | None = None
    doubts: str | None = None
    is_whole: bool = False
    """True: every membership is among the items."""


class Resync:
    """Applies Clerk's answer about one object, at once or through the queue."""

    def __init__(
        self,
        runs: Runs,
        repairs: Repairs,
        settings: ReconcileSettings,
        clock_ms: ClockMs,
        object_id: str,
        *,
        force: bool,
    ) -> None:
        """`force`: apply Clerk's answer even if its version is older than the row's."""
        self._runs = runs
        self._settings = settings
        self._clock_ms = clock_ms
        self._id = object_id
        self._force = force
        # An event has no field for a forced version.
        direct = DirectRepairs(keep_private_metadata=settings.keep_private_metadata)
        self._repairs = direct if force else repairs

    def run(self, clerk: Clerk, known_as: Mapping[str, bool]) -> Outcome:
        """Makes the rows equal to Clerk's answer. `known_as`: the kinds of the entities with this id in the tables.

        Raises GoneFromClerk for an id unknown to Clerk and to the tables, and errors of Clerk and the store.
        """
        read = _read(clerk, self._id)
        if read.gone_at is None:
            objects = [*self._apply(read), *self._not_listed(read)]
        elif read.kind in known_as and read.gone_at > 0:
            objects = [self._delete(read, read.gone_at)]
        else:
            raise GoneFromClerk(f"{self._id} is known neither to Clerk nor here", read.gone_at)
        return Outcome(objects, read.doubts)

    # Objects that Clerk has

    def _apply(self, read: _Read) -> Iterator[Resynced]:
        for start in range(0, len(read.items), _AT_ONCE):
            yield from self._apply_some(read.items[start : start + _AT_ONCE])

    def _apply_some(self, items: Sequence[tuple[ReadKind, Item]]) -> Iterator[Resynced]:
        before = self._look(items)
        repairs = [
            Repair(0, kind, item.id, item.observed_at, item.json(), self._counts_as(item, before[kind, item.id]))
            for kind, item in items
        ]
        became = self._repairs.send(self._runs.store, repairs, self._clock_ms())
        applied = [each for each, outcome in zip(items, became, strict=True) if outcome != "sent"]
        after = self._look(applied)
        corrected = self._corrected(applied)
        for (kind, item), outcome in zip(items, became, strict=True):
            known = before[kind, item.id]
            if outcome == "sent":
                yield Resynced(kind, item.id, "sent", _stays_deleted(known, item.observed_at))
            else:
                done, why = self._judge(item, outcome, known, after[kind, item.id])
                yield _with_row(Resynced(kind, item.id, done, why), is_right=corrected.get((kind, item.id)))

    def _counts_as(self, item: Item, known: Known) -> int:
        """Return the version that makes a forced answer win. 0: not forced, not older, or an event may be younger."""
        is_older = self._force and self._is_older(item, known)
        return known.source_updated_at or 0 if is_older and not self._may_lag(item, known) else 0

    @staticmethod
    def _is_older(item: Item, known: Known) -> bool:
        return (known.source_updated_at or 0) > (item.updated_at or 0)

    def _may_lag(self, item: Item, known: Known) -> bool:
        """Tell whether Clerk's answer may be of a moment before the newest event about the object."""
        return (known.observed_at or 0) + self._settings.delete_margin_ms >= item.observed_at

    def _judge(self, item: Item, outcome: Sent, before: Known, after: Known) -> tuple[Done, str | None]:
        if isinstance(outcome, Exception):
            return "not changed", str(outcome)
        if after.deleted_at is not None:
            why = _stays_deleted(after, item.observed_at)
            return "not changed", why or f"{_deleted(after)}: it was deleted again meanwhile"
        if after.differs and self._is_older(item, after):
            return self._about_version(item, after)
        if after.differs:
            columns = ", ".join(after.fields or ["the row"])
            return "not changed", f"a rule or a trigger of the app keeps {columns} from being written"
        if before.deleted_at is not None:
            return "restored", None
        if outcome == "created" or (before.differs and before.fields is None):
            return "created", None
        return ("changed" if outcome == "updated" or before.differs else "left as it was"), None

    def _about_version(self, item: Item, known: Known) -> tuple[Done, str | None]:
        """Judge an answer that was not applied because its version is older than the row's."""
        if not self._may_lag(item, known):
            command = f"clerk-supabase resync {self._id} --force"
            return "not changed", f"Clerk's answer calls itself older than the row: {command} applies it"
        if not self._force:
            return "left as it was", "an event is newer than Clerk's answer"
        return "not changed", self._too_young()

    def _too_young(self) -> str:
        minutes = self._settings.delete_margin_ms / 60_000
        return f"an event about it was applied in the last {minutes:g} minutes: try again later"

    def _not_listed(self, read: _Read) -> Iterator[Resynced]:
        """The visible memberships that Clerk's complete list lacks."""
        if not read.is_whole:
            return
        listed = {item.id for kind, item in read.items if kind == "membership"}
        for each in self._runs.memberships_of(read.kind, read.id):
            if each not in listed:
                why = "Clerk does not list it: the next full comparison asks about it"
                yield Resynced("membership", each, "not changed", why)

    # Objects that are gone from Clerk

    def _delete(self, read: _Read, gone_at: int) -> Resynced:
        bare = element_without_content(read.kind, read.id)
        before = self._runs.look_at([bare]).get((read.kind, read.id), _NEVER_HEARD_OF)
        if before.deleted_at is None and (before.observed_at or 0) + self._settings.delete_margin_ms >= gone_at:
            return Resynced(read.kind, read.id, "not changed", f"gone from Clerk, but {self._too_young()}")
        repair = Repair(0, read.kind, read.id, gone_at, None)
        [outcome] = self._repairs.send(self._runs.store, [repair], self._clock_ms())
        if outcome == "sent":
            return Resynced(read.kind, read.id, "sent", "gone from Clerk")
        if isinstance(outcome, Exception):
            return Resynced(read.kind, read.id, "not changed", str(outcome))
        if outcome == "stale":
            why = "gone from Clerk, but a later event or answer of Clerk has the object: try again"
            return Resynced(read.kind, read.id, "not changed", why)
        deleted = Resynced(read.kind, read.id, "deleted", "gone from Clerk")
        if before.deleted_at is not None:
            deleted = Resynced(read.kind, read.id, "left as it was", _deleted(before))
        corrected = [is_right for _, _, _, is_right in self._runs.check_objects({read.kind: [read.id]})]
        return _with_row(deleted, is_right=corrected[0] if corrected else None)

    # Looking

    def _look(self, items: Sequence[tuple[ReadKind, Item]]) -> Mapping[tuple[str, str], Known]:
        """Return the state of objects in the tables; for an object that Postgres cannot compare, without columns."""
        pages = {(kind, item.id): self._elements(kind, item) for kind, item in items}
        found: dict[tuple[str, str], Known] = {}
        try:
            found |= self._runs.look_at([element for page in pages.values() for element in page])
        except ChangeRefused:
            for (kind, object_id), page in pages.items():
                try:
                    found |= self._runs.look_at(page)
                except ChangeRefused:
                    found |= self._runs.look_at([element_without_content(kind, object_id)])
        return {key: _together(found, key) for key in pages}

    def _elements(self, kind: ReadKind, item: Item) -> list[str]:
        keep = self._settings.keep_private_metadata
        try:
            changes = changes_of_object(
                kind, item.json(), item.observed_at, self._clock_ms(), keep_private_metadata=keep
            )
        except UnusableEvent:
            return [element_without_content(kind, item.id)]
        return elements_to_compare(changes)

    def _corrected(self, items: Sequence[tuple[ReadKind, Item]]) -> Mapping[tuple[str, str], bool]:
        """Correct rows that contradict other tables; return for each row whether it is correct now."""
        ids: dict[str, list[str]] = {}
        for kind, item in items:
            ids.setdefault(kind, []).append(item.id)
        return {(kind, each): is_right for kind, each, _, is_right in self._runs.check_objects(ids)} if ids else {}


def _together(found: Mapping[tuple[str, str], Known], key: tuple[str, str]) -> Known:
    """Return the state of an object together with its private metadata, which has a version of its own."""
    own = found.get(key, _NEVER_HEARD_OF)
    private = found.get(("private_metadata", key[1]))
    if private is None:
        return own
    return Known(
        max(own.source_updated_at or 0, private.source_updated_at or 0) or None,
        max(own.observed_at or 0, private.observed_at or 0) or None,
        own.deleted_at,
        own.delete_run,
        own.is_purged,
        own.differs or private.differs,
        own.fields if own.differs else ("private_metadata",),
    )


def _stays_deleted(known: Known, answered_at: int) -> str | None:
    """Return the reason why an answer of that moment does not restore the object; None if it is not deleted now."""
    if known.deleted_at is None:
        return None
    if known.is_purged:
        return f"{_deleted(known)}, and purged since: no row is written for it any more"
    if known.delete_run is None:
        return f"{_deleted(known)}: an object deleted by an event of Clerk's stays deleted"
    if answered_at == 0:
        return f"{_deleted(known)}: Clerk's answer has no believable Date, so it may be older than the delete"
    if answered_at <= known.deleted_at:
        return f"{_deleted(known)}: Clerk's answer is not later than the delete, so try again"
    return None


def _deleted(known: Known) -> str | None:
    """Name the moment of a delete and, for a delete without an event, its author."""
    if known.deleted_at is None:
        return None
    moment = datetime.fromtimestamp(known.deleted_at / 1000, UTC)
    said = f"deleted here, as of {moment:%Y-%m-%d %H:%M:%S} UTC"
    if known.delete_run is None:
        return said
    return f"{said}, by {f'the comparison of run {known.delete_run}' if known.delete_run else 'an earlier resync'}"


def _with_row(resynced: Resynced, *, is_right: bool | None) -> Resynced:
    """Return the result, with the correction of the object's row if the row contradicted other tables."""
    if is_right is None:
        return resynced
    done = resynced.done if is_right else "not changed"
    what = "its row contradicted its tombstone or users_public, and was corrected"
    if not is_right:
        what = "its row contradicts its tombstone or users_public, and could not be corrected"
    return Resynced(
        resynced.kind,
        resynced.id,
        "changed" if done == "left as it was" else done,
        "; ".join(filter(None, [resynced.why, what])),
    )


# Clerk's answers


def _read(clerk: Clerk, object_id: str) -> _Read:
    kind: ReadKind = "organization" if object_id.startswith("org_") else "user"
    found = clerk.organization(object_id) if kind == "organization" else clerk.user(object_id)
    read = _Read(kind, object_id)
    if found.value is None:
        read.gone_at = found.observed_at
        return read
    read.items = [(kind, found.value)]
    _read_memberships(clerk, read)
    return read


def _read_memberships(clerk: Clerk, read: _Read) -> None:
    pages = clerk.memberships_of_organization if read.kind == "organization" else clerk.memberships_of_user
    items: dict[str, Item] = {}
    told: list[int] = []
    is_whole = True
    try:
        for page in pages(read.id):
            items |= {item.id: item for item in page.items}
            told.append(page.total_count or 0)
            is_whole = is_whole and page.joins and page.is_new and not page.odd
    except OrganizationsUnavailable as error:
        if read.kind == "organization" or not _lacks_organizations(clerk):
            read.doubts = f"not every membership was compared ({error}; {CONTRADICTED})"
        return
    except ClerkKeyRejected:
        raise
    except ClerkRejected as error:
        read.doubts = f"not every membership was compared ({error})"
    else:
        read.is_whole = is_whole and len(items) >= min(told[0], told[-1])
        read.doubts = None if read.is_whole else "Clerk did not list every membership"
    read.items += [("membership", item) for item in items.values()]


def _lacks_organizations(clerk: Clerk) -> bool:
    """Tell whether Clerk says of its list of organizations, too, that organizations are switched off."""
    try:
        clerk.page_at("organization", 0, 1)
    except OrganizationsUnavailable:
        return True
    except ClerkKeyRejected:
        raise
    except ClerkRejected:
        return False
    return False
