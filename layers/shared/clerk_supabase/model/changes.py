"""The changes of the tables that an event or an object of Clerk's Backend API calls for. No input or output."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from pydantic import ValidationError

from clerk_supabase.errors import UnusableEvent
from clerk_supabase.model.clerk_object import (
    DAY,
    ClerkObject,
    Columns,
    Id,
    Lenient,
    Metadata,
    TolerantObject,
    may_hold_nul,
    parse_object,
)
from clerk_supabase.model.events import Event
from clerk_supabase.model.facts import Kind, ReadKind
from clerk_supabase.model.found_kinds import (
    REPAIR_PREFIX,
    REPAIR_TYPES,
    SYNCED_TYPES,
    WITH_PRIVATE_METADATA,
    model_of,
)

if TYPE_CHECKING:
    from clerk_supabase.model.users import User

# While the environment starts, when a function has more of the processor than later: most events are about users. To
# make the models of all kinds takes a twentieth of the cold start.
model_of("user")


class Version(NamedTuple):
    """Decides which of two writes is newer: versions are compared as pairs, both parts in ms of Clerk's clock."""

    source_updated_at: int
    observed_at: int


class Upsert(NamedTuple):
    """The state of an entity as of a version: every mirrored column by its name in the table."""

    kind: Kind
    id: str
    version: Version
    content: Columns


class Delete(NamedTuple):
    """The end of an entity, for good: ids are never reused."""

    kind: Kind
    id: str
    deleted_at: int
    """Milliseconds, Clerk's clock."""


Change = Upsert | Delete


class Changes(NamedTuple):
    """The changes of one event or API object: the main change and its companions."""

    main: Change
    companions: tuple[Change, ...] = ()
    """Stubs of parents that may not have arrived, objects inside the object, and private metadata when it is kept."""
    dropped: tuple[str, ...] = ()
    """Fields that lost a part, because the part cannot be stored."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """The webhook of a change; the transaction that applies the change records the webhook, too."""

    svix_id: str
    event_type: str
    received_at: int
    """Moment at which ingest accepted the webhook: milliseconds, our clock. For measuring lag, never for ordering."""
    instance_id: str = ""
    """The Clerk instance that sent the webhook; empty in a message from before February 2025."""


@dataclass(frozen=True, slots=True)
class Reconciled:
    """The comparison with Clerk as the source of a change."""

    name: str
    """The run and the object, for the audit log, which has the id of a webhook in the same place."""


@dataclass(frozen=True, slots=True)
class SignedIn:
    """The first request of a user as the source of a change."""

    session_id: str


Source = Delivery | Reconciled | SignedIn | None
"""The source of a change; None: an operator."""


def changes_of(event: Event, received_at: int, *, keep_private_metadata: bool = False) -> Changes:
    """The changes of an event. `received_at`: the moment at which ingest accepted the event, in milliseconds.

    Raises UnusableEvent for an object that is unusable or from the future, and for a type that is not synced.
    """
    meaning = SYNCED_TYPES.get(event.type.removeprefix(REPAIR_PREFIX)) or REPAIR_TYPES.get(event.type)
    if meaning is None:
        raise UnusableEvent("event.type: not a type that is synced")
    dropped: tuple[str, ...] = ()
    if meaning.is_delete:
        # The rest of a deleted object has no updated_at, or an old one: only the envelope has the moment.
        gone = parse_object(DeletedObject, event.data)
        main: Change = Delete(meaning.kind, gone.id, event.timestamp)
        companions: list[Change] = []
    else:
        found, dropped = _read_data(model_of(meaning.kind), event)
        if event.type.startswith(REPAIR_PREFIX):
            found, version = _told_by_api(found, event.timestamp)
        else:
            if isinstance(found, TolerantObject):
                found = found.told_by_webhook(event.timestamp)
            version = Version(found.updated_at, event.timestamp)
        main = Upsert(found.kind, found.id, version, found.columns())
        companions = _companions(found, event.timestamp, received_at)
    _refuse_the_future((main, *companions), received_at, "event")
    if keep_private_metadata and meaning.kind in WITH_PRIVATE_METADATA:
        if isinstance(main, Delete):
            companions.append(Delete("private_metadata", main.id, main.deleted_at))
        else:
            private, dropped_too = _read_data(PrivateMetadata, event)
            companions.append(_private(main, private))
            dropped += dropped_too
    return Changes(main, tuple(companions), dropped)


def changes_of_object(
    kind: ReadKind, json: bytes, observed_at: int, received_at: int, *, keep_private_metadata: bool = False
) -> Changes:
    """The changes of an object of Clerk's Backend API.

    `observed_at`: the moment of Clerk's answer, by Clerk's clock; with 0, unknown, the object wins only over its own
    older states. `received_at`: the moment of its arrival, by our clock. Both in milliseconds. Raises UnusableEvent for
    an object that is unusable or from the future.
    """
    # Not at the top: sync reads no such objects, and msgspec would make its cold start a tenth longer.
    from clerk_supabase.model.user_struct import read_user  # noqa: PLC0415 - for readers of such objects only

    companions: list[Change] = []
    dropped: tuple[str, ...] = ()
    usual = read_user(json) if kind == "user" else None
    if usual is not None:
        main = change_of_user(usual, observed_at, received_at)
    else:
        found, dropped = _read_json(model_of(kind), json)
        found, version = _told_by_api(found, observed_at)
        main = Upsert(kind, found.id, version, found.columns())
        companions += _companions(found, observed_at, received_at)
        _refuse_the_future((main, *companions), received_at, kind)
    if keep_private_metadata and kind in WITH_PRIVATE_METADATA:
        private, dropped_too = _read_json(PrivateMetadata, json)
        companions.append(_private(main, private))
        dropped += dropped_too
    return Changes(main, tuple(companions), dropped)


def change_of_user(user: User, observed_at: int, received_at: int) -> Upsert:
    """The change of a user of Clerk's Backend API. See changes_of_object()."""
    change = Upsert("user", user.id, Version(user.updated_at, observed_at), user.columns())
    if user.updated_at > received_at or observed_at > received_at:
        _refuse_the_future((change,), received_at, "user")
    return change


