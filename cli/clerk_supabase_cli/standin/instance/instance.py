"""A made-up Clerk instance: each operation changes what the Backend API answers, and sends Clerk's webhooks."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from clerk_supabase.model.facts import Kind
from clerk_supabase_cli.standin import samples
from clerk_supabase_cli.standin.backend.rejections import Rejection, unprocessable
from clerk_supabase_cli.standin.billing.life import EVENTS as BILLING_EVENTS
from clerk_supabase_cli.standin.billing.life import parent_of
from clerk_supabase_cli.standin.instance.entitlements import Entitlements
from clerk_supabase_cli.standin.instance.lagging_view import LaggingView
from clerk_supabase_cli.standin.instance.live_world import LiveWorld
from clerk_supabase_cli.standin.instance.plans import PayerType, Plans
from clerk_supabase_cli.standin.instance.webhooks import NO_FAULTS, DeliveryFaults, Message, Webhooks
from clerk_supabase_cli.standin.samples import Json
from clerk_supabase_cli.standin.worlds import World

DELETED_BEFORE: Final = "deleted_before"
"""The code for an id of a deleted object."""
_LOCKED_SECONDS: Final = 3600
_DIGITS: Final = 9
_FIELDS: Final = {
    "user": samples.user("user_x", created_at=0, updated_at=0),
    "organization": samples.organization("org_x", created_at=0, updated_at=0),
}
_OWN_FIELDS: Final = {"id", "object", "created_at", "updated_at"}
_ROLE: Final = re.compile(r"org:[a-z0-9_]{1,64}")
_ADDRESS: Final = re.compile(r"[^@\s]{1,64}@[^@\s]{1,190}")


@dataclass(slots=True)
class Instance:
    """Users, organizations, memberships, invitations and domains, and the operations on them.

    Every operation returns an object in Clerk's form, and raises Rejection for an unknown id or a wrong value.
    *webhooks* sends the events about the operations, from the moment at which it has an address.
    """

    world: LiveWorld = field(default_factory=LiveWorld)
    lock: threading.RLock = field(default_factory=threading.RLock)
    """Held during each operation, and during each answer of the Backend API."""
    webhooks: Webhooks = field(default_factory=Webhooks)
    view: LaggingView = field(default_factory=LaggingView)
    """The world as the Backend API shows it."""
    _faults: DeliveryFaults = NO_FAULTS
    _sent: list[Message] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.world.on_event = self._send

    @contextmanager
    def operating(self, faults: DeliveryFaults = NO_FAULTS, *, api_lag: float = 0.0) -> Iterator[list[Message]]:
        """Lends the instance for operations with faults; the list fills with the webhooks that follow.

        *api_lag*: seconds until the Backend API shows the changes.
        """
        with self.lock:
            before = self._faults, self._sent
            self._faults, self._sent = faults, []
            self.view.begin(self.world, api_lag)
            try:
                yield self._sent
            finally:
                self.view.lag = 0.0
                self._faults, self._sent = before

    def seen(self) -> World:
        """The world of the Backend API's answers. The caller holds the lock."""
        return self.view.seen(self.world)

    def learn(self, event: Json) -> bool:
        """Changes the world as the event of another program says. Returns False for an event of no object.

        Raises Rejection for a new event of a deleted object, or of an object with a deleted parent.
        """
        with self.lock:
            gone = _ids_of(event["type"], event["data"]) & self.world.deleted
            if gone and not event["type"].endswith(".deleted"):
                raise Rejection(409, DELETED_BEFORE, f"{min(gone)} was deleted, and Clerk uses no id again")
            is_learned = self.world.learn(event)
            self.view.note(event)
            return is_learned

    def _send(self, event: Json) -> None:
        self.view.note(event)
        message = self.webhooks.send(event, self._faults)
        if message is not None:
            self._sent.append(message)

    # Users

    def create_user(self, *, email_address: str = "", user_id: str = "", **fields: Any) -> Json:
        """Signs up a user; *fields* are fields of Clerk's object, such as first_name. Sends user.created."""
        with self.lock:
            made = self.world.tick()
            user = samples.user(self._unused(user_id, "user"), created_at=made, updated_at=made)
            if email_address:
                self._check_address(email_address)
                address = samples.email_address(self.world.ids("idn"), email_address, made)
                user |= {"email_addresses": [address], "primary_email_address_id": address["id"]}
            return self.world.put("user", "created", user | _known(fields, "user"))

    def update_user(self, user_id: str, **fields: Any) -> Json:
        """Changes these fields of a user. Sends user.updated."""
        return self._update("user", user_id, _known(fields, "user"))

    def ban_user(self, user_id: str) -> Json:
        """Bans a user. Sends user.updated."""
        return self._update("user", user_id, {"banned": True})

    def unban_user(self, user_id: str) -> Json:
        """Lifts a ban. Sends user.updated."""
        return self._update("user", user_id, {"banned": False})

    def lock_user(self, user_id: str) -> Json:
        """Locks a user, as after too many wrong passwords. Sends user.updated."""
        return self._update("user", user_id, {"locked": True, "lockout_expires_in_seconds": _LOCKED_SECONDS})

    def unlock_user(self, user_id: str) -> Json:
        """Unlocks a user. Sends user.updated."""
        return self._update("user", user_id, {"locked": False, "lockout_expires_in_seconds": None})

    def sign_in(self, user_id: str) -> Json:
        """Signs in a user: only times change. Sends user.updated."""
        with self.lock:
            moment = self.world.clock()
            return self._update("user", user_id, {"last_sign_in_at": moment, "last_active_at": moment})

    def delete_user(self, user_id: str) -> Json:
        """Deletes a user with all memberships, and returns Clerk's answer. Sends user.deleted."""
        with self.lock:
            self._check("user", user_id)
            self.world.remove_user(user_id)
            return samples.deleted("user", user_id)

    # Organizations

    def create_organization(self, name: str, *, created_by: str = "", org_id: str = "", **fields: Any) -> Json:
        """Creates an organization. Sends organization.created.

        With *created_by*, a user's id, this user becomes its admin. Sends organizationMembership.created, too.
        """
        with self.lock:
            if created_by:
                self._check("user", created_by)
            made = self.world.tick()
            organization = samples.organization(self._unused(org_id, "org"), created_at=made, updated_at=made)
            organization |= {"name": name, "slug": self._slug(name), "created_by": created_by or None}
            organization |= _known(fields, "organization")
            self.world.put("organization", "created", organization)
            if created_by:
                self.add_member(organization["id"], created_by, role="org:admin")
            return organization

    def update_organization(self, org_id: str, **fields: Any) -> Json:
        """Changes these fields of an organization. Sends organization.updated."""
        return self._update("organization", org_id, _known(fields, "organization"))

    def delete_organization(self, org_id: str) -> Json:
        """Deletes an organization and all its objects, and returns Clerk's answer. Sends organization.deleted."""
        with self.lock:
            self._check("organization", org_id)
            self.world.remove_organization(org_id)
            return samples.deleted("organization", org_id)

    # Plans and features

    def entitle(self, payer_id: str, *, plan: str = "", features: str = "") -> Json:
        """Subscribes a user or an organization to a plan, or to the cheapest plan with these features, separated by
        commas, or without both to the default plan.

        Sends the events of Billing. Returns the plans and features in the payer's tokens from now on.
        """
        payer_type: PayerType = "org" if payer_id.startswith("org_") else "user"
        with self.lock:
            self._check("organization" if payer_type == "org" else "user", payer_id)
            taken = self.plans.wanted(payer_type, plan, _separated(features))
            self.world.checkout().take(payer_id, taken, self.plans.default(payer_type))
            return {"id": payer_id} | dict(zip(("plans", "features"), self.entitled(payer_id), strict=True))

    def create_plan(self, slug: str, *, payer_type: str, features: str = "", amount: str = "1000") -> Json:
        """Makes a plan for "user" or "org"; *features*: separated by commas; *amount*: cents a month. Sends nothing."""
        if not amount.isdecimal() or len(amount) > _DIGITS or not int(amount):
            raise unprocessable("amount", "must be a number of cents above 0: only the default plan is free")
        with self.lock:
            made = self.plans.create(_payer_type(payer_type), slug, _separated(features), int(amount))
            return self.world.others["plan"][made.id]

    def update_plan(self, slug: str, *, payer_type: str, features: str = "") -> Json:
        """Replaces the features of a plan. Sends nothing."""
        with self.lock:
            changed = self.plans.update(_payer_type(payer_type), slug, _separated(features))
            return self.world.others["plan"][changed.id]

    @property
    def plans(self) -> Plans:
        """The plans of the instance. The caller holds the lock."""
        return Plans(self.world)

    def entitled(self, payer_id: str) -> tuple[list[str], list[str]]:
        """The plans and the features of a payer, as session tokens spell these: `o:team`."""
        with self.lock:
            found = Entitlements(self.world)
            return found.plans_of(payer_id), found.features_of(payer_id)

    # Memberships

    def add_member(self, org_id: str, user_id: str, *, role: str = "org:member") -> Json:
        """Makes a user a member of an organization. Sends organizationMembership.created."""
        with self.lock:
            organization, user = self._check("organization", org_id), self._check("user", user_id)
            if self.membership(org_id, user_id):
                raise Rejection(400, "already_a_member_in_organization", f"{user_id} is a member of {org_id} already")
            made = self.world.tick()
            membership = samples.membership(
                self.world.ids("orgmem"), organization, user, created_at=made, updated_at=made, **_of_role(role)
            )
            return self.world.put("membership", "created", membership)

    def change_role(self, org_id: str, user_id: str, role: str) -> Json:
        """Gives a member another role. Sends organizationMembership.updated."""
        with self.lock:
            return self._update("membership", self._member(org_id, user_id)["id"], _of_role(role))

    def remove_member(self, org_id: str, user_id: str) -> Json:
        """Removes a member, and returns the whole membership. Sends organizationMembership.deleted."""
        with self.lock:
            membership = self._member(org_id, user_id)
            self.world.remove_membership(membership["id"])
            return membership

    def membership(self, org_id: str, user_id: str) -> Json | None:
        """The membership of a user in an organization; None for a user who is no member."""
        with self.lock:
            for each in self.world.memberships.values():
                if (each["organization"]["id"], each["public_user_data"]["user_id"]) == (org_id, user_id):
                    return each
            return None

    # Invitations and domains

    def invite(self, org_id: str, email_address: str, *, role: str = "org:member", invitation_id: str = "") -> Json:
        """Invites a person. Sends organizationInvitation.created."""
        with self.lock:
            self._check("organization", org_id)
            made = self.world.tick()
            invitation = samples.invitation(
                self._unused(invitation_id, "orginv"),
                org_id,
                created_at=made,
                updated_at=made,
                email_address=_address(email_address),
            )
            return self.world.put("invitation", "created", invitation | _of_role(role, permissions=False))

    def accept_invitation(self, invitation_id: str, user_id: str) -> Json:
        """Accepts an invitation for a user, who becomes a member.

        Sends organizationInvitation.accepted and organizationMembership.created.
        """
        with self.lock:
            self._check("user", user_id)
            invitation = self._answer(invitation_id, "accepted") | {"user_id": user_id}
            self.world.put("invitation", "accepted", invitation)
            self.add_member(invitation["organization_id"], user_id, role=invitation["role"])
            return invitation

    def revoke_invitation(self, invitation_id: str) -> Json:
        """Revokes an invitation. Sends organizationInvitation.revoked."""
        with self.lock:
            return self.world.put("invitation", "revoked", self._answer(invitation_id, "revoked"))

    def add_domain(self, org_id: str, name: str) -> Json:
        """Adds an unverified domain to an organization. Sends organizationDomain.created."""
        with self.lock:
            self._check("organization", org_id)
            made = self.world.tick()
            domain = samples.domain(self.world.ids("orgdmn"), org_id, created_at=made, updated_at=made, name=name)
            return self.world.put("domain", "created", domain)

    def verify_domain(self, domain_id: str) -> Json:
        """Verifies a domain. Sends organizationDomain.updated."""
        verification = samples.domain_verification(self.world.clock())
        return self._update("domain", domain_id, {"affiliation_verification": verification})

    def delete_domain(self, domain_id: str) -> Json:
        """Deletes a domain, and returns Clerk's answer. Sends organizationDomain.deleted."""
        with self.lock:
            self._check("domain", domain_id)
            self.world.drop_domain(domain_id)
            return samples.deleted("organization_domain", domain_id)

    # Checks and changes

    def _update(self, kind: Kind, object_id: str, changes: Json) -> Json:
        with self.lock:
            self._check(kind, object_id)
            return self.world.update(kind, object_id, changes)

    def _answer(self, invitation_id: str, status: str) -> Json:
        invitation = self._check("invitation", invitation_id)
        if invitation["status"] != "pending":
            raise Rejection(400, "organization_invitation_not_pending", f"{invitation_id} is {invitation['status']}")
        return invitation | {"status": status, "updated_at": self.world.tick()}

    def _check(self, kind: Kind, object_id: str) -> Json:
        """The object. Raises Rejection, also for a deleted object."""
        found = self.world.objects()[kind].get(object_id)
        if found is None:
            why = "was deleted" if object_id in self.world.deleted else "is unknown"
            raise Rejection(404, "resource_not_found", f"{kind} {object_id!r} {why} in the stand-in for Clerk")
        return found

    def _member(self, org_id: str, user_id: str) -> Json:
        self._check("organization", org_id)
        self._check("user", user_id)
        membership = self.membership(org_id, user_id)
        if membership is None:
            raise Rejection(404, "resource_not_found", f"{user_id} is no member of {org_id}")
        return membership

    def _unused(self, object_id: str, prefix: str) -> str:
        """The given id, or a new one. Raises Rejection for an id that was ever used."""
        if not object_id:
            return self.world.ids(prefix)
        if not re.fullmatch(rf"{prefix}_[A-Za-z0-9_-]{{1,250}}", object_id):
            raise unprocessable("id", f"begins with {prefix}_, then come letters, digits, _ and -")
        if object_id in self.world.deleted or any(object_id in each for each in self.world.objects().values()):
            raise unprocessable("id", f"{object_id} was used before, and Clerk uses no id again")
        return object_id

    def _check_address(self, address: str) -> None:
        addresses = (each for user in self.world.users.values() for each in user.get("email_addresses", ()))
        if _address(address) in {each.get("email_address") for each in addresses if isinstance(each, dict)}:
            raise Rejection(422, "form_identifier_exists", f"another user has the address {address}", "email_address")

    def _slug(self, name: str) -> str:
        slug = "-".join(re.findall(r"[a-z0-9]+", name.lower())) or "organization"
        taken = {each.get("slug") for each in self.world.organizations.values()}
        return slug if slug not in taken else f"{slug}-{self.world.now}"


