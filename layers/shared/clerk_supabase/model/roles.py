"""The roles of an instance of Clerk and their permissions, and the rows of their tables.

Source of the field names: https://github.com/clerk/openapi-specs (webhooks/2025-04-15, bapi/2026-05-12).
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import BeforeValidator, Field

from clerk_supabase.model.clerk_object import (
    EMPTY_LIST,
    LONGEST_INDEXED,
    MISSING_TEXT,
    Columns,
    Key,
    Lenient,
    Loss,
    Name,
    OptionalId,
    TolerantObject,
    YesOrNo,
    timestamp,
)
from clerk_supabase.model.facts import Kind
from clerk_supabase.model.organizations import spell_role

_RoleKey = Annotated[
    Annotated[str, Field(max_length=LONGEST_INDEXED)] | None, BeforeValidator(spell_role), MISSING_TEXT, Loss.odd
]


class Permission(TolerantObject):
    """Clerk's Permission. Its type is free text: `system` or `user` today, `custom` in Clerk's own examples."""

    kind: ClassVar[Kind] = "permission"

    key: Key = None
    name: Name = None
    description: Name = None
    type: Name = None

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

    id: OptionalId = None
    key: Name = None


class OrganizationRole(TolerantObject):
    """Clerk's Role. Clerk documents no event of the role when a permission gets another key: the ids stay true."""

    kind: ClassVar[Kind] = "role"

    key: _RoleKey = None
    name: Name = None
    description: Name = None
    is_creator_eligible: YesOrNo = False
    permissions: Annotated[list[_EmbeddedPermission], EMPTY_LIST, Loss.odd] = []

    def columns(self) -> Columns:
        """The row of the table roles. The permissions stand in the order of their ids: Clerk's order means nothing."""
        by_name = {each.id or each.key: each for each in self.permissions}
        held = [by_name[name] for name in sorted(filter(None, by_name))]
        return {
            "clerk_role_id": self.id,
            "key": self.key,
            "name": self.name,
            "description": self.description,
            "is_creator_eligible": self.is_creator_eligible,
            "permissions": [each.key for each in held if each.key],
            "permission_ids": [each.id for each in held if each.id],
            "created_at": timestamp(self.created_at),
        }
