"""What all of Clerk's objects have in common, and how leniently their fields are read.

Unknown fields, missing optionals and nulls are normal. Times are milliseconds since 1970.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from clerk_supabase.errors import UnusableEvent
from clerk_supabase.kinds import Kind

Columns = Mapping[str, Any]
"""A row of a mirrored table, by column."""

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - written with its zone below, in a third of the time
# The last millisecond of the year 9999, the end of Python's calendar.
LAST_MILLISECOND = 253_402_300_799_999
# Clerk's ids have some 30 characters; an index of Postgres takes at most 2,700 bytes.
LONGEST_ID = 255


def _null_is(empty: Callable[[], Any]) -> BeforeValidator:
    return BeforeValidator(lambda value: empty() if value is None else value)


Text = str | None
Flag = Annotated[bool, _null_is(bool)]
Metadata = Annotated[dict[str, Any], _null_is(dict)]
Milliseconds = Annotated[int, Field(ge=0, le=LAST_MILLISECOND)]
Id = Annotated[str, Field(min_length=1, max_length=LONGEST_ID)]
EMPTY_LIST = _null_is(list)


class Lenient(BaseModel):
    """Reads the fields it knows, ignores the rest."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Verification(Lenient):
    """How an identifier was verified. `object` is missing in some deliveries, so it is not asked for."""

    status: Text = None


def is_verified(verification: Verification | None) -> bool:
    """True when Clerk calls it verified; there may be no verification at all."""
    return verification is not None and verification.status == "verified"


class ClerkObject(Lenient):
    """An object of Clerk that has a table here."""

    kind: ClassVar[Kind]

    id: Id
    created_at: Milliseconds | None = None
    updated_at: Milliseconds

    def columns(self) -> Columns:
        """Every mirrored column of its row, by the names of the table."""
        raise NotImplementedError

    def parents(self) -> tuple[ClerkObject, ...]:
        """What is known of the objects its row points to, which may not have arrived yet."""
        return ()


Parsed = TypeVar("Parsed", bound=Lenient)


def parse_object(model: type[Parsed], data: Mapping[str, Any]) -> Parsed:
    """One of Clerk's objects. Raises UnusableEvent with what is wrong, never with the data itself."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise UnusableEvent(what_is_wrong(error, model.__name__)) from None


def parse_json(model: type[Parsed], json: bytes) -> Parsed:
    """The same from its JSON."""
    try:
        return model.model_validate_json(json)
    except ValidationError as error:
        raise UnusableEvent(what_is_wrong(error, model.__name__)) from None


def what_is_wrong(error: ValidationError, name: str) -> str:
    """The first field that does not fit and why, without its value: it may be personal data."""
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    path = ".".join([name, *map(str, first["loc"])])
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{path}: {first['msg']}{more}"


def timestamp(milliseconds: int | None) -> str | None:
    """Milliseconds since 1970 as Postgres reads a timestamptz."""
    return None if milliseconds is None else f"{(_EPOCH + timedelta(milliseconds=milliseconds)).isoformat()}+00:00"
