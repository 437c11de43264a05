"""Answers of Clerk's Backend API, read only as far as a walk through a list needs. No input or output.

An odd object never spoils its page: each object stays a piece of the JSON text, of which three fields are read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final, Generic, TypeVar

import msgspec
from msgspec import Meta, Raw, Struct

from clerk_supabase.errors import ContradictoryAnswer
from clerk_supabase.model.clerk_object import LAST_MILLISECOND, LONGEST_ID
from clerk_supabase.model.json_split import elements, fields

_Id = Annotated[str, Meta(min_length=1, max_length=LONGEST_ID)]
_Milliseconds = Annotated[int, Meta(ge=0, le=LAST_MILLISECOND)]


Value = TypeVar("Value")


class Objects:
    """The objects of one answer as JSON text, split when the first object is read: most pages need no object."""

    __slots__ = ("_body", "_objects", "_read", "_take_apart")

    def __init__(self, body: bytes, take_apart: Callable[[bytes], list[Raw]]) -> None:
        self._body = body
        self._take_apart = take_apart
        self._objects: list[Raw] | None = None
        self._read: Sequence[Any] | None = None

    def __getitem__(self, place: int) -> bytes:
        if self._objects is None:
            self._objects = self._take_apart(self._body)
        return bytes(memoryview(self._objects[place]))

    def read(self, place: int, read_all: Callable[[bytes], Sequence[Value]]) -> Value | None:
        """The object at a place, made from the whole answer by `read_all`, which runs once; None beyond its result."""
        if self._read is None:
            self._read = read_all(self._body)
        return self._read[place] if place < len(self._read) else None


class Item(Struct, frozen=True, gc=False):
    """One object of an answer. Times are milliseconds since 1970, Clerk's clock."""

    id: str
    created_at: int | None
    """None: missing or odd."""
    updated_at: int | None
    """None: missing or odd."""
    observed_at: int
    """The moment of Clerk's answer; 0 if the answer has no date."""
    answer: Objects
    """The answer that holds the object: an item keeps the whole answer in memory."""
    place: int

    def json(self) -> bytes:
        """The whole object, a copy of its own."""
        return self.answer[self.place]

    def read(self, read_all: Callable[[bytes], Sequence[Value]]) -> Value | None:
        """The object as `read_all` reads it among all objects of the answer, always with the same `read_all`.

        `read_all` gets an array; None where its result is shorter.
        """
        return self.answer.read(self.place, read_all)


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list."""

    items: list[Item]
    odd: list[str]
    """Faults of the elements without a usable id, or with `deleted: true`; their data is not quoted."""
    size: int
    """Number of elements, the odd ones included."""
    total_count: int | None
    """The length of the whole list, where Clerk gives it."""
    observed_at: int
    joins: bool = True
    """False: no object of the page before was repeated, so objects between the two pages may be missing."""
    is_new: bool = True
    """False: the walk ended with a full page whose ids were all on the page before, or behind the end of the list."""


@dataclass(frozen=True, slots=True)
class Look(Generic[Value]):
    """Clerk's answer about a single object."""

    value: Value
    observed_at: int
    """The moment of the answer in milliseconds, by Clerk's clock; 0 if unknown."""


class Instance(Struct, frozen=True):
    """The instance of Clerk that a secret key belongs to."""

    id: str
    environment_type: str | None = None


class _Glance(Struct, gc=False):
    id: _Id
    created_at: _Milliseconds | None = None
    updated_at: _Milliseconds | None = None
    deleted: bool = False


class _Count(Struct):
    total_count: Annotated[int, Meta(ge=0)]


class _RawEnvelope(Struct):
    data: list[Raw]


class _GlanceEnvelope(_Count):
    data: list[_Glance]


class Unreadable(ValueError):
    """An answer in another form than Clerk documents: cut off, or sent by another server."""


_RAWS: Final = msgspec.json.Decoder(list[Raw])
_FIELDS: Final = msgspec.json.Decoder(dict[str, Raw])
_GLANCES: Final = msgspec.json.Decoder(list[_Glance])
_RAW_ENVELOPE: Final = msgspec.json.Decoder(_RawEnvelope)
_GLANCE_ENVELOPE: Final = msgspec.json.Decoder(_GlanceEnvelope)
_GLANCE: Final = msgspec.json.Decoder(_Glance)
_ID: Final = msgspec.json.Decoder(_Id)
_MOMENT: Final = msgspec.json.Decoder(_Milliseconds)
_NUMBER: Final = msgspec.json.Decoder(Annotated[int, Meta(ge=0)])
_COUNT: Final = msgspec.json.Decoder(_Count)
_INSTANCE: Final = msgspec.json.Decoder(Instance)
# A msgspec.ValidationError is a DecodeError, a fault in UTF-8 a ValueError; JSON nested too deep raises another error.
_NOT_AS_EXPECTED: Final = (msgspec.DecodeError, ValueError, RecursionError)


def read_array(body: bytes, observed_at: int) -> Page:
    """Read a page in the form of a bare array, as Clerk lists users. Raises Unreadable."""
    try:
        return _page(_GLANCES.decode(body), Objects(body, _RAWS.decode), None, observed_at)
    except _NOT_AS_EXPECTED:
        return _page_taken_apart(body, None, observed_at)


