"""Objects of every kind that Clerk lists."""

from __future__ import annotations

from typing import Final

from clerk_supabase.model.facts import Kind
from clerk_supabase.model.found_kinds import ENCLOSED_KINDS, FACTS, LIST_KINDS
from clerk_supabase_cli.standin.access import objects
from clerk_supabase_cli.standin.worlds import World
from tests.kit.kinds import OURS

PATHS: Final[dict[Kind, str]] = {
    "user": "/users",
    **{kind: FACTS[kind].list_path for kind in LIST_KINDS if kind in OURS},
    **{kind: FACTS[kind].enclosing_path for kind in ENCLOSED_KINDS if kind in OURS},
}
"""The paths of the lists that comparisons read, by kind."""


def fill_every_list(world: World, objects_of_each: int = 4) -> None:
    """Makes objects of every kind that Clerk lists, in an instance with users."""
    organization = world.create_organization({})
    for user_id in world.users:
        world.add_membership(organization["id"], user_id, role="org:member")
    for number in range(objects_of_each):
        world.invite()
        world.add_domain()
        world.bill()
        times = {"created_at": world.now, "updated_at": world.now}
        permission = objects.permission(f"perm_{number}", f"org:reports:{number}", **times)
        world.others["permission"][f"perm_{number}"] = permission
        role = objects.role(f"role_{number}", f"org:r{number}", [permission], **times)
        world.others["role"][f"role_{number}"] = role
        entry = objects.waitlist_entry(f"wle_{number}", f"{number}@example.test", **times)
        world.others["waitlist_entry"][f"wle_{number}"] = entry
