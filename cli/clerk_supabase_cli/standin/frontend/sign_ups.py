"""The attempts of new users to sign up, with an e-mail address, a password and a code."""

from __future__ import annotations

import secrets
from typing import Final

from clerk_supabase_cli.standin.backend.rejections import Rejection, not_found
from clerk_supabase_cli.standin.frontend import shapes
from clerk_supabase_cli.standin.frontend.clients import Attempt
from clerk_supabase_cli.standin.frontend.visits import Routes, Visit
from clerk_supabase_cli.standin.samples import Json

_FIELDS: Final = ("email_address", "first_name", "last_name")
_SHORTEST_PASSWORD: Final = 8


def create(visit: Visit) -> Json:
    """Begins with the values that the person has entered."""
    attempt = Attempt(f"sua_{secrets.token_hex(13)}")
    _enter(visit, attempt)
    visit.client.sign_up = attempt
    return shapes.sign_up(attempt)


def update(visit: Visit, attempt_id: str) -> Json:
    """Takes more values."""
    attempt = _of(visit, attempt_id)
    _enter(visit, attempt)
    return shapes.sign_up(attempt)


def prepare_verification(visit: Visit, attempt_id: str) -> Json:
    """Sends a code; nobody needs to read the e-mail."""
    attempt = _of(visit, attempt_id)
    attempt.has_code = True
    return shapes.sign_up(attempt)


def attempt_verification(visit: Visit, attempt_id: str) -> Json:
    """Checks the code; then the user exists and is signed in."""
    attempt = _of(visit, attempt_id)
    visit.check_code(attempt)
    missing = shapes.sign_up(attempt)["missing_fields"]
    if missing:
        raise Rejection(422, "form_param_missing", f"Enter {missing[0]}.", missing[0])
    _check_address(visit, attempt.fields["email_address"])
    attempt.user = visit.people.sign_up(dict(attempt.fields), attempt.password)
    attempt.session_id = visit.client.begin(attempt.user["id"]).id
    return shapes.sign_up(attempt)


def _enter(visit: Visit, attempt: Attempt) -> None:
    entered = {name: visit.form[name] for name in _FIELDS if visit.form.get(name)}
    if "email_address" in entered:
        _check_address(visit, entered["email_address"])
    password = visit.form.get("password")
    if password and len(password) < _SHORTEST_PASSWORD:
        message = f"Passwords must be {_SHORTEST_PASSWORD} characters or more."
        raise Rejection(422, "form_password_length_too_short", message, "password")
    attempt.fields |= entered
    attempt.password = password or attempt.password


def _check_address(visit: Visit, address: str) -> None:
    if "@" not in address:
        raise Rejection(422, "form_param_format_invalid", "Enter an e-mail address.", "email_address")
    if visit.people.is_taken(address):
        raise Rejection(422, "form_identifier_exists", "That email address is taken.", "email_address")


def _of(visit: Visit, attempt_id: str) -> Attempt:
    attempt = visit.client.sign_up
    if attempt is None or attempt.id != attempt_id:
        raise not_found()
    return attempt


ROUTES: Final[Routes] = {
    ("POST", "/v1/client/sign_ups"): create,
    ("PATCH", "/v1/client/sign_ups/{id}"): update,
    ("POST", "/v1/client/sign_ups/{id}/prepare_verification"): prepare_verification,
    ("POST", "/v1/client/sign_ups/{id}/attempt_verification"): attempt_verification,
}
