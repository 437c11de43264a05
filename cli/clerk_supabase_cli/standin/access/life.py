"""Random changes of permissions, roles, the waitlist and sessions in a made-up world, with Clerk's events."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from clerk_supabase.model.facts import Kind
from clerk_supabase_cli.standin.access import objects
from clerk_supabase_cli.standin.samples import Json

if TYPE_CHECKING:
    from clerk_supabase_cli.standin.worlds import World

_FEATURES: Final = ("reports", "invoices")


def happenings(world: World) -> Mapping[Callable[[], None], int]:
    """The possible changes, each with its weight."""
    life = _Life(world)
    return {
        life.add_permission: 1,
        life.rename_permission: 1,
        life.delete_permission: 1,
        life.add_role: 1,
        life.change_role: 1,
        life.delete_role: 1,
        life.join_waitlist: 1,
        life.answer_waitlist: 1,
        life.drop_waitlist_entry: 1,
        life.begin_session: 2,
        life.end_session: 1,
    }


class _Life:
    """The changes of one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._permissions, self._roles, self._entries, self._sessions = (
            world.others[kind] for kind in ("permission", "role", "waitlist_entry", "session")
        )

    def _change(self, kind: Kind, verb: str, changes: Json) -> None:
        objects_of_kind = self._world.others[kind]
        if (object_id := self._world.any_of(objects_of_kind)) is not None:
            self._world.put(kind, verb, objects_of_kind[object_id] | changes | {"updated_at": self._world.tick()})

    # Permissions and roles

    def add_permission(self) -> None:
        key = f"org:{self._world.chance.choice(_FEATURES)}:{self._world.chance.choice(('read', 'manage'))}"
        permission_id, times = self._world.made_now("perm")
        self._world.put("permission", "created", objects.permission(permission_id, key, **times))

    def rename_permission(self) -> None:
        """Gives a permission another key. Roles keep their copies until their next event: the harder case is played."""
        name = self._world.chance.choice("XYZ")
        self._change("permission", "updated", {"name": name, "key": f"org:reports:{name.lower()}"})

    def delete_permission(self) -> None:
        if (permission_id := self._world.any_of(self._permissions)) is not None:
            self._world.drop("permission", permission_id)

    def add_role(self) -> None:
        key = self._world.chance.choice(("org:editor", "org:viewer", "viewer"))
        role_id, times = self._world.made_now("role")
        self._world.put("role", "created", objects.role(role_id, key, self._some_permissions(), **times))

    def change_role(self) -> None:
        name = self._world.chance.choice("XYZ")
        self._change("role", "updated", {"name": name, "permissions": self._some_permissions()})

    def delete_role(self) -> None:
        if (role_id := self._world.any_of(self._roles)) is not None:
            self._world.drop("role", role_id)

    def _some_permissions(self) -> list[Json]:
        there = list(self._permissions.values())
        return self._world.chance.sample(there, self._world.chance.randint(0, len(there)))

    # The waitlist

    def join_waitlist(self) -> None:
        entry_id, times = self._world.made_now("wle")
        address = f"guest.{self._world.chance.choice('abc')}@example.test"
        self._world.put("waitlist_entry", "created", objects.waitlist_entry(entry_id, address, **times))

    def answer_waitlist(self) -> None:
        status = self._world.chance.choice(("invited", "completed", "rejected"))
        self._change("waitlist_entry", "updated", {"status": status})

    def drop_waitlist_entry(self) -> None:
        """Deletes a pending entry, of which Clerk sends no event."""
        pending = {key: each for key, each in self._entries.items() if each["status"] == "pending"}
        if (entry_id := self._world.any_of(pending)) is not None:
            self._world.drop("waitlist_entry", entry_id, is_told=False)

    # Sessions

    def begin_session(self) -> None:
        if (user_id := self._world.any_of(self._world.users)) is None:
            return
        session_id, times = self._world.made_now("sess")
        made = objects.session(session_id, self._world.users[user_id], **times)
        verb, status = self._world.chance.choice((("created", "active"), ("pending", "pending")))
        user = self._world.chance.choice((made["user"], None))
        self._world.put("session", verb, made | {"status": status, "user": user})

    def end_session(self) -> None:
        verb = self._world.chance.choice(("ended", "removed", "revoked"))
        self._change("session", verb, {"status": verb})
