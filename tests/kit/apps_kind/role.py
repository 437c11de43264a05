"""A kind that an app adds to the checkout, and that reconcile compares: Clerk's roles of organizations."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from clerk_supabase.model.facts import Facts, Kind

if TYPE_CHECKING:
    from clerk_supabase.model.clerk_object import ClerkObject

FACTS = Facts(
    kind="role",
    write_order=9002,
    plural="roles",
    table="public.roles",
    key="clerk_role_id",
    event="role",
    list_path="/organization_roles",
    again_path="/organization_roles/{id}",
    is_read_by_id=True,
)


def model() -> type[ClerkObject]:
    """The model of a role."""
    from clerk_supabase.model.clerk_object import ClerkObject, Columns, Text, timestamp

    class OrganizationRole(ClerkObject):
        """The mirrored part of Clerk's Role."""

        kind: ClassVar[Kind] = FACTS.kind

        key: Text = None
        name: Text = None
        description: Text = None

        def columns(self) -> Columns:
            """The row of public.roles."""
            return {
                "clerk_role_id": self.id,
                "key": self.key,
                "name": self.name,
                "description": self.description,
                "created_at": timestamp(self.created_at),
            }

    return OrganizationRole
