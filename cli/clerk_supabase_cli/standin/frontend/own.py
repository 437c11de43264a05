"""The objects of the signed-in user: profile, memberships, and the organizations that the user creates."""

from __future__ import annotations

from typing import Final

from clerk_supabase_cli.standin.backend.rejections import not_found
from clerk_supabase_cli.standin.frontend import shapes
from clerk_supabase_cli.standin.frontend.visits import Routes, Visit
from clerk_supabase_cli.standin.samples import Json

_EDITABLE: Final = ("first_name", "last_name", "username")


def show(visit: Visit) -> Json:
    """The user."""
    user_id = visit.client.the_session().user_id
    user = visit.people.user(user_id)
    if user is None:
        raise not_found()
    return shapes.user_of_frontend(user, visit.people.memberships(user_id))


def update(visit: Visit) -> Json:
    """Changes names."""
    user_id = visit.client.the_session().user_id
    visit.people.rename(user_id, {name: visit.form[name] or None for name in _EDITABLE if name in visit.form})
    return show(visit)


def memberships(visit: Visit) -> Json:
    """The organizations of the user."""
    return shapes.page(
        [shapes.membership(each) for each in visit.people.memberships(visit.client.the_session().user_id)]
    )


def nothing(visit: Visit) -> Json:
    """An empty list: the stand-in sends no invitations and makes no suggestions."""
    visit.client.the_session()
    return shapes.page([])


def found_organization(visit: Visit) -> Json:
    """Creates an organization with the user as its administrator."""
    user_id = visit.client.the_session().user_id
    made = visit.people.found_organization(user_id, visit.form.get("name", ""))
    return shapes.organization(made)


ROUTES: Final[Routes] = {
    ("GET", "/v1/me"): show,
    ("PATCH", "/v1/me"): update,
    ("GET", "/v1/me/organization_memberships"): memberships,
    ("GET", "/v1/me/organization_invitations"): nothing,
    ("GET", "/v1/me/organization_suggestions"): nothing,
    ("POST", "/v1/organizations"): found_organization,
}
