"""The users and organizations of a made-up instance, as the pages of an app see and change them."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from clerk_supabase.tokens.claims import Organization
from clerk_supabase_cli.standin.backend.rejections import Rejection
from clerk_supabase_cli.standin.instance.instance import Instance
from clerk_supabase_cli.standin.instance.webhooks import NO_FAULTS, DeliveryFaults
from clerk_supabase_cli.standin.samples import Json


@dataclass(slots=True)
class People:
    """Looks up users and organizations, and signs users up."""

    instance: Instance
    faults: DeliveryFaults = NO_FAULTS
    """Faults of the webhooks about changes that pages make."""
    _passwords: dict[str, str] = field(default_factory=dict)
    _tickets: dict[str, str] = field(default_factory=dict)

    def user(self, user_id: str) -> Json | None:
        """The user; None for a user without sessions: deleted, banned or deprovisioned."""
        with self.instance.lock:
            user = self.instance.world.users.get(user_id)
        return None if user is None or user["banned"] or user["deprovisioned"] else user

    def by_address(self, address: str) -> Json:
        """The user with this e-mail address or username. Raises Rejection."""
        wanted = address.strip().lower()
        with self.instance.lock:
            for user in self.instance.world.users.values():
                if wanted in {*_addresses(user), (user["username"] or "").lower()}:
                    return user
        raise Rejection(422, "form_identifier_not_found", "Couldn't find your account.", "identifier")

    def is_taken(self, address: str) -> bool:
        """Tells whether a user has this e-mail address."""
        with self.instance.lock:
            return any(address.strip().lower() in _addresses(user) for user in self.instance.world.users.values())

    def sign_up(self, fields: Json, password: str) -> Json:
        """A new user with a verified e-mail address."""
        with self.instance.operating(self.faults):
            user = self.instance.create_user(**fields)
        self._passwords[user["id"]] = password
        return user

    def rename(self, user_id: str, names: Json) -> None:
        """Changes names of a user."""
        with self.instance.operating(self.faults):
            self.instance.update_user(user_id, **names)

    # Ways to sign in

    def password(self, user_id: str) -> str:
        """The password; empty for a user who signs in with a code: nobody has chosen a password on a page."""
        return self._passwords.get(user_id, "")

    def new_ticket(self, user_id: str) -> str:
        """A ticket, with which the user signs in once."""
        ticket = secrets.token_urlsafe(16)
        self._tickets[ticket] = user_id
        return ticket

    def use_ticket(self, ticket: str) -> Json | None:
        """The user of a ticket; None for a ticket that is unknown or used."""
        return self.user(self._tickets.pop(ticket, ""))

    # Organizations

    def memberships(self, user_id: str) -> list[Json]:
        """The memberships of a user, oldest first."""
        with self.instance.lock:
            memberships = list(self.instance.world.memberships.values())
        theirs = [each for each in memberships if each["public_user_data"]["user_id"] == user_id]
        return sorted(theirs, key=lambda each: int(each["created_at"]))

    def organization_in_token(self, user_id: str, organization_id: str | None) -> Organization | None:
        """The organization as a token names it; None without a membership."""
        found = self.instance.membership(organization_id, user_id) if organization_id else None
        if found is None:
            return None
        organization = found["organization"]
        return Organization(organization["id"], organization["slug"], found["role"], tuple(found["permissions"]))

    def found_organization(self, user_id: str, name: str) -> Json:
        """A new organization whose administrator is this user."""
        if not name.strip():
            raise Rejection(422, "form_param_nil", "Enter a name.", "name")
        with self.instance.operating(self.faults):
            return self.instance.create_organization(name.strip(), created_by=user_id)


def _addresses(user: Json) -> set[str]:
    return {str(each["email_address"]).lower() for each in user["email_addresses"]}
