"""Reads an object of Clerk without the parts that our parsers or Postgres refuse. No input or output.

Any user of Clerk can write such parts into their own metadata, and perhaps into other fields. Everything that others
decide about the user is read all the same: bans, roles, public metadata. Only a field with a Loss loses parts. The rest
of the object is the same in every function and with every parser. This module is loaded for unusual objects only.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple, TypeVar, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails, from_json

from clerk_supabase.errors import UnusableEvent
from clerk_supabase.model.changes import Change, Changes, Upsert
from clerk_supabase.model.clerk_object import DEEPEST, Columns, Lenient, Loss, parse_object
from clerk_supabase.model.found_kinds import model_of
from clerk_supabase.model.json_split import elements, fields

Place = tuple[str | int, ...]
"""The names and numbers on the way to a part of an object."""

Read = TypeVar("Read", bound=Lenient)


class _Unreadable:
    """A placeholder for a part that no parser takes; invalid in every field of a model."""


UNREADABLE: Final = _Unreadable()
# A placeholder for a name that no parser takes; Postgres, too, refuses this placeholder.
_UNREADABLE_NAME: Final = "\0"
# How often an object is taken apart: enough to read /external_accounts/0/verification/status alone.
LEVELS: Final = 4
_NOT_STORABLE: Final = re.compile("[\0\ud800-\udfff]")


def read_parts(json: bytes, levels: int = LEVELS, largest: int | None = None) -> Any:
    """Parse JSON. A part that cannot be parsed becomes UNREADABLE, and its neighbours stay.

    *largest*: the most bytes for a single call of the parser. A longer part is split; at the last level such a part is
    UNREADABLE.
    """
    if largest is None or len(json) <= largest:
        try:
            return from_json(json)
        except ValueError:
            pass
    if levels == 0:
        return UNREADABLE
    try:
        if json.startswith(b"["):
            return [read_parts(element, levels - 1, largest) for element in elements(json)]
        return {_name(name): read_parts(value, levels - 1, largest) for name, value in fields(json).items()}
    except ValueError:
        return UNREADABLE


class _Part(NamedTuple):
    """A part of an object that is left out: a field, an element of a list, or a member of metadata."""

    place: Place
    field: str
    """The field around the part, with a dot for a field of an object inside another."""
    loss: Loss

    @property
    def becomes_null(self) -> bool:
        """Tells whether the field stays, with null as its value: an object may say something by leaving a field out."""
        return self.loss is Loss.odd and isinstance(self.place[-1], str)


def read_storable(model: type[Read], data: object) -> tuple[Read, tuple[str, ...]]:
    """Read an object without the parts that cannot be stored; also return the names of the fields that lost a part.

    Raises UnusableEvent for such a part in a field without a Loss.
    """
    found, misfits = _read_fitting(model, data)
    content = found.model_dump(exclude_unset=True)
    unstorable: set[_Part] = set()
    for place in _unstorable(model, content):
        part = _part_around(model, place)
        if part is None:
            raise UnusableEvent(f"{model.__name__}.{place[0]}: holds what Postgres cannot store")
        unstorable.add(part)
    if unstorable:
        found = parse_object(model, _without(content, unstorable))
    return found, tuple(sorted({part.field for part in misfits | unstorable}))


def _name(quoted: bytes) -> str:
    try:
        return str(from_json(quoted))
    except ValueError:
        return _UNREADABLE_NAME


# Finding the parts


def _read_fitting(model: type[Read], data: object) -> tuple[Read, set[_Part]]:
    """Read an object without the parts of another type than the model's."""
    try:
        return model.model_validate(data), set()
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_context=False)
    misfits = {part for each in wrong if (part := _part_to_leave_out(model, each)) is not None}
    return parse_object(model, _without(data, misfits)), misfits


def _part_to_leave_out(model: type[Lenient], error: ErrorDetails) -> _Part | None:
    """The part to leave out because of a value of another type; None: the model keeps every part of such a field."""
    part = _part_around(model, error["loc"])
    if part is None or part.loss is Loss.members or (part.loss is Loss.whole and _is_of_another_shape(error)):
        return None
    return part


def _is_of_another_shape(error: ErrorDetails) -> bool:
    """Tell whether a field is missing or null, or an element of a list is no object, which no client can write.

    If such an element were left out, all users would lose their lists as soon as Clerk sends lists of another shape.
    """
    sent, place = error["input"], error["loc"]
    is_element = bool(place) and isinstance(place[-1], int)
    return error["type"] == "missing" or sent is None or (is_element and sent is not UNREADABLE)


