"""The attempts of users to sign in: with a password, a code, or a ticket of the Backend API."""

from __future__ import annotations

import secrets
from typing import Final

from clerk_supabase_cli.standin.backend.rejections import Rejection, not_found
from clerk_supabase_cli.standin.frontend import shapes
from clerk_supabase_cli.standin.frontend.clients import Attempt
from clerk_supabase_cli.standin.frontend.visits import Routes, Visit
from clerk_supabase_cli.standin.samples import Json


def create(visit: Visit) -> Json:
    """Begins with an identifier, a password, or a ticket."""
    attempt = Attempt(f"sia_{secrets.token_hex(13)}")
    visit.client.sign_in = attempt
    form = visit.form
    if form.get("strategy") == "ticket":
        attempt.user = visit.people.use_ticket(form.get("ticket", ""))
        if attempt.user is None:
            raise Rejection(422, "ticket_invalid_code", "The ticket is invalid.", "ticket")
        return _complete(visit, attempt)
    if form.get("identifier"):
        _identify(visit, attempt, form["identifier"])
        if form.get("password"):
            return attempt_first_factor(visit, attempt.id)
    return shapes.sign_in(attempt)


def show(visit: Visit, attempt_id: str) -> Json:
    """The attempt as it is."""
    return shapes.sign_in(_of(visit, attempt_id))


def prepare_first_factor(visit: Visit, attempt_id: str) -> Json:
    """Sends a code; nobody needs to read the e-mail."""
    attempt = _of(visit, attempt_id)
    attempt.has_code = True
    return shapes.sign_in(attempt)


def attempt_first_factor(visit: Visit, attempt_id: str) -> Json:
    """Checks a password or a code."""
    attempt = _of(visit, attempt_id)
    if attempt.user is None:
        raise Rejection(422, "form_identifier_not_found", "Couldn't find your account.", "identifier")
    if visit.form.get("code"):
        visit.check_code(attempt)
    elif not attempt.password or visit.form.get("password") != attempt.password:
        raise Rejection(422, "form_password_incorrect", "Password is incorrect. Try again.", "password")
    return _complete(visit, attempt)


def _identify(visit: Visit, attempt: Attempt, identifier: str) -> None:
    user = visit.people.by_address(identifier)
    if visit.people.user(user["id"]) is None:
        raise Rejection(403, "user_banned", "This account is banned.")
    attempt.fields["identifier"] = identifier
    attempt.user = user
    attempt.password = visit.people.password(user["id"])


def _complete(visit: Visit, attempt: Attempt) -> Json:
    if attempt.user is None:
        raise not_found()
    attempt.session_id = visit.client.begin(attempt.user["id"]).id
    return shapes.sign_in(attempt)


def _of(visit: Visit, attempt_id: str) -> Attempt:
    attempt = visit.client.sign_in
    if attempt is None or attempt.id != attempt_id:
        raise not_found()
    return attempt


ROUTES: Final[Routes] = {
    ("POST", "/v1/client/sign_ins"): create,
    ("GET", "/v1/client/sign_ins/{id}"): show,
    ("POST", "/v1/client/sign_ins/{id}/prepare_first_factor"): prepare_first_factor,
    ("POST", "/v1/client/sign_ins/{id}/attempt_first_factor"): attempt_first_factor,
}
