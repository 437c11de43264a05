"""A kind that an app adds, and that reconcile compares: Clerk's sets of roles, of which Clerk sends no events."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from clerk_supabase.model.facts import Facts, Kind

if TYPE_CHECKING:
    from clerk_supabase.model.clerk_object import ClerkObject

FACTS = Facts(
    kind="role_set",
    write_order=9002,
    plural="role sets",
    table="public.role_sets",
    key="clerk_role_set_id",
    event="roleSet",
    verbs=(),
    list_path="/role_sets",
    again_path="/role_sets/{id}",
    is_read_by_id=True,
)


def model() -> type[ClerkObject]:
    """The model of a set of roles."""
    from clerk_supabase.model.clerk_object import ClerkObject, Columns, Text, timestamp

    class RoleSet(ClerkObject):
        """The mirrored part of Clerk's RoleSet."""

        kind: ClassVar[Kind] = FACTS.kind

        key: Text = None
        name: Text = None
        description: Text = None

        def columns(self) -> Columns:
            """The row of public.role_sets."""
            return {
                "clerk_role_set_id": self.id,
                "key": self.key,
                "name": self.name,
                "description": self.description,
                "created_at": timestamp(self.created_at),
            }

    return RoleSet
