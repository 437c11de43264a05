"""The claims of a token of any version, read but not trusted: verifiers.py decides which tokens are genuine.

Source: https://clerk.com/docs/guides/sessions/session-tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec

from clerk_supabase.errors import Rejection, TokenRejected
from clerk_supabase.tokens.entitlements import holds
from clerk_supabase.tokens.permissions import granted, scoped

Version = Literal["v1", "v2", "legacy"]

_USER: Final = "user_"
_SESSION: Final = "sess_"
_MACHINE: Final = "mch_"
_LONGEST_ID: Final = 255
# Beyond this limit, a JSON number is not exact.
_LATEST_TIME: Final = 2**53


@dataclass(frozen=True, slots=True)
class Organization:
    """The active organization of the session."""

    id: str
    slug: str | None
    role: str | None
    """Always with its prefix: `org:admin`."""
    permissions: tuple[str, ...]
    """`org:feature:permission`; Clerk's own (`org:sys_...`) are in no version 2 token."""


@dataclass(frozen=True, slots=True)
class Actor:
    """The person who acts as the user: impersonation."""

    id: str
    session_id: str | None
    issuer: str | None
    type: str | None


@dataclass(frozen=True, slots=True)
class Claims:
    """The claims of a token in one form. Times are seconds since 1970."""

    version: Version
    user_id: str
    session_id: str | None
    """`None` in a legacy token, which belongs to no session."""
    session_status: str | None
    """`active` or `pending`; older instances do not say."""
    issuer: str | None
    authorized_party: str | None
    """The origin of the app for which Clerk issued the token; tokens of native apps have no origin."""
    issued_at: int
    not_before: int | None
    expires_at: int
    organization: Organization | None
    role: str | None
    """The Postgres role that Supabase takes; `authenticated` once Clerk is set up for it."""
    audience: tuple[str, ...]
    factor_ages: tuple[int, int] | None
    """Minutes since the first and the second factor were verified; -1: never."""
    actor: Actor | None
    plans: tuple[str, ...]
    """With their scopes: `o:team`, `u:pro`."""
    features: tuple[str, ...]
    """With their scopes: `o:dashboard`."""
    payload: str
    """The signed JSON, unchanged; row-level security reads it as `request.jwt.claims`."""

    def has_plan(self, question: str) -> bool:
        """Tells whether the token names a plan: `user:pro`, or `org:team` of the active organization.

        Raises ValueError for a question without a scope.
        """
        return self._holds(self.plans, question)

    def has_feature(self, question: str) -> bool:
        """Tells whether the token names a feature; spelled as the plans, with the same error."""
        return self._holds(self.features, question)

    def _holds(self, elements: tuple[str, ...], question: str) -> bool:
        # A session with a task left to do (pending) is signed out, as in Clerk's own libraries.
        is_signed_in = self.session_status in {None, "active"}
        return holds(elements if is_signed_in else (), question, in_organization=self.organization is not None)


def session_claims(payload: bytes) -> Claims:
    """Read the claims of a Clerk session token, version 1 or 2. Raises TokenRejected for a missing or bad claim."""
    said = decode_object(payload)
    version = _version(said)
    return _claims(
        said, payload, version=version, session_id=_id(said, "sid", _SESSION), issuer=_required_text(said, "iss")
    )


def legacy_claims(payload: bytes) -> Claims:
    """Read the claims of a token made by Clerk's former JWT template for Supabase. Raises TokenRejected as above."""
    said = decode_object(payload)
    return _claims(said, payload, version="legacy", session_id=None, issuer=_text(said, "iss"))


def is_id(value: str, prefix: str) -> bool:
    """Tells whether a text is an id of Clerk: opaque but for its prefix.

    Blanks and control characters would mislead logs and comparisons.
    """
    plain = value.isascii() and value.isprintable() and " " not in value
    return plain and len(prefix) < len(value) <= _LONGEST_ID and value.startswith(prefix)


def decode_object(data: bytes) -> dict[str, Any]:
    """A JSON object. Raises TokenRejected."""
    try:
        value = msgspec.json.decode(data)
    except (ValueError, RecursionError) as error:
        # Not chained into the message: the cause may quote the token.
        raise TokenRejected(Rejection.MALFORMED, "a part of the token is not JSON") from error
    if not isinstance(value, dict):
        raise TokenRejected(Rejection.MALFORMED, "a part of the token is not a JSON object")
    return value


