"""Changes and parked events as JSON for the functions of clerk_sync. No input or output."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import assert_never

from pydantic_core import PydanticSerializationError, to_json

from clerk_supabase.errors import ChangeRefused
from clerk_supabase.model.changes import (
    Change,
    Changes,
    Delete,
    Delivery,
    Reconciled,
    SignedIn,
    Source,
    Upsert,
    is_stub,
)
from clerk_supabase.model.clerk_object import Columns
from clerk_supabase.model.envelope import ParkedEvent, storable
from clerk_supabase.model.events import subject_of
from clerk_supabase.model.facts import Kind

Write = Callable[[object], str]
"""Writes a value as JSON."""

# An index of Postgres takes at most 2,700 bytes; a character has up to four.
_LONGEST_KEY = 255
_LONGEST_REASON = 1000
# As clerk_sync.message_of() names the repairs of a run.
_RUN = re.compile(r"reconcile-([0-9]{1,18})-")


def as_json(value: object) -> str:
    """The JSON text of a value. Raises ChangeRefused for a value that cannot be written as JSON."""
    try:
        return to_json(value).decode()
    except PydanticSerializationError as error:
        raise ChangeRefused("cannot be written as JSON: half a surrogate pair, or nested too deep") from error


def with_page(argument: str, page: Sequence[str], arrays: Mapping[Kind, Sequence[str]] = MappingProxyType({})) -> str:
    """Adds the fields `page` and, unless empty, `arrays` to the text of a JSON object with at least one field.

    *page*: elements as JSON texts. *arrays*: the same of arrays, by kind.
    """
    # Each part of these may have megabytes: to join them once copies them once.
    parts = [argument[:-1], ',"page":[', ",".join(page), "]"]
    separator = ',"arrays":{'
    for kind, texts in arrays.items():
        parts += [f'{separator}"{kind}":[', ",".join(texts), "]"]
        separator = ","
    return "".join((*parts, "}}" if arrays else "}"))


def elements_of(batch: Iterable[tuple[Changes, Source]]) -> tuple[list[dict[str, object]], list[range]]:
    """The elements of a batch, and the places of the elements of each change and its companions, the main one first.

    A stub is left out where an earlier webhook of the batch, of the same Clerk instance, brings the same stub: a stub
    has no time of its own, and is recorded for no webhook. Events about the members of one organization all name it.
    """
    elements: list[dict[str, object]] = []
    places: list[range] = []
    stubs: set[tuple[str, str]] = set()
    for changes, source in batch:
        first = len(elements)
        main = element_of(changes.main) | provenance(source)
        elements.append(main | {"dropped": changes.dropped} if changes.dropped else main)
        for companion in changes.companions:
            element = element_of(companion)
            if isinstance(source, Delivery) and is_stub(companion):
                # As text: to Python, true is the same as 1.
                stub = (source.instance_id, as_json(element))
                if stub in stubs:
                    continue
                stubs.add(stub)
            elements.append(element | provenance(source, is_main=False))
        places.append(range(first, len(elements)))
    return elements, places


def element_of(change: Change) -> dict[str, object]:
    """One element of the batch, by the field names of the type clerk_sync.change."""
    match change:
        case Upsert(kind, id, version, content):
            return {
                "id": id,
                "kind": kind,
                "content": _sorted(content),
                "observed_at": version.observed_at,
                "source_updated_at": version.source_updated_at,
            }
        case Delete(kind, id, deleted_at):
            return {"kind": kind, "id": id, "deleted_at": deleted_at}
        case _:
            assert_never(change)


def _sorted(content: Columns) -> Columns:
    names = tuple(content)
    order = _as_jsonb_sorts(names)
    return content if order == names else {name: content[name] for name in order}


@cache
def _as_jsonb_sorts(names: tuple[str, ...]) -> tuple[str, ...]:
    """The names in the order in which jsonb keeps them: Postgres reads an object in this order in two thirds of the
    time."""
    return tuple(sorted(names, key=lambda name: (len(name.encode()), name.encode())))


def elements_to_compare(changes: Changes, write: Write = as_json) -> list[str]:
    """JSON of an object and, where it is kept, of its private metadata. *write* writes JSON as as_json() does."""
    if not changes.companions:
        return [write(element_of(changes.main))]
    return [write(element_of(change)) for change in _to_compare(changes)]


def arrays_to_compare(
    changes: Changes, columns: dict[Kind, list[str]], write: Write = as_json
) -> dict[Kind, str] | None:
    """JSON of an object and, where it is kept, of its private metadata, by kind: as arrays of id, version and values.

    *columns* takes the names of the columns in the order of the values, and belongs to the page. *write*: see
    elements_to_compare(). None for an object with other columns than the first object of its kind.
    """
    arrays = {}
    for change in _to_compare(changes):
        if not isinstance(change, Upsert):
            return None
        names = list(change.content)
        if columns.setdefault(change.kind, names) != names:
            return None
        version = change.version
        arrays[change.kind] = write(
            [change.id, version.source_updated_at, version.observed_at, *change.content.values()]
        )
    return arrays


def _to_compare(changes: Changes) -> list[Change]:
    return [changes.main, *(each for each in changes.companions if each.kind == "private_metadata")]


def element_without_content(kind: Kind, object_id: str) -> str:
    """JSON of an object with nothing but its kind and id."""
    return as_json({"kind": kind, "id": object_id})


def provenance(source: Source, *, is_main: bool = True) -> dict[str, object]:
    """The source of a change. Only a delivery's main change is recorded as the delivery."""
    match source:
        case None:
            return {"cause": "operator"}
        case Reconciled(name):
            return {"cause": "reconcile", "svix_id": name}
        case SignedIn(session_id):
            return {"cause": "session", "svix_id": session_id}
        case Delivery(svix_id, event_type, received_at, _):
            cause: dict[str, object] = {"cause": "delivery", "svix_id": svix_id}
            return cause | {"event_type": event_type, "received_at": received_at} if is_main else cause
        case _:
            assert_never(source)