Read = TypeVar("Read", bound=Lenient)


def _read_data(model: type[Read], event: Event) -> tuple[Read, tuple[str, ...]]:
    """The object of an event, and the fields that lost a part. Raises UnusableEvent."""
    if not event.is_odd:
        try:
            found = model.model_validate(event.data)
        except ValidationError:
            pass
        else:
            if found.has_usual_metadata():
                return found, ()
    if event.is_large:
        raise UnusableEvent(f"{model.__name__}: a part cannot be stored, and the event is too large to search for it")
    from clerk_supabase.model.storable import read_storable  # noqa: PLC0415 - most environments never need it

    return read_storable(model, event.data)


def _read_json(model: type[Read], json: bytes) -> tuple[Read, tuple[str, ...]]:
    """The object in a JSON text, and the fields that lost a part. Raises UnusableEvent."""
    if not may_hold_nul(json):
        try:
            found = model.model_validate_json(json)
        except ValidationError:
            pass
        else:
            if found.has_usual_metadata():
                return found, ()
    from clerk_supabase.model.storable import read_parts, read_storable  # noqa: PLC0415 - as above

    return read_storable(model, read_parts(json))


def _told_by_api(found: ClerkObject, observed_at: int) -> tuple[ClerkObject, Version]:
    """An object as of the moment of the Backend API's answer, and the version of the answer."""
    found, observed_at = found.told_by_api(observed_at)
    return found, Version(found.updated_at, observed_at)


def _refuse_the_future(changes: Iterable[Change], received_at: int, what: str) -> None:
    for change in changes:
        newest = change.deleted_at if isinstance(change, Delete) else max(change.version)
        # A version from the far future would win over every true version. A stub has no version, and always loses.
        if newest > received_at + DAY and not is_stub(change):
            raise UnusableEvent(f"{what}: its clock is more than a day ahead of ours")


def is_stub(change: Change) -> bool:
    """True for a parent with the fields that another object names: any event about the parent itself wins."""
    return isinstance(change, Upsert) and change.version.source_updated_at == 0


def _companions(found: ClerkObject, observed_at: int, received_at: int) -> list[Change]:
    """Stubs of the parents, and the objects inside the object, each with its own version.

    An inner object from the future is left out: events about the inner object itself tell its state.
    """
    inner = (
        Upsert(each.kind, each.id, Version(each.updated_at, observed_at), each.columns())
        for each in found.companions()
        if each.updated_at <= received_at + DAY
    )
    return [*map(_stub, found.parents()), *inner]


def _stub(parent: ClerkObject) -> Upsert:
    """A parent, with the fields that another object names: any event about the parent itself overwrites this stub.

    The later of two stubs wins; a stub with nothing but an id never replaces another stub.
    """
    return Upsert(parent.kind, parent.id, Version(0, parent.updated_at), parent.columns())


class DeletedObject(Lenient):
    id: Id


class PrivateMetadata(Lenient):
    private_metadata: Metadata = {}


def _private(main: Upsert, private: PrivateMetadata) -> Upsert:
    """Private metadata as an entity of its own, so it never shares a table with columns that users may read."""
    return Upsert("private_metadata", main.id, main.version, {"entity_id": main.id} | private.model_dump())
