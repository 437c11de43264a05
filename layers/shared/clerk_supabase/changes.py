"""From what Clerk sends to the change it means. Pure: the only place that says how a payload maps to columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from clerk_supabase.errors import UnusableEvent
from clerk_supabase.events import DeletedObject, EmailAddress, Event, PhoneNumber, User, parse_object
from clerk_supabase.kinds import SYNCED_TYPES, Kind

Content = Mapping[str, Any]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Version:
    """Decides which of two writes is newer: compared as a pair, both milliseconds of Clerk's clock."""

    source_updated_at: int
    observed_at: int


@dataclass(frozen=True, slots=True)
class Upsert:
    """The entity looked like this: every mirrored column by its name in the table."""

    kind: Kind
    id: str
    version: Version
    content: Content


@dataclass(frozen=True, slots=True)
class Delete:
    """The entity is gone, for good: ids are never reused."""

    kind: Kind
    id: str
    deleted_at: int
    """Milliseconds, Clerk's clock."""


Change = Upsert | Delete


@dataclass(frozen=True, slots=True)
class Delivery:
    """The webhook a change came with; it is recorded in the transaction that applies the change."""

    svix_id: str
    event_type: str
    received_at: int
    """When ingest accepted it: milliseconds, our clock. For measuring lag, never for ordering."""


def change_of(event: Event) -> Change:
    """The change an event means. Raises UnusableEvent when its object is unusable or of a type that is not synced."""
    meaning = SYNCED_TYPES.get(event.type)
    if meaning is None:
        raise UnusableEvent("event.type: not a type that is synced")
    if meaning.is_delete:
        # A deleted object has no updated_at: the envelope's clock is all there is.
        gone = parse_object(DeletedObject, event.data)
        return Delete(meaning.kind, gone.id, event.timestamp)
    user = parse_object(User, event.data)
    return Upsert(meaning.kind, user.id, Version(user.updated_at, event.timestamp), user_content(user))


def user_content(user: User) -> Content:
    """The columns of public.users.

    Times of the last sign-in and of the last update stay out: they move at every sign-in, and would turn a write that
    changes nothing into one that fires triggers and Realtime messages.
    """
    email = _with_id(user.email_addresses, user.primary_email_address_id)
    phone = _with_id(user.phone_numbers, user.primary_phone_number_id)
    return {
        "clerk_id": user.id,
        "external_id": user.external_id,
        "username": user.username,
        "first_name": user.first_name,
        "last_name": user.last_name,
        "email": email and email.email_address,
        "email_verified": email is not None and email.verified,
        "phone": phone and phone.phone_number,
        "phone_verified": phone is not None and phone.verified,
        "image_url": user.image_url,
        "has_image": user.has_image,
        "locale": user.locale,
        "public_metadata": user.public_metadata,
        "unsafe_metadata": user.unsafe_metadata,
        "email_addresses": [
            {"id": each.id, "email_address": each.email_address, "verified": each.verified}
            for each in user.email_addresses
        ],
        "phone_numbers": [
            {"id": each.id, "phone_number": each.phone_number, "verified": each.verified} for each in user.phone_numbers
        ],
        "web3_wallets": [
            {"id": each.id, "web3_wallet": each.web3_wallet, "verified": each.verified} for each in user.web3_wallets
        ],
        "external_accounts": [
            {
                "id": each.id,
                "provider": each.provider,
                "provider_user_id": each.provider_user_id,
                "email_address": each.email_address,
                "username": each.username,
                "verified": each.verified,
            }
            for each in user.external_accounts
        ],
        "password_enabled": user.password_enabled,
        "two_factor_enabled": user.two_factor_enabled,
        "banned": user.banned,
        "locked": user.locked,
        "legal_accepted_at": _timestamp(user.legal_accepted_at),
        "created_at": _timestamp(user.created_at),
    }


Identifier = TypeVar("Identifier", EmailAddress, PhoneNumber)


def _with_id(identifiers: Iterable[Identifier], wanted: str | None) -> Identifier | None:
    """The primary identifier is the one Clerk names, not the first; there may be none."""
    return next((each for each in identifiers if wanted is not None and each.id == wanted), None)


def _timestamp(milliseconds: int | None) -> str | None:
    if milliseconds is None:
        return None
    return (_EPOCH + timedelta(milliseconds=milliseconds)).isoformat()
