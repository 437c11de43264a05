"""What Clerk sends, parsed leniently: unknown fields and types, missing optionals and nulls are normal.

Webhooks and Clerk's Backend API use the same objects. Times are milliseconds since 1970.
Source of the field names: https://github.com/clerk/openapi-specs (webhooks/2025-04-15, bapi/2026-05-12).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from clerk_supabase.errors import UnusableEvent

# The last millisecond of the year 9999, the end of Python's calendar.
_LAST_MILLISECOND = 253_402_300_799_999

# Clerk's own examples show seconds where its deliveries carry milliseconds; 1e11 ms is 1973.
_SECONDS_BELOW = 100_000_000_000


def _null_is(empty: Callable[[], Any]) -> BeforeValidator:
    return BeforeValidator(lambda value: empty() if value is None else value)


Text = str | None
Flag = Annotated[bool, _null_is(bool)]
Metadata = Annotated[dict[str, Any], _null_is(dict)]
Milliseconds = Annotated[int, Field(ge=0, le=_LAST_MILLISECOND)]
Id = Annotated[str, Field(min_length=1)]


class _Lenient(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Verification(_Lenient):
    """How an identifier was verified. `object` is missing in some deliveries, so it is not asked for."""

    status: Text = None


class _Identifier(_Lenient):
    id: Text = None
    verification: Verification | None = None

    @property
    def verified(self) -> bool:
        return self.verification is not None and self.verification.status == "verified"


class EmailAddress(_Identifier):
    """One e-mail address of a user."""

    email_address: str


class PhoneNumber(_Identifier):
    """One phone number of a user. Its backup codes are never read."""

    phone_number: str


class Web3Wallet(_Identifier):
    """One wallet of a user."""

    web3_wallet: str


class ExternalAccount(_Identifier):
    """One account at an OAuth provider."""

    provider: Text = None
    provider_user_id: Text = None
    email_address: Text = None
    username: Text = None


class User(_Lenient):
    """Clerk's User, as far as it is mirrored."""

    id: Id
    external_id: Text = None
    username: Text = None
    first_name: Text = None
    last_name: Text = None
    image_url: Text = None
    has_image: Flag = False
    locale: Text = None
    primary_email_address_id: Text = None
    primary_phone_number_id: Text = None
    email_addresses: Annotated[list[EmailAddress], _null_is(list)] = []
    phone_numbers: Annotated[list[PhoneNumber], _null_is(list)] = []
    web3_wallets: Annotated[list[Web3Wallet], _null_is(list)] = []
    external_accounts: Annotated[list[ExternalAccount], _null_is(list)] = []
    public_metadata: Metadata = {}
    unsafe_metadata: Metadata = {}
    password_enabled: Flag = False
    two_factor_enabled: Flag = False
    banned: Flag = False
    locked: Flag = False
    legal_accepted_at: Milliseconds | None = None
    created_at: Milliseconds | None = None
    updated_at: Milliseconds


class DeletedObject(_Lenient):
    """What is left of an object that was deleted."""

    id: Id


def _to_milliseconds(timestamp: object) -> object:
    if isinstance(timestamp, int | float) and timestamp < _SECONDS_BELOW:
        return timestamp * 1000
    return timestamp


class Event(_Lenient):
    """The envelope of a webhook. `timestamp` is when it happened, always in milliseconds here."""

    type: str
    timestamp: Annotated[Milliseconds, BeforeValidator(_to_milliseconds)]
    data: dict[str, Any]


ParsedObject = TypeVar("ParsedObject", bound=_Lenient)


def parse_event(body: bytes) -> Event:
    """The event in a webhook's body. Raises UnusableEvent with what is wrong, never with the data itself."""
    try:
        return Event.model_validate_json(body)
    except ValidationError as error:
        raise UnusableEvent(_what_is_wrong(error, "event")) from None


def parse_object(model: type[ParsedObject], data: Mapping[str, Any]) -> ParsedObject:
    """One of Clerk's objects. Raises UnusableEvent with what is wrong, never with the data itself."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise UnusableEvent(_what_is_wrong(error, model.__name__)) from None


def _what_is_wrong(error: ValidationError, name: str) -> str:
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    path = ".".join([name, *map(str, first["loc"])])
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{path}: {first['msg']}{more}"
