"""A small world of Clerk users and organizations with random changes: its events, and its present state."""

from __future__ import annotations

from collections.abc import Collection, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final

from msgspec import Raw

from clerk_supabase.model.facts import Kind
from clerk_supabase.model.found_kinds import FACTS
from clerk_supabase_cli.standin import samples
from clerk_supabase_cli.standin.access import life
from clerk_supabase_cli.standin.billing.checkout import Checkout
from clerk_supabase_cli.standin.billing.life import KINDS as BILLING_KINDS
from clerk_supabase_cli.standin.billing.life import Billing, Payer
from clerk_supabase_cli.standin.billing.objects import PLANS, feature, plan_of_api
from clerk_supabase_cli.standin.population import BEGINNING, Population
from clerk_supabase_cli.standin.samples import Json

# Milliseconds between two changes; 0 on purpose: Clerk may write twice within a millisecond.
_STEPS: Final = (0, 0, 0, 1, 7, 1_000, 60_000)
OTHER_KINDS: Final = tuple(
    kind for kind in FACTS if kind not in {"user", "organization", "membership", "invitation", "domain", *BILLING_KINDS}
)
"""The kinds without a field of World of their own, and kinds that an app has added."""


@dataclass(slots=True)
class World:
    """The present users, organizations, memberships, invitations and domains of Clerk, by id."""

    chance: Random
    name: str
    """Part of every id, without an x, so that worlds in the same database share no object."""
    users: Population = field(default_factory=Population)
    organizations: dict[str, Json] = field(default_factory=dict)
    memberships: MutableMapping[str, Json] = field(default_factory=dict)
    invitations: dict[str, Json] = field(default_factory=dict)
    domains: dict[str, Json] = field(default_factory=dict)
    billing: Billing = field(default_factory=Billing)
    others: dict[Kind, dict[str, Json]] = field(default_factory=lambda: {kind: {} for kind in OTHER_KINDS})
    """Objects of these kinds, by kind and id."""
    events: list[Json] = field(default_factory=list)
    """All events so far, oldest first."""
    now: int = BEGINNING
    """Clerk's clock, in milliseconds."""
    odd_values: Sequence[Raw | str] = samples.UNSTORABLE
    """Values that users sometimes write into their own fields."""
    _made: int = 0

    def live(self, happenings: int) -> None:
        """Signs up a user, then makes random changes."""
        self.sign_up()
        verbs = {
            self.sign_up: 2,
            self.sign_in: 3,
            self.edit_user: 3,
            self.found_organization: 2,
            self.edit_organization: 2,
            self.join: 5,
            self.change_role: 3,
            self.leave: 3,
            self.invite: 1,
            self.answer_invitation: 1,
            self.add_domain: 1,
            self.verify_domain: 1,
            self.remove_domain: 1,
            self.delete_user: 2,
            self.delete_organization: 1,
            **life.happenings(self),
            self.bill: 4,
            self.change_plan: 1,
        }
        for happening in self.chance.choices(list(verbs), list(verbs.values()), k=happenings):
            happening()

    def objects(self) -> dict[Kind, Mapping[str, Json]]:
        """The present objects, by kind and id."""
        return {
            "user": self.users,
            "organization": self.organizations,
            "membership": self.memberships,
            "invitation": self.invitations,
            "domain": self.domains,
            **self.billing.objects(),
            **self.others,
        }

    def children_of(self, ids: Collection[str]) -> set[str]:
        """Ids of the memberships, invitations, domains, sessions and subscriptions of these users and organizations."""
        members = {key for key, each in self.memberships.items() if {_org_of(each), _user_of(each)} & {*ids}}
        of_organizations = (*self.invitations.items(), *self.domains.items())
        sessions = {key for key, each in self.others["session"].items() if each["user_id"] in ids}
        of_organization = {key for key, each in of_organizations if each["organization_id"] in ids}
        return members | sessions | of_organization | self.billing.children_of(ids)

    # For changes of objects of any kind

    def put(self, kind: Kind, verb: str, content: Json) -> Json:
        """Stores an object, and sends the event about it."""
        self.objects()[kind][content["id"]] = content  # type: ignore[index]  # read-only to others
        self._send(f"{FACTS[kind].event}.{verb}", content)
        return content

    def drop(self, kind: Kind, object_id: str, *, is_told: bool = True) -> None:
        """Deletes an object of another kind; sends the event about it, if Clerk sends one."""
        del self.others[kind][object_id]
        self._tick()
        if is_told:
            self._send(f"{FACTS[kind].event}.deleted", samples.deleted(kind, object_id))

    def made_now(self, prefix: str) -> tuple[str, dict[str, int]]:
        """A new id, and the times of a new object."""
        now = self._tick()
        return self._new_id(prefix), {"created_at": now, "updated_at": now}

    def tick(self) -> int:
        """The moment of the next change."""
        return self._tick()

    def any_of(self, objects: Mapping[str, Json]) -> str | None:
        """A random id; None without objects."""
        return self._any(objects)

    # Users

    def create_user(self, fields: Json) -> Json:
        """Signs up a user with these fields of Clerk's object."""
        now = self._tick()
        user = samples.user(self._new_id("user"), created_at=now, updated_at=now) | fields
        self.users[user["id"]] = user
        self._send("user.created", user)
        return user

    def update(self, kind: Kind, object_id: str, changes: Json) -> Json:
        """Changes whole fields of an object of any kind except invitations and those of Billing."""
        objects, event_type = self._editable()[kind], FACTS[kind].whole
        objects[object_id] = objects[object_id] | changes | {"updated_at": self._tick()}
        self._send(event_type, objects[object_id])
        return objects[object_id]

    def remove_user(self, user_id: str) -> None:
        """Deletes a user with all memberships."""
        del self.users[user_id]
        self.billing.drop(self.billing.children_of({user_id}))
        self._tick()
        self._send("user.deleted", samples.deleted("user", user_id))
        self._drop_memberships({key for key, each in self.memberships.items() if _user_of(each) == user_id})
        for session_id in self.children_of({user_id}):
            del self.others["session"][session_id]

    def sign_up(self) -> None:
        now = self._tick()
        # The e-mail address of a former user may return with a new user id.
        address = samples.email_address("idn_1", f"{self.chance.choice('abc')}@example.test", now)
        user = samples.user(
            self._new_id("user"),
            created_at=now,
            updated_at=now,
            email_addresses=[address],
            primary_email_address_id="idn_1",
        )
        self.users[user["id"]] = user
        self._send("user.created", user)

    def sign_in(self) -> None:
        """Signs in a user: only times of the user change."""
        self._edit(self.users, "user.updated", {"last_sign_in_at": self.now})

    def edit_user(self) -> None:
        changes: Json = self.chance.choice(
            [
                {"first_name": self.chance.choice("ABC"), "username": self.chance.choice(("ada", None))},
                {
                    "public_metadata": {"plan": self.chance.randrange(3)},
                    "private_metadata": {"note": "x"},
                    "enterprise_accounts": [samples.enterprise_account(1, "a@example.test", self.now)],
                },
                {"email_addresses": [], "primary_email_address_id": None, "enterprise_accounts": []},
                {self.chance.choice(("banned", "deprovisioned")): self.chance.random() < 0.5},
                # An odd value of the user must not prevent the ban.
                {"banned": self.chance.random() < 0.5, "unsafe_metadata": {"x": self._odd()}},
                {"banned": self.chance.random() < 0.5, "last_name": self._odd()},
            ]
        )
        self._edit(self.users, "user.updated", changes)

    def delete_user(self) -> None:
        user_id = self._any(self.users)
        if user_id is not None:
            self.remove_user(user_id)

    # Organizations

    def create_organization(self, fields: Json) -> Json:
        """Creates an organization without members, with these fields of Clerk's object."""
        now = self._tick()
        organization = samples.organization(self._new_id("org"), created_at=now, updated_at=now) | fields
        self.organizations[organization["id"]] = organization
        self._send("organization.created", organization)
        return organization

    def remove_organization(self, org_id: str) -> None:
        """Deletes an organization with its memberships, invitations and domains."""
        del self.organizations[org_id]
        self.billing.drop(self.billing.children_of({org_id}))
        self._tick()
        self._send("organization.deleted", samples.deleted("organization", org_id))
        self._drop_memberships({key for key, each in self.memberships.items() if _org_of(each) == org_id})
        for objects in (self.invitations, self.domains):
            for object_id in [key for key, each in objects.items() if each["organization_id"] == org_id]:
                del objects[object_id]

    def found_organization(self) -> None:
        organization = self.create_organization({})
        if self.users:
            self.add_membership(organization["id"], self.chance.choice(list(self.users)), role="org:admin")

    def edit_organization(self) -> None:
        name = self.chance.choice((*"XYZ", self._odd()))
        self._edit(self.organizations, "organization.updated", {"name": name})

    def delete_organization(self) -> None:
        org_id = self._any(self.organizations)
        if org_id is not None:
            self.remove_organization(org_id)

    # Memberships

    def add_membership(self, org_id: str, user_id: str, *, role: str) -> Json:
        """Makes the user a member of the organization."""
        now = self._tick()
        membership = samples.membership(
            self._new_id("orgmem"),
            self.organizations[org_id],
            self.users[user_id],
            created_at=now,
            updated_at=now,
            role=role,
        )
        self.memberships[membership["id"]] = membership
        self._send("organizationMembership.created", membership)
        return membership

    def remove_membership(self, membership_id: str) -> None:
        """Removes a membership; Clerk sends the whole object, with the old `updated_at`."""
        self._tick()
        self._send("organizationMembership.deleted", self.memberships.pop(membership_id))

    def join(self) -> None:
        org_id, user_id = self._any(self.organizations), self._any(self.users)
        taken = {(_org_of(each), _user_of(each)) for each in self.memberships.values()}
        if org_id is not None and user_id is not None and (org_id, user_id) not in taken:
            self.add_membership(org_id, user_id, role=self.chance.choice(("org:member", "org:editor", "basic_member")))

    def change_role(self) -> None:
        manages = {"role": "org:owner", "permissions": ["org:sys_memberships:manage", "org:sys_domains:read"]}
        changes: Json = self.chance.choice([{"role": "admin"}, {"role": "org:x"}, manages])
        self._edit(self.memberships, "organizationMembership.updated", changes)

    def leave(self) -> None:
        membership_id = self._any(self.memberships)
        if membership_id is not None:
            self.remove_membership(membership_id)

    # Invitations and domains

    def invite(self, org_id: str | None = None) -> None:
        """Invites a person to this organization, or to a random organization."""
        org_id = org_id or self._any(self.organizations)
        if org_id is not None:
            now = self._tick()
            invitation = samples.invitation(self._new_id("orginv"), org_id, created_at=now, updated_at=now)
            self.invitations[invitation["id"]] = invitation
            self._send("organizationInvitation.created", invitation)

    def answer_invitation(self) -> None:
        status = self.chance.choice(("accepted", "revoked"))
        invitation_id = self._any(self.invitations)
        if invitation_id is not None:
            invitation = self.invitations[invitation_id]
            # Nobody answers in the millisecond in which the invitation is made.
            self.now = max(self.now, invitation["updated_at"] + 1)
            self.invitations[invitation_id] = invitation | {"status": status, "updated_at": self._tick()}
            self._send(f"organizationInvitation.{status}", self.invitations[invitation_id])

    def add_domain(self) -> None:
        org_id = self._any(self.organizations)
        if org_id is not None:
            now = self._tick()
            domain = samples.domain(self._new_id("orgdmn"), org_id, created_at=now, updated_at=now)
            self.domains[domain["id"]] = domain
            self._send("organizationDomain.created", domain)

    def verify_domain(self) -> None:
        verification = samples.domain_verification(self.now)
        self._edit(self.domains, "organizationDomain.updated", {"affiliation_verification": verification})

    def remove_domain(self) -> None:
        domain_id = self._any(self.domains)
        if domain_id is not None:
            self.drop_domain(domain_id)

    def drop_domain(self, domain_id: str) -> None:
        """Deletes a domain."""
        del self.domains[domain_id]
        self._tick()
        self._send("organizationDomain.deleted", samples.deleted("organization_domain", domain_id))

    # Billing

    def sell_plans(self) -> None:
        """Makes the plans of the instance. Clerk sends no event about a plan."""
        self.others["plan"] |= {plan.id: plan_of_api(plan) for plan in PLANS.values()}

    def checkout(self) -> Checkout:
        """The checkout at which a payer of this world takes a plan."""
        return Checkout(self.billing, self._tick, self._new_id, self._send)

    def change_plan(self) -> None:
        """Adds a feature to a plan, or removes a feature."""
        if (plan_id := self._any(self.others["plan"])) is not None:
            plan = self.others["plan"][plan_id]
            kept = [each for each in plan["features"] if self.chance.random() < 0.5]
            self._tick()
            self.others["plan"][plan_id] = plan | {"features": kept or [feature("search")]}

    def bill(self) -> None:
        """Changes the subscription of a random user or organization. Before the first change, there are no plans."""
        if not self.others["plan"]:
            self.sell_plans()
        user_id = self._any(self.users) or ""
        org_id = (self._any(self.organizations) or "") if self.chance.random() < 0.5 else ""
        if user_id or org_id:
            payer = Payer(self.billing, self.chance, self._tick, self._new_id, self._send)
            payer.live(user_id="" if org_id else user_id, org_id=org_id)

    # Events

    def _editable(self) -> dict[Kind, MutableMapping[str, Json]]:
        return {
            "user": self.users,
            "organization": self.organizations,
            "membership": self.memberships,
            "domain": self.domains,
            **self.others,
        }

    def _edit(self, objects: MutableMapping[str, Json], event_type: str, changes: Json) -> None:
        object_id = self._any(objects)
        if object_id is not None:
            objects[object_id] = objects[object_id] | changes | {"updated_at": self._tick()}
            self._send(event_type, objects[object_id])

    def _drop_memberships(self, gone: set[str]) -> None:
        """Removes memberships, at random with or without an event for each: Clerk's behaviour is not documented."""
        told = self.chance.random() < 0.5
        for membership_id in sorted(gone):
            membership = self.memberships.pop(membership_id)
            if told:
                self._send("organizationMembership.deleted", membership)

    def _send(self, event_type: str, data: Json) -> None:
        # The envelope's clock: a little later than the object's, or in whole seconds.
        timestamp = self.chance.choice((self.now, self.now, self.now + 3, self.now // 1_000))
        self.events.append(samples.event(event_type, data, timestamp=timestamp))

    def _odd(self) -> Raw | str:
        return self.chance.choice(self.odd_values)

    def _tick(self) -> int:
        self.now += self.chance.choice(_STEPS)
        return self.now

    def _new_id(self, prefix: str) -> str:
        self._made += 1
        return f"{prefix}_{self.name}x{self._made}"

    def _any(self, objects: Mapping[str, Json]) -> str | None:
        return self.chance.choice(list(objects)) if objects else None


def _org_of(membership: Json) -> str:
    return str(membership["organization"]["id"])


def _user_of(membership: Json) -> str:
    return str(membership["public_user_data"]["user_id"])
