"""A user of Supabase Auth in the form of Clerk's import, and everything about the user that stays behind."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal

from clerk_supabase_cli.adopt.supabase_auth.export.hashes import password_of

AppMetadataSide = Literal["public", "private"]

MOST_METADATA: Final = 8_192
"""Clerk's limit for the metadata of a user, in bytes."""

# Copies that Supabase Auth makes of its own fields.
_OF_SUPABASE: Final = {"sub", "iss", "email", "email_verified", "phone", "phone_verified", "provider_id"}
_OF_PROVIDERS: Final = {"provider", "providers"}
_ADDRESS: Final = re.compile(r"[^\s@<>\",;:()\[\]\\]+@[^\s@<>\",;:()\[\]\\]+")
_PHONE: Final = re.compile(r"\+?([1-9]\d{4,14})", re.ASCII)
_LONGEST_NAME: Final = 255
_FIRST_NAMES: Final = ("first_name", "given_name", "firstName")
_LAST_NAMES: Final = ("last_name", "family_name", "lastName")
_FULL_NAMES: Final = ("full_name", "name")


@dataclass(frozen=True, slots=True)
class OldUser:
    """A row of auth.users, as the export reads the row."""

    id: str
    email: str | None
    email_is_confirmed: bool
    email_is_shared: bool
    phone: str | None
    phone_is_confirmed: bool
    phone_is_shared: bool
    encrypted_password: str | None = field(repr=False)
    user_metadata: str | None = field(repr=False)
    app_metadata: str | None = field(repr=False)
    metadata_is_too_long: bool
    is_banned: bool
    is_deleted: bool
    is_anonymous: bool
    has_second_factor: bool
    created_at: datetime | None


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A user, or a part of a user, that is not in the file for Clerk."""

    id: str
    what: str
    why: str
    value: str | None = None
    """The address or number, for a person to look at; never a hash."""


def exported(user: OldUser, side: AppMetadataSide) -> tuple[dict[str, Any] | None, list[LeftOut]]:
    """The user as Clerk's import takes the user, or None; and everything that is left out."""
    if user.is_deleted:
        return None, [LeftOut(user.id, "user", "deleted in Supabase Auth")]
    if user.is_anonymous:
        return None, [LeftOut(user.id, "user", "anonymous: no address, number or password")]
    left_out: list[LeftOut] = []
    email = _email(user, left_out)
    phone = _phone(user, left_out)
    if email is None and phone is None:
        left_out.append(LeftOut(user.id, "user", "no verified address or number of the user's own"))
        return None, left_out
    metadata, names = _metadata(user, side, left_out)
    found: dict[str, Any] = {
        "id": user.id,
        "primary_email_address": email,
        "primary_phone_number": phone,
        **names,
        **_password(user, left_out),
        **metadata,
        "created_at": f"{user.created_at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}" if user.created_at else None,
        "banned": True if user.is_banned else None,
    }
    if user.has_second_factor:
        left_out.append(LeftOut(user.id, "second factor", "not exported: the user enrolls again in Clerk"))
    return {name: value for name, value in found.items() if value is not None}, left_out


def _email(user: OldUser, left_out: list[LeftOut]) -> str | None:
    if not user.email:
        return None
    why = None
    if not user.email_is_confirmed:
        why = "not verified: Clerk would take every imported address for verified"
    elif user.email_is_shared:
        why = "also the verified address of another user: decide whose address this is"
    elif not _ADDRESS.fullmatch(user.email):
        why = "no e-mail address"
    if why:
        left_out.append(LeftOut(user.id, "email", why, user.email))
        return None
    return user.email


def _phone(user: OldUser, left_out: list[LeftOut]) -> str | None:
    if not user.phone:
        return None
    number = _PHONE.fullmatch(user.phone)
    why = None
    if not user.phone_is_confirmed:
        why = "not verified: Clerk would take every imported number for verified"
    elif user.phone_is_shared:
        why = "also the verified number of another user: decide whose number this is"
    elif not number:
        why = "no number with a country code"
    if why or not number:
        left_out.append(LeftOut(user.id, "phone", why or "", user.phone))
        return None
    return f"+{number[1]}"


def _password(user: OldUser, left_out: list[LeftOut]) -> dict[str, str]:
    if not user.encrypted_password:
        return {}
    if password := password_of(user.encrypted_password):
        return {"password_digest": password.digest, "password_hasher": password.hasher}
    left_out.append(LeftOut(user.id, "password", "Clerk does not accept this hash: the user sets a new password"))
    return {}


def _metadata(
    user: OldUser, side: AppMetadataSide, left_out: list[LeftOut]
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """The metadata for Clerk, side by side; and the names that stand in the metadata of the user."""
    if user.metadata_is_too_long:
        left_out.append(LeftOut(user.id, "metadata", f"longer than Clerk's {MOST_METADATA} bytes"))
        return {}, {}
    of_user = _parsed(user.id, "user metadata", user.user_metadata, left_out)
    of_app = _parsed(user.id, "app metadata", user.app_metadata, left_out)
    # Users write these values themselves, so the values must not reach the side that apps trust.
    unsafe = {name: value for name, value in of_user.items() if name not in _OF_SUPABASE}
    trusted = {name: value for name, value in of_app.items() if name not in _OF_PROVIDERS}
    kept: dict[str, dict[str, Any]] = {}
    room = MOST_METADATA
    for what, key, content in (
        ("app metadata", f"{side}_metadata", trusted),
        ("user metadata", "unsafe_metadata", unsafe),
    ):
        size = len(json.dumps(content, ensure_ascii=False).encode())
        if size > room:
            left_out.append(LeftOut(user.id, what, f"longer than Clerk's {MOST_METADATA} bytes"))
        elif content:
            kept[key] = content
            room -= size
    return kept, _names(of_user)


def _parsed(user_id: str, what: str, text: str | None, left_out: list[LeftOut]) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        content = json.loads(text)
        # Postgres stores numbers that are no numbers of JSON readers any more, such as 1e400.
        json.dumps(content, allow_nan=False)
    except (ValueError, RecursionError):
        left_out.append(LeftOut(user_id, what, "too deep, or with a number too large for JSON readers"))
        return {}
    if content is None:
        return {}
    if not isinstance(content, dict):
        left_out.append(LeftOut(user_id, what, "no JSON object"))
        return {}
    return content


def _names(metadata: dict[str, Any]) -> dict[str, str]:
    first, last = _first_of(metadata, _FIRST_NAMES), _first_of(metadata, _LAST_NAMES)
    if first is None and last is None and (full := _first_of(metadata, _FULL_NAMES)):
        first, _, last = full.partition(" ")
    return {name: value for name, value in (("first_name", first), ("last_name", last)) if value}


def _first_of(metadata: dict[str, Any], names: tuple[str, ...]) -> str | None:
    for name in names:
        value = metadata.get(name)
        if isinstance(value, str) and (text := " ".join(value.split())) and len(text) <= _LONGEST_NAME:
            return text
    return None
