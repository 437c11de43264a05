"""A world whose clock is the clock of this machine, whose ids have Clerk's form, and whose events are handed on."""

from __future__ import annotations

import secrets
import string
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from clerk_supabase.model.found_kinds import FACTS
from clerk_supabase_cli.standin import samples
from clerk_supabase_cli.standin.billing.life import KINDS as BILLING_KINDS
from clerk_supabase_cli.standin.population import Population
from clerk_supabase_cli.standin.samples import Json
from clerk_supabase_cli.standin.worlds import World

_BASE62: Final = string.digits + string.ascii_letters
_RANDOM_DIGITS: Final = 26
_KINDS: Final = {facts.event: kind for kind, facts in FACTS.items()}
"""The kind of an object, by the family of the events about the object."""


def milliseconds_now() -> int:
    """The time of this machine, in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def new_id(prefix: str) -> str:
    """A new id in Clerk's form: a prefix, the digit 2, and 26 random digits and letters."""
    return f"{prefix}_2{''.join(secrets.choice(_BASE62) for _ in range(_RANDOM_DIGITS))}"


def _to_nobody(event: Json) -> None:
    """Drops an event."""


@dataclass(slots=True)
class LiveWorld(World):
    """The world of an instance that a developer plays with."""

    chance: Random = field(default_factory=Random)
    name: str = ""
    clock: Callable[[], int] = milliseconds_now
    on_event: Callable[[Json], object] = _to_nobody
    """Called with each event, right after the change."""
    ids: Callable[[str], str] = new_id
    """Makes the ids of new objects, each from a prefix."""
    deleted: set[str] = field(default_factory=set)
    """Ids of deleted objects: Clerk uses no id again."""

    def __post_init__(self) -> None:
        self.now = self.clock()

    def copy(self) -> LiveWorld:
        """A copy, which later changes of this world do not reach."""
        users = Population()
        users.update(self.users)
        return LiveWorld(
            users=users,
            organizations=dict(self.organizations),
            memberships=dict(self.memberships),
            invitations=dict(self.invitations),
            domains=dict(self.domains),
            billing=self.billing.copy(),
            others={kind: dict(objects) for kind, objects in self.others.items()},
            deleted=set(self.deleted),
        )

    def learn(self, event: Json) -> bool:
        """Changes the world as an event of Clerk's says, and sends no event. Returns False for an event of no object.

        An unknown organization or user of the object comes along, as far as the event describes them.
        """
        family, _, verb = str(event["type"]).partition(".")
        kind = _KINDS.get(family, "")
        # Clerk's API shows no object of a kind that only webhooks tell of.
        objects: Any = self.objects().get(kind)
        if objects is None:
            return False
        data = event["data"]
        self.now = max(self.now, min(event["timestamp"], self.clock()))
        if verb == "deleted":
            self._unlearn(data["id"])
        else:
            self._learn_parents(data)
            if kind in BILLING_KINDS:
                self.billing.learn(kind, data)
            else:
                # Only events of sessions show the user, too.
                objects[data["id"]] = {name: each for name, each in data.items() if name != "user"}
        return True

    def _unlearn(self, object_id: str) -> None:
        gone = self.children_of({object_id}) | {object_id}
        for objects in self.objects().values():
            for key in gone & set(objects):
                del objects[key]  # type: ignore[attr-defined]
        self.deleted |= gone

    def _learn_parents(self, data: Json) -> None:
        described = data.get("organization") or {"id": data.get("organization_id")}
        payer = data.get("payer") or {}
        org_id = described["id"] or payer.get("organization_id")
        member = data.get("public_user_data") or payer
        moment = data.get("created_at", self.now)
        made = {"created_at": moment, "updated_at": moment}
        if org_id and org_id not in self.organizations and org_id not in self.deleted:
            self.organizations[org_id] = samples.organization(org_id, **made) | described | {"id": org_id}
        if isinstance(user := data.get("user"), dict) and user.get("id") not in {*self.users, *self.deleted}:
            self.users[user["id"]] = user
        # The user of a session may be missing in the event.
        user_id = member.get("user_id") or (data.get("user_id") if data.get("object") == "session" else None)
        if user_id and user_id not in self.users and user_id not in self.deleted:
            names = {key: member[key] for key in ("first_name", "last_name", "username") if key in member}
            self.users[user_id] = samples.user(user_id, **made, **names)

    # Instead of the simulator's random choices

    def _tick(self) -> int:
        # At least a millisecond after the change before, so that versions rise.
        self.now = max(self.now + 1, self.clock())
        return self.now

    def _new_id(self, prefix: str) -> str:
        return self.ids(prefix)

    def _send(self, event_type: str, data: Json) -> None:
        if event_type.endswith(".deleted"):
            self.deleted.add(data["id"])
        self.on_event(samples.event(event_type, data, timestamp=self.now))

    def _drop_memberships(self, gone: set[str]) -> None:
        # Clerk's documents promise no event for each of these memberships: the harder case is played.
        for membership_id in gone:
            del self.memberships[membership_id]
        self.deleted |= gone