def read_envelope(body: bytes, observed_at: int) -> Page:
    """A page with `data` and `total_count`, as Clerk lists everything else. Raises Unreadable."""
    try:
        envelope = _GLANCE_ENVELOPE.decode(body)
        return _page(envelope.data, Objects(body, _data_of), envelope.total_count, observed_at)
    except _NOT_AS_EXPECTED:
        try:
            parts = fields(body)
            total_count = _NUMBER.decode(parts[b'"total_count"'])
        except (*_NOT_AS_EXPECTED, KeyError) as error:
            raise Unreadable("not a list of objects with their total_count") from error
        return _page_taken_apart(parts.get(b'"data"', b""), total_count, observed_at)


def objects_inside(around: Page, names: Sequence[str]) -> Page:
    """The objects inside the objects of a page. `names`: the names of the arrays on the way; the last array has them.

    `size`, `total_count`, `joins` and `is_new` stay as the page of the enclosing objects says.
    """
    items: list[Item] = []
    odd = list(around.odd)
    for each in around.items:
        try:
            for array in _arrays_inside(Raw(each.json()), names):
                page = read_array(bytes(memoryview(array)), each.observed_at)
                items += page.items
                odd += page.odd
        except (*_NOT_AS_EXPECTED, KeyError):
            odd.append(f"{each.id}: no readable {'.'.join(names)}")
    return replace(around, items=items, odd=odd)


def _arrays_inside(enclosing: Raw, names: Sequence[str]) -> Iterator[Raw]:
    array = _FIELDS.decode(enclosing)[names[0]]
    if len(names) == 1:
        yield array
        return
    for each in _RAWS.decode(array):
        yield from _arrays_inside(each, names[1:])


def read_object(body: bytes, observed_at: int) -> Item:
    """Read a single object. Raises Unreadable without a usable id, ContradictoryAnswer for `deleted: true`."""
    raw = Raw(body)
    glance = _glance(raw)
    if glance.deleted:
        raise ContradictoryAnswer(f"Clerk answered 200 for {glance.id}, and calls it deleted")
    return _item(glance, Objects(body, lambda whole: [Raw(whole)]), 0, observed_at)


def read_count(body: bytes, _observed_at: int) -> int:
    """A `total_count`. Raises Unreadable."""
    try:
        return _COUNT.decode(body).total_count
    except _NOT_AS_EXPECTED as error:
        raise Unreadable("not a total_count") from error


def read_instance(body: bytes, _observed_at: int) -> Instance:
    """The instance a key belongs to. Raises Unreadable."""
    try:
        return _INSTANCE.decode(body)
    except _NOT_AS_EXPECTED as error:
        raise Unreadable("not an instance") from error


def _page(glances: list[_Glance], answer: Objects, total_count: int | None, observed_at: int) -> Page:
    """The items of the usual page, in which every element is right: one call of the parser for the whole page."""
    if not _is_usable("".join([glance.id for glance in glances])):
        raise Unreadable("not every id is usable")
    if any(glance.deleted for glance in glances):
        raise Unreadable("not every object exists")
    items = [
        Item(each.id, each.created_at, each.updated_at, observed_at, answer, place)
        for place, each in enumerate(glances)
    ]
    return Page(items, [], len(items), total_count, observed_at)


def _page_taken_apart(array: bytes, total_count: int | None, observed_at: int) -> Page:
    """The items of a page, each read alone, so that an odd element does not spoil the other elements."""
    try:
        raws = [Raw(element) for element in elements(array)]
    except ValueError as error:
        raise Unreadable("not a list of objects") from error
    answer = Objects(array, lambda _: raws)
    items: list[Item] = []
    odd: list[str] = []
    for place, raw in enumerate(raws):
        try:
            glance = _glance(raw)
        except Unreadable as error:
            odd.append(f"element {place}: {error}")
            continue
        if glance.deleted:
            odd.append(f"element {place}: called deleted")
        else:
            items.append(_item(glance, answer, place, observed_at))
    return Page(items, odd, len(raws), total_count, observed_at)


def _data_of(envelope: bytes) -> list[Raw]:
    return _RAW_ENVELOPE.decode(envelope).data


def _glance(raw: Raw) -> _Glance:
    try:
        glance = _GLANCE.decode(raw)
    except _NOT_AS_EXPECTED:
        glance = _glance_taken_apart(raw)
    if not _is_usable(glance.id):
        raise Unreadable("no usable id")
    return glance


def _item(glance: _Glance, answer: Objects, place: int, observed_at: int) -> Item:
    return Item(glance.id, glance.created_at, glance.updated_at, observed_at, answer, place)


def _glance_taken_apart(raw: Raw) -> _Glance:
    try:
        parts = fields(bytes(memoryview(raw)))
    except ValueError as error:
        raise Unreadable("not an object") from error
    try:
        found = _ID.decode(parts[b'"id"'])
    except (*_NOT_AS_EXPECTED, KeyError) as error:
        raise Unreadable("no usable id") from error
    return _Glance(
        found,
        _milliseconds(parts.get(b'"created_at"')),
        _milliseconds(parts.get(b'"updated_at"')),
        parts.get(b'"deleted"') == b"true",
    )


def _is_usable(ids: str) -> bool:
    """Tells whether an id is safe as a key of the database and in an address: no hidden or special characters."""
    return ids.isascii() and ids.isprintable()


def _milliseconds(number: bytes | None) -> int | None:
    try:
        return None if number is None else _MOMENT.decode(number)
    except _NOT_AS_EXPECTED:
        return None
