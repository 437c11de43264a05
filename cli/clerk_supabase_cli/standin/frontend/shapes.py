"""Clerk's Frontend API in JSON, with the fields that clerk-js reads.

Source: https://github.com/clerk/javascript, packages/shared/src/types/json.ts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from clerk_supabase_cli.standin.frontend.clients import Attempt, Client, Session, now_ms
from clerk_supabase_cli.standin.samples import Json

_CODE_MS: Final = 600_000
_WEEK_MS: Final = 7 * 24 * 3600 * 1000

ENVIRONMENT: Final[Json] = {
    "object": "environment",
    "id": "env_standin",
    "auth_config": {"object": "auth_config", "single_session_mode": True},
    "display_config": {
        "object": "display_config",
        "instance_environment_type": "production",
        "application_name": "the app",
        "branded": False,
    },
    "organization_settings": {"enabled": True, "max_allowed_memberships": 5, "actions": {"admin_delete": True}},
    "user_settings": {
        "attributes": {
            name: {
                "name": name,
                "enabled": True,
                "required": True,
                "used_for_first_factor": name in {"email_address", "password"},
                "first_factors": ["email_code"] if name == "email_address" else [],
                "second_factors": [],
                "verifications": ["email_code"] if name == "email_address" else [],
                "verify_at_sign_up": name == "email_address",
            }
            for name in ("email_address", "password", "first_name", "last_name")
        },
        "actions": {"delete_self": False, "create_organization": True},
        "sign_up": {"mode": "public", "progressive": True, "captcha_enabled": False},
        "sign_in": {"second_factor": {"required": False}},
        "password_settings": {"min_length": 8, "max_length": 72},
        "social": {},
    },
}

SessionJson = Callable[[Session], Json]


def client(known: Client, sessions: Sequence[Json]) -> Json:
    """The browser with its sessions and attempts."""
    return {
        "object": "client",
        "id": known.id,
        "sessions": list(sessions),
        "sign_in": known.sign_in and sign_in(known.sign_in),
        "sign_up": known.sign_up and sign_up(known.sign_up),
        "last_active_session_id": sessions[-1]["id"] if sessions else None,
        "created_at": known.created_at,
        "updated_at": now_ms(),
    }


def session(known: Session, user: Json, memberships: Sequence[Json], token: str) -> Json:
    """A session of a user; *token* is of its active organization."""
    now = now_ms()
    return {
        "object": "session",
        "id": known.id,
        "status": "active",
        "user": user_of_frontend(user, memberships),
        "public_user_data": {
            "user_id": user["id"],
            "first_name": user["first_name"],
            "last_name": user["last_name"],
            "image_url": user["image_url"],
            "has_image": user["has_image"],
            "identifier": address_of(user),
        },
        "last_active_token": token_of(token),
        "last_active_organization_id": known.organization_id,
        "actor": None,
        "tasks": None,
        "factor_verification_age": [0, -1],
        "expire_at": known.created_at + _WEEK_MS,
        "abandon_at": known.created_at + 4 * _WEEK_MS,
        "last_active_at": now,
        "created_at": known.created_at,
        "updated_at": now,
    }


def token_of(jwt: str) -> Json:
    """A session token."""
    return {"object": "token", "jwt": jwt}


def user_of_frontend(user: Json, memberships: Sequence[Json]) -> Json:
    """The user as shown to the user's own browser."""
    shown = {name: value for name, value in user.items() if name != "private_metadata"}
    return shown | {"organization_memberships": [membership(each) for each in memberships]}


def membership(known: Json) -> Json:
    """A membership as shown to the member."""
    return {name: value for name, value in known.items() if name != "private_metadata"} | {
        "organization": organization(known["organization"])
    }


def organization(known: Json) -> Json:
    """An organization as shown to its members."""
    return {name: value for name, value in known.items() if name != "private_metadata"}


def page(elements: Sequence[Json]) -> Json:
    """A list that fits one page."""
    return {"data": list(elements), "total_count": len(elements)}


def address_of(user: Json) -> str:
    """The first e-mail address, which identifies the user to the person."""
    return str(user["email_addresses"][0]["email_address"]) if user["email_addresses"] else ""


def sign_in(attempt: Attempt) -> Json:
    """An attempt to sign in."""
    return {
        "object": "sign_in",
        "id": attempt.id,
        "status": _sign_in_status(attempt),
        "identifier": attempt.fields.get("identifier"),
        "supported_identifiers": ["email_address"],
        "supported_first_factors": _first_factors(attempt),
        "supported_second_factors": None,
        "first_factor_verification": _verification(attempt) if attempt.has_code else None,
        "second_factor_verification": None,
        "user_data": None,
        "created_session_id": attempt.session_id,
    }


def sign_up(attempt: Attempt) -> Json:
    """An attempt to sign up."""
    is_complete = attempt.session_id is not None
    required = ["email_address", "password", "first_name", "last_name"]
    entered = {**attempt.fields, "password": attempt.password}
    missing = [] if is_complete else [name for name in required if not entered.get(name)]
    names = {name: attempt.fields.get(name) for name in ("email_address", "first_name", "last_name", "username")}
    return names | {
        "object": "sign_up",
        "id": attempt.id,
        "status": "complete" if is_complete else "missing_requirements",
        "required_fields": required,
        "optional_fields": [],
        "missing_fields": missing,
        "unverified_fields": [] if is_complete else ["email_address"],
        "verifications": {
            "email_address": _verification(attempt)
            | {"next_action": _next_action(attempt), "supported_strategies": ["email_code"]}
        },
        "phone_number": None,
        "web3_wallet": None,
        "external_account": None,
        "external_account_strategy": None,
        "has_password": bool(attempt.password),
        "unsafe_metadata": {},
        "created_session_id": attempt.session_id,
        "created_user_id": attempt.user and attempt.user["id"],
        "abandon_at": now_ms() + _WEEK_MS,
        "legal_accepted_at": None,
    }


def _next_action(attempt: Attempt) -> str:
    if attempt.session_id is not None:
        return ""
    return "needs_attempt" if attempt.has_code else "needs_prepare"


def _sign_in_status(attempt: Attempt) -> str:
    if attempt.session_id is not None:
        return "complete"
    return "needs_first_factor" if attempt.user else "needs_identifier"


def _first_factors(attempt: Attempt) -> list[Json]:
    if attempt.user is None:
        return []
    by_code = {
        "strategy": "email_code",
        "email_address_id": attempt.user["email_addresses"][0]["id"],
        "safe_identifier": address_of(attempt.user),
        "primary": True,
    }
    return [{"strategy": "password"}, by_code] if attempt.password else [by_code]


def _verification(attempt: Attempt) -> Json:
    return {
        "object": "verification",
        "status": "verified" if attempt.session_id else "unverified",
        # Without a strategy, Clerk's component asks for a code to be sent.
        "strategy": "email_code" if attempt.has_code else None,
        "attempts": 0,
        "expire_at": now_ms() + _CODE_MS,
    }
