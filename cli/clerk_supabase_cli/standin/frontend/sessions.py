"""The sessions of a browser: the active organization, fresh tokens, and the sign-out."""

from __future__ import annotations

from typing import Final

from clerk_supabase_cli.standin.backend.rejections import Rejection, not_found
from clerk_supabase_cli.standin.frontend import shapes
from clerk_supabase_cli.standin.frontend.visits import Routes, Visit
from clerk_supabase_cli.standin.samples import Json


def touch(visit: Visit, session_id: str) -> Json:
    """Makes an organization active, or none."""
    session = visit.client.session(session_id)
    wanted = visit.form.get("active_organization_id")
    if wanted:
        if visit.people.organization_in_token(session.user_id, wanted) is None:
            raise Rejection(404, "resource_not_found", "You are not a member of this organization.")
        session.organization_id = wanted
    elif wanted is not None:
        session.organization_id = None
    return visit.session_json(session)


def token(visit: Visit, session_id: str) -> Json:
    """A new token; the page may have switched the organization meanwhile."""
    session = visit.client.session(session_id)
    if visit.people.user(session.user_id) is None:
        raise not_found()
    if "organization_id" in visit.form:
        session.organization_id = visit.form["organization_id"] or None
    return shapes.token_of(visit.token(session))


def end(visit: Visit, session_id: str) -> Json:
    """Signs the user out."""
    ended = visit.session_json(visit.client.session(session_id))
    visit.client.end()
    return ended | {"status": "removed"}


def end_all(visit: Visit) -> Json:
    """Signs the browser out."""
    visit.client.end()
    return visit.client_json()


ROUTES: Final[Routes] = {
    ("POST", "/v1/client/sessions/{id}/touch"): touch,
    ("POST", "/v1/client/sessions/{id}/tokens"): token,
    ("POST", "/v1/client/sessions/{id}/end"): end,
    ("POST", "/v1/client/sessions/{id}/remove"): end,
    ("DELETE", "/v1/client/sessions"): end_all,
}
