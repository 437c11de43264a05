"""The users and organizations of a made-up world, as the pages of an app sign in and write to the world."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from clerk_supabase.tokens.claims import Organization
from clerk_supabase_cli.standin import samples
from clerk_supabase_cli.standin.answers import Answers
from clerk_supabase_cli.standin.rejections import Rejection, not_found
from clerk_supabase_cli.standin.samples import Json
from clerk_supabase_cli.standin.worlds import World


def _keep(_: list[Json]) -> None:
    """Leaves new events in the world."""


@dataclass(slots=True)
class People:
    """Looks up users and organizations, and signs users up."""

    answers: Answers
    """The Backend API of the same world."""
    tell: Callable[[list[Json]], None] = _keep
    """Called with the events of each change, oldest first, after the change."""
    passwords: dict[str, str] = field(default_factory=dict)
    """By the id of the user. A user without a password signs in with a code."""
    tickets: dict[str, str] = field(default_factory=dict)
    """The ids of the users who may sign in once without anything else, by their tickets."""

    @contextmanager
    def writing(self) -> Iterator[World]:
        """Lends the world for a change; its events are told at the end."""
        with self.answers.lock:
            world = self.answers.world
            before = len(world.events)
            yield world
            new = world.events[before:]
        self.tell(new)

    def user(self, user_id: str) -> Json | None:
        """The user, unless Clerk would end the user's sessions: after a delete, a ban or a deprovisioning."""
        with self.answers.lock:
            user = self.answers.world.users.get(user_id)
        return None if user is None or user["banned"] or user["deprovisioned"] else user

    def by_address(self, address: str) -> Json:
        """The user with this e-mail address or username. Raises Rejection."""
        wanted = address.strip().lower()
        with self.answers.lock:
            for user in self.answers.world.users.values():
                if wanted in {*_addresses(user), (user["username"] or "").lower()}:
                    return user
        raise Rejection(422, "form_identifier_not_found", "Couldn't find your account.", "identifier")

    def is_taken(self, address: str) -> bool:
        """Tells whether a user has this e-mail address."""
        with self.answers.lock:
            return any(address.strip().lower() in _addresses(user) for user in self.answers.world.users.values())

    def sign_up(self, fields: Json, password: str) -> Json:
        """A new user with a verified e-mail address."""
        with self.writing() as world:
            address = samples.email_address(f"idn_{len(world.users)}", fields.pop("email_address"), world.now)
            names = {"first_name": None, "last_name": None} | fields
            user = world.create_user({"email_addresses": [address], "primary_email_address_id": address["id"], **names})
        if password:
            self.passwords[user["id"]] = password
        return user

    def memberships(self, user_id: str) -> list[Json]:
        """The memberships of a user, oldest first."""
        with self.answers.lock:
            found = [
                each
                for each in self.answers.world.memberships.values()
                if each["public_user_data"]["user_id"] == user_id
            ]
        return sorted(found, key=lambda each: int(each["created_at"]))

    def organization_in_token(self, user_id: str, organization_id: str | None) -> Organization | None:
        """The organization as a token names it; None without a membership."""
        for each in self.memberships(user_id):
            if organization_id and each["organization"]["id"] == organization_id:
                slug = each["organization"]["slug"]
                return Organization(organization_id, slug, each["role"], tuple(each["permissions"]))
        return None

    def found_organization(self, user_id: str, name: str, slug: str | None) -> Json:
        """A new organization whose administrator is this user."""
        if not name.strip():
            raise Rejection(422, "form_param_nil", "Enter a name.", "name")
        with self.writing() as world:
            fields = {
                "name": name.strip(),
                "created_by": user_id,
                "slug": slug or name.strip().lower().replace(" ", "-"),
            }
            organization = world.create_organization(fields)
            world.add_membership(organization["id"], user_id, role="org:admin")
        return organization

    def rename(self, user_id: str, fields: Json) -> Json:
        """The user after a change of the names."""
        if self.user(user_id) is None:
            raise not_found()
        with self.writing() as world:
            return world.update("user", user_id, fields)


def _addresses(user: Json) -> set[str]:
    return {str(each["email_address"]).lower() for each in user["email_addresses"]}
