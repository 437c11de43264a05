"""Faults between Clerk and a reader of its API, to be switched on by a test."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

import msgspec
from msgspec import Raw

Elements = list[bytes]
"""The objects of an answer, each as JSON."""

_FIELDS: Final = msgspec.json.Decoder(dict[str, Raw])
_DELETED: Final = {"deleted": Raw(b"true")}


@dataclass(frozen=True, slots=True)
class Request:
    """A received request."""

    method: str
    path: str
    """The path below the base URL, without parameters, still encoded."""
    parameters: tuple[tuple[str, str], ...]
    headers: Mapping[str, str]
    """By their names in lower case."""
    body: bytes = b""

    def values(self, name: str) -> list[str]:
        """Every value of a parameter; array parameters are repeated."""
        return [value for key, value in self.parameters if key == name]

    def value(self, name: str, default: str = "") -> str:
        """The last value of a parameter."""
        return next(reversed(self.values(name)), default)


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault done to a request instead of, or besides, a good answer."""

    happening: Callable[[], object] | None = None
    """Called before the answer is made, for a write to Clerk between two pages."""
    status: int = 0
    """The status of an error instead of the answer; 0: no error."""
    code: str = "internal_clerk_error"
    headers: Mapping[str, str | None] = field(default_factory=dict)
    """Headers of the answer to set, or, if None, to leave out."""
    body: bytes | None = None
    """The body to send instead."""
    request: Callable[[Request], Request] | None = None
    """A change of the request before its answer."""
    alter: Callable[[Elements], Elements] | None = None
    """A change of the objects of an answer."""
    wire: Literal["", "hang", "cut", "cut_chunked", "drip", "reset"] = ""
    """Do not answer; end in the middle of the body, with or without its length in the headers; send the body byte by
    byte; reset the connection."""


def answering(status: int, *, retry_after: str | None = None, code: str = "internal_clerk_error") -> Fault:
    """An error of Clerk's."""
    return Fault(status=status, code=code, headers={} if retry_after is None else {"Retry-After": retry_after})


def without_every(nth: int) -> Fault:
    """A good answer without every nth object: 2 leaves out half of the objects."""
    return Fault(alter=lambda elements: [each for place, each in enumerate(elements, 1) if place % nth])


def firewall(status: int = 403) -> Fault:
    """The page of a firewall in Clerk's place."""
    page = b"<!DOCTYPE html><title>Access denied</title><h1>Error 1020</h1>"
    return Fault(status=status, body=page, headers={"Content-Type": "text/html; charset=UTF-8"})


def without_date() -> Fault:
    """A good answer without a date."""
    return Fault(headers={"Date": None})


def no_elements() -> Fault:
    """A good answer without any object."""
    return Fault(alter=lambda _: [])


def deleted_with_200(object_type: str, object_id: str) -> Fault:
    """Clerk's answer to a delete, given as the answer to a question."""
    body = json.dumps({"object": object_type, "id": object_id, "deleted": True}).encode()
    return Fault(status=200, body=body)


def called_deleted(object_id: str) -> Fault:
    """A good answer with `deleted: true` in one object."""
    return _altering_each(lambda each: each | _DELETED if _text(each["id"]) == object_id else each)


def all_called_deleted() -> Fault:
    """A good answer with `deleted: true` in every object."""
    return _altering_each(lambda each: each | _DELETED)


def without_field(*names: str) -> Fault:
    """A good answer whose objects lack these fields."""
    return _altering_each(lambda each: {key: value for key, value in each.items() if key not in names})


def with_null(*names: str) -> Fault:
    """A good answer whose objects have null in these fields."""
    return _altering_each(lambda each: each | dict.fromkeys(names, Raw(b"null")))


def ignoring_offset() -> Fault:
    """The first page, whatever page was asked for."""
    return Fault(
        request=lambda request: replace(
            request, parameters=tuple(each for each in request.parameters if each[0] != "offset")
        )
    )


def _altering_each(alter: Callable[[dict[str, Raw]], dict[str, Raw]]) -> Fault:
    # The values stay as they are: users write numbers that Python does not read.
    return Fault(alter=lambda elements: [msgspec.json.encode(alter(_FIELDS.decode(each))) for each in elements])


def _text(value: Raw) -> str:
    return msgspec.json.decode(value, type=str)


@dataclass(slots=True)
class _Set:
    fault: Fault
    applies: Callable[[Request], bool]
    skip: int
    times: int


class Faults:
    """The active faults. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._set: list[_Set] = []
        self._has_applied = False

    @property
    def has_applied(self) -> bool:
        """Tells whether a fault was applied to a request since the last `clear()`."""
        with self._lock:
            return self._has_applied

    def add(
        self,
        fault: Fault,
        *,
        path: str = "",
        having: str = "",
        without: str = "",
        skip: int = 0,
        times: int = 1,
        method: str = "",
    ) -> None:
        """Applies *fault* to *times* requests after *skip*, with the parameter *having* and not *without*."""

        def applies(request: Request) -> bool:
            return (
                path in ("", request.path)
                and method in ("", request.method)
                and (having == "" or bool(request.values(having)))
                and (without == "" or not request.values(without))
            )

        with self._lock:
            self._set.append(_Set(fault, applies, skip, times))

    def clear(self) -> None:
        """Removes all faults."""
        with self._lock:
            self._set.clear()
            self._has_applied = False

    def take(self, request: Request) -> Sequence[Fault]:
        """The faults for this request; each counts as applied once."""
        taken: list[Fault] = []
        with self._lock:
            for each in self._set:
                if not each.applies(request) or each.times == 0:
                    continue
                if each.skip > 0:
                    each.skip -= 1
                else:
                    each.times -= 1
                    taken.append(each.fault)
                    self._has_applied = True
        return taken
