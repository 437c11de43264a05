"""Clerk's organizations, memberships, invitations and domains, and the rows of their tables.

Webhooks and Clerk's Backend API send the same objects.
Source of the field names: https://github.com/clerk/openapi-specs (webhooks/2025-04-15, bapi/2026-05-12).
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import BeforeValidator, Field

from clerk_supabase.model.clerk_object import (
    EMPTY_LIST,
    ClerkObject,
    ClientFlag,
    ClientKey,
    ClientText,
    Columns,
    Flag,
    Id,
    Lenient,
    Metadata,
    Milliseconds,
    Text,
    Verdict,
    Verification,
    is_verified,
    timestamp,
)
from clerk_supabase.model.facts import Kind
from clerk_supabase.model.users import User

# Names of roles from before custom roles; old deliveries still carry these names.
_OLD_ROLES = {"admin": "org:admin", "basic_member": "org:member"}


def spell_role(role: object) -> object:
    """The role as Clerk spells it today, with `org:`."""
    if not isinstance(role, str):
        return role
    return _OLD_ROLES.get(role, role if role.startswith("org:") else f"org:{role}")


Role = Annotated[str, BeforeValidator(spell_role)]


class Organization(ClerkObject):
    """Clerk's Organization: the fields with a column. The counts of members change without an event and stay out."""

    kind: ClassVar[Kind] = "organization"

    name: ClientText = None
    slug: ClientKey = None
    image_url: ClientText = None
    has_image: ClientFlag = False
    public_metadata: Metadata = {}
    max_allowed_memberships: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    admin_delete_enabled: Flag = False
    created_by: Text = None

    def columns(self) -> Columns:
        """The row of the table organizations."""
        return {
            "clerk_org_id": self.id,
            "name": self.name,
            "slug": self.slug,
            "image_url": self.image_url,
            "has_image": self.has_image,
            "public_metadata": self.public_metadata,
            "max_allowed_memberships": self.max_allowed_memberships,
            "admin_delete_enabled": self.admin_delete_enabled,
            "created_by": self.created_by,
            "created_at": timestamp(self.created_at),
        }


class EmbeddedOrganization(Organization):
    """An organization inside another object; only its id is certain."""

    updated_at: Milliseconds = 0


class PublicUserData(Lenient):
    """The fields of the user in a membership."""

    user_id: Id
    username: ClientKey = None
    first_name: ClientText = None
    last_name: ClientText = None
    image_url: ClientText = None
    has_image: ClientFlag = False
    banned: Verdict = False
    deprovisioned: Verdict = False


class Membership(ClerkObject):
    """Clerk's OrganizationMembership. Its own id is its identity: a user who joins again gets another id."""

    kind: ClassVar[Kind] = "membership"

    role: Role
    role_name: ClientText = None
    permissions: Annotated[list[str], EMPTY_LIST] = []
    public_metadata: Metadata = {}
    organization: EmbeddedOrganization
    public_user_data: PublicUserData

    def columns(self) -> Columns:
        """The row of the table organization_memberships."""
        return {
            "clerk_membership_id": self.id,
            "clerk_org_id": self.organization.id,
            "clerk_user_id": self.public_user_data.user_id,
            "role": self.role,
            "role_name": self.role_name,
            "permissions": self.permissions,
            "public_metadata": self.public_metadata,
            "created_at": timestamp(self.created_at),
        }

    def parents(self) -> tuple[ClerkObject, ...]:
        """The organization, and the user without the fields that a membership lacks, such as e-mail addresses."""
        known = self.public_user_data
        user = User.stub(
            id=known.user_id,
            updated_at=self.updated_at,
            username=known.username,
            first_name=known.first_name,
            last_name=known.last_name,
            image_url=known.image_url,
            has_image=known.has_image,
            banned=known.banned,
            deprovisioned=known.deprovisioned,
        )
        return self.organization, user


class PublicInviterData(Lenient):
    """The user who sent an invitation."""

    user_id: Text = None


class Invitation(ClerkObject):
    """Clerk's OrganizationInvitation, without its `url`: anybody with the link may join."""

    kind: ClassVar[Kind] = "invitation"

    organization_id: Id
    email_address: ClientText = None
    role: Role
    role_name: ClientText = None
    status: Text = None
    inviter_id: Text = None
    public_inviter_data: PublicInviterData | None = None
    user_id: Text = None
    public_metadata: Metadata = {}
    expires_at: Milliseconds | None = None

    def columns(self) -> Columns:
        """The row of the table organization_invitations."""
        return {
            "clerk_invitation_id": self.id,
            "clerk_org_id": self.organization_id,
            "email_address": self.email_address,
            "role": self.role,
            "role_name": self.role_name,
            "status": self.status,
            # Not every answer of Clerk has both fields.
            "inviter_id": self.inviter_id or (self.public_inviter_data and self.public_inviter_data.user_id),
            "accepted_by": self.user_id,
            "public_metadata": self.public_metadata,
            "expires_at": timestamp(self.expires_at),
            "created_at": timestamp(self.created_at),
        }

    def told_by_api(self, observed_at: int) -> tuple[Invitation, int]:
        """The invitation as of a moment. The version of an accepted invitation has no moment.

        The API does not name the user who accepted an invitation. So the webhook of the same state wins, in any order
        of arrival.
        """
        found = self.at(observed_at)
        return found, 0 if found.status == "accepted" else observed_at

    def at(self, moment: int) -> Invitation:
        """The invitation as of a moment: a pending invitation has expired from `expires_at` on."""
        if self.status == "pending" and self.expires_at is not None and self.expires_at <= moment:
            return self.model_copy(update={"status": "expired"})
        return self

    def parents(self) -> tuple[ClerkObject, ...]:
        """The organization, of which only the id is known."""
        return (EmbeddedOrganization(id=self.organization_id),)


class Domain(ClerkObject):
    """Clerk's OrganizationDomain. `verification` is an older name of `affiliation_verification`."""

    kind: ClassVar[Kind] = "domain"

    organization_id: Id
    name: ClientText = None
    enrollment_mode: Text = None
    affiliation_email_address: ClientText = None
    affiliation_verification: Verification | None = None
    ownership_verification: Verification | None = None
    verification: Verification | None = None

    def columns(self) -> Columns:
        """The row of the table organization_domains."""
        return {
            "clerk_domain_id": self.id,
            "clerk_org_id": self.organization_id,
            "name": self.name,
            "enrollment_mode": self.enrollment_mode,
            "affiliation_email_address": self.affiliation_email_address,
            "affiliation_verified": is_verified(self.affiliation_verification or self.verification),
            "ownership_verified": is_verified(self.ownership_verification),
            "created_at": timestamp(self.created_at),
        }

    def parents(self) -> tuple[ClerkObject, ...]:
        """The organization, of which only the id is known."""
        return (EmbeddedOrganization(id=self.organization_id),)
