"""Random operations on an instance: people sign up, change, join, leave, subscribe, and are banned or deleted."""

from __future__ import annotations

from random import Random
from typing import Final

from clerk_supabase_cli.standin.instance.beginning import ADA, LABS
from clerk_supabase_cli.standin.instance.instance import Instance
from clerk_supabase_cli.standin.samples import Json

_NAMES: Final = ("Ada", "Grace", "Alan", "Radia", "Edsger", "Barbara", "Margaret", "Ken", "Frances", "Tim")
_ROLES: Final = ("org:member", "org:editor", "org:admin")
# The commands that `make dev` and the documents print name these two: nobody bans or deletes them.
_KEPT: Final = frozenset({ADA, LABS})
# Below these numbers nobody is deleted, so that there is always somebody to play with.
_FEWEST_USERS: Final = 4
_FEWEST_ORGANIZATIONS: Final = 2


class Play:
    """A player of an instance. Operations that are impossible at a moment are replaced by a sign-up."""

    def __init__(self, instance: Instance, chance: Random | None = None) -> None:
        self._instance = instance
        self._chance = chance or Random()  # noqa: S311 - made-up people, not secrets

    def once(self) -> tuple[str, Json]:
        """Does a random operation; returns its name, and the object."""
        weights = {
            self._sign_up: 4,
            self._change: 5,
            self._sign_in: 2,
            self._ban_or_unban: 1,
            self._delete_user: 1,
            self._create_organization: 1,
            self._delete_organization: 1,
            self._join: 4,
            self._change_role: 2,
            self._leave: 2,
            self._invite: 1,
            self._accept: 1,
            self._subscribe: 1,
        }
        with self._instance.lock:
            [operation] = self._chance.choices(list(weights), list(weights.values()))
            return operation() or self._sign_up()

    def _sign_up(self) -> tuple[str, Json]:
        name = self._chance.choice(_NAMES)
        address = f"{name.lower()}.{self._chance.randrange(10**9):09}@example.test"
        return "create_user", self._instance.create_user(email_address=address, first_name=name, last_name="Example")

    def _change(self) -> tuple[str, Json] | None:
        if (user := self._user()) is None:
            return None
        changes: Json = self._chance.choice(
            [{"first_name": self._chance.choice(_NAMES)}, {"public_metadata": {"plan": self._chance.choice("abc")}}]
        )
        return "update_user", self._instance.update_user(user, **changes)

    def _sign_in(self) -> tuple[str, Json] | None:
        return None if (user := self._user()) is None else ("sign_in", self._instance.sign_in(user))

    def _ban_or_unban(self) -> tuple[str, Json] | None:
        banned = self._any([key for key, each in self._instance.world.users.items() if each.get("banned")])
        if banned is not None and self._chance.random() < 0.5:
            return "unban_user", self._instance.unban_user(banned)
        return None if (user := self._other_user()) is None else ("ban_user", self._instance.ban_user(user))

    def _delete_user(self) -> tuple[str, Json] | None:
        user = self._other_user()
        if user is None or len(self._instance.world.users) <= _FEWEST_USERS:
            return None
        return "delete_user", self._instance.delete_user(user)

    def _create_organization(self) -> tuple[str, Json] | None:
        if (user := self._user()) is None:
            return None
        name = f"{self._chance.choice(_NAMES)} {self._chance.choice(('Labs', 'Works', 'Club'))}"
        return "create_organization", self._instance.create_organization(name, created_by=user)

    def _delete_organization(self) -> tuple[str, Json] | None:
        org = self._any([key for key in self._instance.world.organizations if key not in _KEPT])
        if org is None or len(self._instance.world.organizations) <= _FEWEST_ORGANIZATIONS:
            return None
        return "delete_organization", self._instance.delete_organization(org)

    def _join(self) -> tuple[str, Json] | None:
        org, user = self._organization(), self._user()
        if org is None or user is None or self._instance.membership(org, user):
            return None
        return "add_member", self._instance.add_member(org, user, role=self._chance.choice(_ROLES))

    def _change_role(self) -> tuple[str, Json] | None:
        if (pair := self._member()) is None:
            return None
        return "change_role", self._instance.change_role(*pair, self._chance.choice(_ROLES))

    def _leave(self) -> tuple[str, Json] | None:
        return None if (pair := self._member()) is None else ("remove_member", self._instance.remove_member(*pair))

    def _invite(self) -> tuple[str, Json] | None:
        if (org := self._organization()) is None:
            return None
        address = f"guest.{self._chance.randrange(10**9):09}@example.test"
        return "invite", self._instance.invite(org, address)

    def _accept(self) -> tuple[str, Json] | None:
        user = self._user()
        pending = [
            key
            for key, each in self._instance.world.invitations.items()
            if each["status"] == "pending" and user and not self._instance.membership(each["organization_id"], user)
        ]
        if user is None or not pending:
            return None
        return "accept_invitation", self._instance.accept_invitation(self._chance.choice(pending), user)

    def _subscribe(self) -> tuple[str, Json] | None:
        org = self._organization()
        payer = org if org is not None and self._chance.random() < 0.5 else self._user()
        if payer is None:
            return None
        plans = self._instance.plans.of("org" if payer.startswith("org_") else "user")
        return "entitle", self._instance.entitle(payer, plan=self._chance.choice(plans).slug)

    def _user(self) -> str | None:
        return self._any(list(self._instance.world.users))

    def _other_user(self) -> str | None:
        return self._any([key for key in self._instance.world.users if key not in _KEPT])

    def _organization(self) -> str | None:
        return self._any(list(self._instance.world.organizations))

    def _member(self) -> tuple[str, str] | None:
        if (key := self._any(list(self._instance.world.memberships))) is None:
            return None
        membership = self._instance.world.memberships[key]
        return membership["organization"]["id"], membership["public_user_data"]["user_id"]

    def _any(self, ids: list[str]) -> str | None:
        return self._chance.choice(ids) if ids else None