def origins_of(sources: Iterable[tuple[Source, range]]) -> dict[str, dict[str, list[int]]]:
    """The places in a batch by the Clerk instance that sent the event, or by the run that made the repair.

    A place without an origin is in no list. The ranges are the places of the changes of each source.
    """
    origins: dict[str, dict[str, list[int]]] = {}
    for source, places in sources:
        match source:
            case Delivery(instance_id=str(name)) if name:
                origins.setdefault("instances", {}).setdefault(name, []).extend(places)
            case Reconciled(name) if run := _RUN.match(name):
                origins.setdefault("runs", {}).setdefault(run[1], []).extend(places)
    return origins


def rows_of(events: Iterable[ParkedEvent]) -> str:
    """A batch of events to park."""
    return to_json([_as_row(event) for event in events]).decode()


def _as_row(event: ParkedEvent) -> dict[str, object]:
    """One element of the batch, by the columns of clerk_sync.parked_events."""
    envelope = event.envelope
    subject = subject_of(envelope.body)
    return {
        "svix_id": _key(envelope.svix_id),
        "event_type": subject.event_type and storable(subject.event_type, _LONGEST_KEY),
        "entity_id": subject.object_id and storable(subject.object_id, _LONGEST_KEY),
        "user_id": subject.user_id and storable(subject.user_id, _LONGEST_KEY),
        "reason_class": event.reason_class,
        "reason": storable(event.reason, _LONGEST_REASON),
        "attempts": envelope.attempts,
        "received_at": envelope.received_at,
        "body": base64.b64encode(envelope.body).decode(),
    }


def _key(svix_id: str) -> str:
    """Shorten an id, but keep different ids different. Svix's ids have some 30 characters, others any number."""
    if len(svix_id) <= _LONGEST_KEY:
        return storable(svix_id, _LONGEST_KEY)
    return f"{storable(svix_id, 100)}:{hashlib.sha256(svix_id.encode(errors='surrogatepass')).hexdigest()}"