def _ids_of(event_type: str, data: Json) -> set[str]:
    """The ids of an object and its parents. Raises Rejection if a parent is missing."""
    family, _, verb = event_type.partition(".")
    named = [data["id"]]
    try:
        if family == "organizationMembership":
            named += [data["organization"]["id"], data["public_user_data"]["user_id"]]
        elif family == "session":
            named += [data["user_id"]]
        elif family in ("organizationInvitation", "organizationDomain") and verb != "deleted":
            named += [data["organization_id"]]
        elif family in BILLING_EVENTS:
            named += [parent_of(data)]
    except (KeyError, TypeError):
        named += [None]
    if not all(isinstance(each, str) for each in named):
        raise unprocessable("event", "must name the organization and the user of its object")
    return set(named)


def _known(fields: Json, kind: Kind) -> Json:
    """The given fields. Raises Rejection for a field that the object does not have, or with a value of another type."""
    for name, value in fields.items():
        if name not in _FIELDS[kind] or name in _OWN_FIELDS:
            raise unprocessable(name, f"{name} is no field of a {kind} that can be set")
        usual = _FIELDS[kind][name]
        if isinstance(usual, list | dict | bool) and not isinstance(value, type(usual)):
            raise unprocessable(name, f"{name} must be a value such as {usual!r}")
    return fields


def _separated(texts: str) -> list[str]:
    return [each for each in texts.split(",") if each]


def _payer_type(text: str) -> PayerType:
    match text:
        case "user" | "org":
            return text
    raise unprocessable("payer_type", "must be user or org")


def _address(text: str) -> str:
    if not _ADDRESS.fullmatch(text):
        raise unprocessable("email_address", f"{text!r} is no address")
    return text


def _of_role(role: str, *, permissions: bool = True) -> Json:
    """The fields that say a role. Raises Rejection for a role without Clerk's form, `org:...`."""
    if not _ROLE.fullmatch(role):
        raise unprocessable("role", f"{role!r} is no role: org: and small letters, such as org:admin")
    said: Json = {"role": role, "role_name": role.removeprefix("org:").replace("_", " ").capitalize()}
    return said | ({"permissions": samples.system_permissions(role)} if permissions else {})
