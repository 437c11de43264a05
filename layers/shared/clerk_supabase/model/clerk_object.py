"""The base of all models of Clerk's objects, with types that read fields leniently.

Unknown fields, missing optional fields and nulls are normal. Times are milliseconds since 1970.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from enum import Enum, auto
from threading import Lock
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, Strict, ValidationError
from pydantic_core import PydanticSerializationError, to_json

from clerk_supabase.errors import UnusableEvent
from clerk_supabase.model.facts import Kind

Columns = Mapping[str, Any]
"""A row of a mirrored table, by column."""

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - written with its zone below, in a third of the time
# The last millisecond of the year 9999, the end of Python's calendar.
LAST_MILLISECOND = 253_402_300_799_999
# No clock is wrong by more than a day.
DAY = 86_400_000
NO_VERSION = "updated_at: missing or no time in milliseconds"
"""The fault of an object of Clerk's Backend API that cannot be compared."""
# Clerk's ids have some 30 characters; an index of Postgres takes at most 2,700 bytes.
LONGEST_ID = 255
# The same limit for texts that clients choose and that are indexed: a character has up to four bytes.
LONGEST_INDEXED = 650
# The deepest nesting of a member of metadata. All parsers and Postgres take more, but each has a limit of its own.
DEEPEST = 128
_BUILDING = Lock()


class Loss(Enum):
    """The part of a field that is left out if Postgres cannot store it. A field without a Loss is never left out."""

    whole = auto()
    """The whole field, or single elements or members: a client writes the field, and an empty field grants nothing."""
    members = auto()
    """Single members only: the field is not written by clients, and its other members stay."""
    odd = auto()
    """The value or a single element: Clerk writes the field, and an event is worth more than the value. A value of
    another type becomes null, too; a value that only a rule of the app rejects is not left out."""


def _null_is(empty: Callable[[], Any]) -> BeforeValidator:
    return BeforeValidator(lambda value: empty() if value is None else value)


def _is_null(missing: object) -> BeforeValidator:
    """A validator for fields that have a value of their own for a missing value."""
    return BeforeValidator(lambda value: None if value == missing and type(value) is type(missing) else value)


Text = str | None
Flag = Annotated[bool, _null_is(bool)]
Metadata = Annotated[dict[str, Any], _null_is(dict), Loss.members]
# An unreadable value never lifts a ban: without a Loss, the event is parked.
Verdict = Annotated[bool, Strict()]
# Fields that clients write.
ClientText = Annotated[str | None, Loss.whole]
ClientKey = Annotated[Annotated[str, Field(max_length=LONGEST_INDEXED)] | None, Loss.whole]
ClientFlag = Annotated[bool, _null_is(bool), Loss.whole]
ClientMetadata = Annotated[dict[str, Any], _null_is(dict), Loss.whole]
Milliseconds = Annotated[int, Field(ge=0, le=LAST_MILLISECOND)]
Id = Annotated[str, Field(min_length=1, max_length=LONGEST_ID)]
EMPTY_LIST = _null_is(list)
# Fields of a TolerantObject. Clerk's Billing sends an empty text or the time 0 for a missing value.
MISSING_TEXT = _is_null("")
Name = Annotated[str | None, MISSING_TEXT, Loss.odd]
Key = Annotated[Annotated[str, Field(max_length=LONGEST_INDEXED)] | None, MISSING_TEXT, Loss.odd]
OptionalId = Annotated[Annotated[str, Field(max_length=LONGEST_ID)] | None, MISSING_TEXT, Loss.odd]
Whole = Annotated[Annotated[int, Strict(), Field(ge=-(2**63), lt=2**63)] | None, Loss.odd]
Moment = Annotated[Annotated[int, Strict(), Field(ge=0, le=LAST_MILLISECOND)] | None, _is_null(0), Loss.odd]
YesOrNo = Annotated[bool, Strict(), _null_is(bool), Loss.odd]


_WITHOUT_METADATA = frozenset({str, int, bool, list, type(None)})


def may_hold_nul(json: bytes) -> bool:
    """Tells whether a text of the JSON may hold the character NUL, which Postgres cannot store."""
    # Most objects have no backslash at all, and a search for one takes a tenth of the time.
    return b"\\" in json and b"\\u0000" in json