def _claims(
    said: Mapping[str, Any], payload: bytes, *, version: Version, session_id: str | None, issuer: str | None
) -> Claims:
    is_v2 = version == "v2"
    features = scoped(_text(said, "fea"), "fea") if is_v2 else ()
    return Claims(
        version=version,
        user_id=_id(said, "sub", _USER),
        session_id=session_id,
        session_status=_text(said, "sts"),
        issuer=issuer,
        authorized_party=_text(said, "azp"),
        issued_at=_required_time(said, "iat"),
        not_before=_time(said, "nbf"),
        expires_at=_required_time(said, "exp"),
        organization=_organization_v2(said, features) if is_v2 else _organization_v1(said),
        role=_text(said, "role"),
        audience=_audience(said),
        factor_ages=_factor_ages(said),
        actor=_actor(said),
        plans=scoped(_text(said, "pla"), "pla") if is_v2 else (),
        features=features,
        payload=payload.decode(),
    )


def _version(said: Mapping[str, Any]) -> Version:
    version = said.get("v")
    if version is None or (version == 1 and version is not True):
        return "v1"
    if version == 2:
        return "v2"
    raise TokenRejected(Rejection.VERSION, "the token's version is neither 1 nor 2")


def _organization_v1(said: Mapping[str, Any]) -> Organization | None:
    organization_id = _text(said, "org_id")
    if organization_id is None:
        return None
    permissions = _texts(said.get("org_permissions"), "org_permissions")
    return Organization(organization_id, _text(said, "org_slug"), _role(_text(said, "org_role")), permissions)


def _organization_v2(said: Mapping[str, Any], features: tuple[str, ...]) -> Organization | None:
    organization = said.get("o")
    if organization is None:
        return None
    if not isinstance(organization, dict):
        raise _malformed("o")
    permissions = granted(features, _text(organization, "per"), _text(organization, "fpm"))
    slug, role = _text(organization, "slg"), _role(_text(organization, "rol"))
    return Organization(_required_text(organization, "id"), slug, role, permissions)


def _role(role: str | None) -> str | None:
    # Version 2 leaves the prefix out, and so did the oldest version 1 tokens (`admin`).
    return None if role is None else f"org:{role.removeprefix('org:')}"


def _actor(said: Mapping[str, Any]) -> Actor | None:
    actor = said.get("act")
    if actor is None:
        return None
    # A malformed `act` must not pass for a missing `act`: that would hide an impersonation.
    if not isinstance(actor, dict):
        raise _malformed("act")
    return Actor(_required_text(actor, "sub"), _text(actor, "sid"), _text(actor, "iss"), _text(actor, "type"))


def _factor_ages(said: Mapping[str, Any]) -> tuple[int, int] | None:
    ages = said.get("fva")
    if ages is None:
        return None
    if not (isinstance(ages, list) and len(ages) == 2 and all(type(age) is int for age in ages)):
        raise _malformed("fva")
    return ages[0], ages[1]


def _audience(said: Mapping[str, Any]) -> tuple[str, ...]:
    audience = said.get("aud")
    return (audience,) if isinstance(audience, str) else _texts(audience, "aud")


def _id(said: Mapping[str, Any], name: str, prefix: str) -> str:
    value = _required_text(said, name)
    if value.startswith(_MACHINE):
        raise TokenRejected(Rejection.MACHINE, "the token belongs to a machine, not to a user")
    if not is_id(value, prefix):
        raise TokenRejected(Rejection.CLAIM_MALFORMED, f"the claim {name} is not an id that begins with {prefix}")
    return value


def _text(said: Mapping[str, Any], name: str) -> str | None:
    """The text of a claim; `None` if the claim is missing, null or empty."""
    value = said.get(name)
    if value is not None and not isinstance(value, str):
        raise _malformed(name)
    return value or None


def _required_text(said: Mapping[str, Any], name: str) -> str:
    value = _text(said, name)
    if value is None:
        raise _missing(name)
    return value


def _texts(value: object, name: str) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(element, str) for element in value):
        raise _malformed(name)
    return tuple(value)


def _time(said: Mapping[str, Any], name: str) -> int | None:
    """The moment in a claim, in seconds since 1970; `None` for a missing claim only. Null fails, as in Clerk."""
    if name not in said:
        return None
    value = said[name]
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < _LATEST_TIME:
        raise _malformed(name)
    return int(value)


def _required_time(said: Mapping[str, Any], name: str) -> int:
    value = _time(said, name)
    if value is None:
        raise _missing(name)
    return value


def _missing(name: str) -> TokenRejected:
    return TokenRejected(Rejection.CLAIM_MISSING, f"the claim {name} is missing")


def _malformed(name: str) -> TokenRejected:
    return TokenRejected(Rejection.CLAIM_MALFORMED, f"the claim {name} is malformed")
