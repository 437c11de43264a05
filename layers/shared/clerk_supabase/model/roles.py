"""The roles of an instance of Clerk and their permissions, and the rows of their tables.

Source of the field names: https://github.com/clerk/openapi-specs (webhooks/2025-04-15, bapi/2026-05-12).
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import BeforeValidator, Field

from clerk_supabase.model.clerk_object import (
    EMPTY_LIST,
    LONGEST_INDEXED,
    ClerkObject,
    Columns,
    Flag,
    Id,
    Lenient,
    Text,
    timestamp,
)
from clerk_supabase.model.facts import Kind
from clerk_supabase.model.organizations import spell_role

_Key = Annotated[str, Field(max_length=LONGEST_INDEXED)] | None
_RoleKey = Annotated[_Key, BeforeValidator(spell_role)]


class Permission(ClerkObject):
    """Clerk's Permission. Its type is free text: `system` or `user` today, `custom` in Clerk's own examples."""

    kind: ClassVar[Kind] = "permission"

    key: _Key = None
    name: Text = None
    description: Text = None
    type: Text = None

    def columns(self) -> Columns:
        """The row of the table permissions."""
        return {
            "clerk_permission_id": self.id,
            "key": self.key,
            "name": self.name,
            "description": self.description,
            "type": self.type,
            "created_at": timestamp(self.created_at),
        }


class _EmbeddedPermission(Lenient):
    """A permission inside a role."""

    id: Id
    key: Text = None


class OrganizationRole(ClerkObject):
    """Clerk's Role. Clerk documents no event of the role when a permission gets another key: the ids stay true."""

    kind: ClassVar[Kind] = "role"

    key: _RoleKey = None
    name: Text = None
    description: Text = None
    is_creator_eligible: Flag = False
    permissions: Annotated[list[_EmbeddedPermission], EMPTY_LIST] = []

    def columns(self) -> Columns:
        """The row of the table roles. The permissions stand in the order of their ids: Clerk's order means nothing."""
        held = sorted({each.id: each.key for each in self.permissions}.items())
        return {
            "clerk_role_id": self.id,
            "key": self.key,
            "name": self.name,
            "description": self.description,
            "is_creator_eligible": self.is_creator_eligible,
            "permissions": [key for _, key in held if key is not None],
            "permission_ids": [object_id for object_id, _ in held],
            "created_at": timestamp(self.created_at),
        }