def is_usual(metadata: Mapping[str, Any]) -> bool:
    """Tells whether metadata can certainly be stored, if no text in it has NUL; False: each value has to be checked.

    The check reads the JSON text, which is faster than a check of the values.
    """
    if not metadata:
        return True
    try:
        text = to_json(metadata)
    except PydanticSerializationError:
        return False
    return text.count(b"[") + text.count(b"{") <= DEEPEST and b"Infinity" not in text and b"NaN" not in text


class Lenient(BaseModel):
    """A model that ignores unknown fields."""

    # Of all models, an environment needs the few whose events it gets: to build all takes 60 ms of each cold start.
    model_config = ConfigDict(extra="ignore", frozen=True, defer_build=True)

    @classmethod
    def model_rebuild(cls, **options: Any) -> bool | None:
        """Build the model at its first use. Of several threads one builds: pydantic itself is not thread-safe here."""
        with _BUILDING:
            return super().model_rebuild(**options)

    def has_usual_metadata(self) -> bool:
        """Tells whether all metadata of the object, at any depth, is usual; the types check the other fields."""
        # Not isinstance(), which asks pydantic and would take longer than all the rest.
        for value in self.__dict__.values():
            kind = type(value)
            if kind in _WITHOUT_METADATA:
                continue
            if not (is_usual(value) if kind is dict else value.has_usual_metadata()):
                return False
        return True


class Verification(Lenient):
    """The verification of an identifier. `object` is missing in some deliveries, and so no field of the model."""

    status: Text = None


def is_verified(verification: Verification | None) -> bool:
    """Tells whether Clerk calls the identifier verified; False without any verification."""
    return verification is not None and verification.status == "verified"


class ClerkObject(Lenient):
    """An object of Clerk with a table of its own in Postgres."""

    kind: ClassVar[Kind]

    id: Id
    created_at: Milliseconds | None = None
    updated_at: Milliseconds

    def columns(self) -> Columns:
        """Every mirrored column of the object's row, by the names of the table."""
        raise NotImplementedError  # each kind has columns of its own, and no object is of this base class alone

    def parents(self) -> tuple[ClerkObject, ...]:
        """The known columns of the objects to which the row points: their own events may not have arrived yet."""
        return ()

    def companions(self) -> tuple[ClerkObject, ...]:
        """The objects inside this object that have a table and a version of their own."""
        return ()

    def told_by_api(self, observed_at: int) -> tuple[ClerkObject, int]:
        """The object of an answer of the Backend API as of the answer's moment, and that moment for the version.

        Raises UnusableEvent for an object without a version.
        """
        return self, observed_at


class TolerantObject(ClerkObject):
    """An object of Clerk that becomes a row whatever its fields hold, besides its id and its parents."""

    created_at: Moment = None
    updated_at: Annotated[int, Strict(), Field(ge=0, le=LAST_MILLISECOND), _null_is(int), Loss.odd] = 0
    """0: missing or odd."""

    def told_by_webhook(self, moment: int) -> TolerantObject:
        """The object of an event of this moment, which is the version of an object without a believable version."""
        if 0 < self.updated_at <= moment + DAY:
            return self
        return self.model_copy(update={"updated_at": moment})

    def told_by_api(self, observed_at: int) -> tuple[ClerkObject, int]:
        """The object and the moment of the answer, which says nothing about the moment of the last change."""
        if self.updated_at == 0:
            raise UnusableEvent(NO_VERSION)
        return self, observed_at


Parsed = TypeVar("Parsed", bound=Lenient)


def parse_object(model: type[Parsed], data: Mapping[str, Any]) -> Parsed:
    """Read one object of Clerk. Raises UnusableEvent, which names the fault and never quotes the data."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise UnusableEvent(what_is_wrong(error, model.__name__)) from None


def what_is_wrong(error: ValidationError, name: str) -> str:
    """The first field that does not fit, and the reason, without the value, which may be personal data."""
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    path = ".".join([name, *map(str, first["loc"])])
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{path}: {first['msg']}{more}"


def timestamp(milliseconds: int | None) -> str | None:
    """Milliseconds since 1970 as Postgres reads a timestamptz."""
    return None if milliseconds is None else (_EPOCH + timedelta(0, 0, 0, milliseconds)).isoformat() + "+00:00"