def _unstorable(model: type[Lenient], content: dict[str, Any]) -> Iterator[Place]:
    """The places of values that cannot be stored: a field, an element of a list, or a member of metadata."""
    for name, value in content.items():
        inner = _inner_model(model, name)
        if inner is not None and isinstance(value, list):
            yield from ((name, at, *place) for at, each in enumerate(value) for place in _unstorable(inner, each))
        elif inner is not None:
            yield from ((name, *place) for place in _unstorable(inner, value or {}))
        elif isinstance(value, dict):
            yield from ((name, key) for key, each in value.items() if not (_can_store(key) and _can_store(each)))
        elif isinstance(value, list):
            yield from ((name, number) for number, each in enumerate(value) if not _can_store(each))
        elif not _can_store(value):
            yield (name,)


def _can_store(value: object, depth: int = 0) -> bool:
    match value:
        case str():
            return _NOT_STORABLE.search(value) is None
        case float():
            return math.isfinite(value)
        case None | int():
            return True
        case list():
            return depth < DEEPEST and all(_can_store(each, depth + 1) for each in value)
        case dict():
            return depth < DEEPEST and all(
                _can_store(key) and _can_store(each, depth + 1) for key, each in value.items()
            )
        case _:
            return False


def _without(value: Any, parts: Iterable[_Part], depth: int = 0) -> Any:
    """Copies a value without these parts. `depth`: the number of steps on the way to the value."""
    inside: defaultdict[str | int, list[_Part]] = defaultdict(list)
    for part in parts:
        inside[part.place[depth]].append(part)
    ends = {step: part for step, some in inside.items() for part in some if len(part.place) == depth + 1}
    if isinstance(value, dict):
        return {
            key: None if key in ends else _without(each, inside[key], depth + 1)
            for key, each in value.items()
            if key not in ends or ends[key].becomes_null
        }
    if isinstance(value, list):
        return [_without(each, inside[at], depth + 1) for at, each in enumerate(value) if at not in ends]
    return value


# Fields that may lose a part


def _loss(model: type[Lenient], name: str | int) -> Loss | None:
    field = model.model_fields.get(str(name))
    return None if field is None else next((each for each in field.metadata if isinstance(each, Loss)), None)


def _inner_model(model: type[Lenient], name: str | int) -> type[Lenient] | None:
    """The model of a field with an object in it, such as a membership's organization, or with a list of objects."""
    field = model.model_fields.get(str(name))
    hints = () if field is None else (field.annotation, *get_args(field.annotation))
    return next((each for each in hints if isinstance(each, type) and issubclass(each, Lenient)), None)


def _part_around(model: type[Lenient], place: Place) -> _Part | None:
    """The smallest part with a Loss around a place; None without one."""
    if not place:
        return None
    name, *rest = place
    inner = _inner_model(model, name)
    # The number of an element or, where no model says what is in the field, the name of a member.
    step = rest[:1] if inner is None or isinstance(next(iter(rest), None), int) else []
    within = None if inner is None else _part_around(inner, tuple(rest[len(step) :]))
    if within is not None:
        return _Part((name, *step, *within.place), f"{name}.{within.field}", within.loss)
    loss = _loss(model, name)
    return None if loss is None else _Part((name, *step), str(name), loss)


# Values that Postgres could store, but refuses

# Columns derived from a field.
_FOLLOWING: Final[Mapping[str, Columns]] = {
    "email_addresses": {"email": None, "email_verified": False},
    "phone_numbers": {"phone": None, "phone_verified": False},
}


def with_less(changes: Changes) -> Iterator[Changes]:
    """Empty one field that clients write, for each such field in turn; at last all such fields.

    For a value that Postgres refuses because of an index, a trigger or a column's type of the app.
    """
    losses = [
        (number, name, empty)
        for number, change in enumerate((changes.main, *changes.companions))
        for name, empty in _possible_losses(change)
    ]
    for some in [*([loss] for loss in losses), *([losses] if len(losses) > 1 else [])]:
        emptied = [changes.main, *changes.companions]
        for number, _, empty in some:
            emptied[number] = _emptied(emptied[number], empty)
        names = {name if number == 0 else f"{emptied[number].kind}.{name}" for number, name, _ in some}
        yield Changes(emptied[0], tuple(emptied[1:]), tuple(sorted({*changes.dropped, *names})))


def _possible_losses(change: Change) -> Iterator[tuple[str, Columns]]:
    """The fields written by clients that are not empty, each with its columns emptied."""
    if change.kind == "private_metadata" or not isinstance(change, Upsert):
        return
    model = model_of(change.kind)
    for name, field in model.model_fields.items():
        if _loss(model, name) is Loss.whole and change.content.get(name):
            empty = [] if field.is_required() else field.default
            yield name, {name: empty, **_FOLLOWING.get(name, {})}


def _emptied(change: Change, empty: Columns) -> Change:
    return change._replace(content={**change.content, **empty}) if isinstance(change, Upsert) else change
