"""Synthetic Clerk objects and events, with every field of Clerk's. All people, addresses and numbers are made up.

Source of the field names: https://github.com/clerk/openapi-specs (webhooks/2025-04-15).
"""

from __future__ import annotations

import secrets
from typing import Any, Final

from msgspec import Raw

Json = dict[str, Any]

INSTANCE_ID = "ins_2Local00000000000000000001"

# For `msgspec.json.encode`. Perhaps Clerk stores only some of these values.
UNSTORABLE: Final = tuple(
    map(Raw, (b"1e400", b"9" * 5_000, rb'"\u0000"', rb'"\ud800"', b"[" * 250 + b"]" * 250, b"NaN"))
)
"""JSON values rejected by parsers or by Postgres; any user can write such values."""


def user(user_id: str, *, created_at: int, updated_at: int, **changes: Any) -> Json:
    """A Clerk User who signed up with an e-mail code. Times in milliseconds; `changes` replaces whole fields."""
    name = user_id.removeprefix("user_").lower()
    email_id = f"idn_{name}"
    return {
        "id": user_id,
        "object": "user",
        "external_id": None,
        "primary_email_address_id": email_id,
        "primary_phone_number_id": None,
        "primary_web3_wallet_id": None,
        "username": None,
        "first_name": "Ada",
        "last_name": "Example",
        "locale": "en-GB",
        "profile_image_url": "https://img.example.test/old",
        "image_url": f"https://img.example.test/{name}",
        "has_image": False,
        "public_metadata": {},
        "private_metadata": {},
        "unsafe_metadata": {},
        "email_addresses": [email_address(email_id, f"{name}@example.test", created_at)],
        "phone_numbers": [],
        "web3_wallets": [],
        "passkeys": [],
        "password_enabled": True,
        "two_factor_enabled": False,
        "totp_enabled": False,
        "backup_code_enabled": False,
        "mfa_enabled_at": None,
        "mfa_disabled_at": None,
        "password_last_updated_at": created_at,
        "external_accounts": [],
        "saml_accounts": [],
        "enterprise_accounts": [],
        "last_sign_in_at": None,
        "banned": False,
        "locked": False,
        "deprovisioned": False,
        "lockout_expires_in_seconds": None,
        "verification_attempts_remaining": 100,
        "created_at": created_at,
        "updated_at": updated_at,
        "delete_self_enabled": True,
        "create_organization_enabled": True,
        "create_organizations_limit": None,
        "last_active_at": created_at,
        "legal_accepted_at": None,
        "bypass_client_trust": False,
    } | changes


def email_address(identifier: str, address: str, created_at: int, *, status: str = "verified") -> Json:
    """A Clerk EmailAddress; `status` is the state of its verification."""
    return {
        "id": identifier,
        "object": "email_address",
        "email_address": address,
        "reserved": False,
        "verification": {
            "object": "verification_otp",
            "status": status,
            "strategy": "email_code",
            "attempts": 1,
            "expire_at": created_at + 600_000,
        },
        "linked_to": [],
        "matches_sso_connection": False,
        "created_at": created_at,
        "updated_at": created_at,
    }


def phone_number(identifier: str, number: str, created_at: int, *, status: str = "verified") -> Json:
    """A Clerk PhoneNumber; `status` is the state of its verification."""
    return {
        "id": identifier,
        "object": "phone_number",
        "phone_number": number,
        "reserved_for_second_factor": False,
        "default_second_factor": False,
        "reserved": False,
        "verification": {
            "object": "verification_otp",
            "status": status,
            "strategy": "phone_code",
            "attempts": 1,
            "expire_at": created_at + 600_000,
        },
        "linked_to": [],
        "backup_codes": None,
        "created_at": created_at,
        "updated_at": created_at,
    }


def google_account(number: int, address: str, created_at: int) -> Json:
    """A Clerk ExternalAccount at Google. `number`: Google's number of the person."""
    return {
        "id": f"idn_google_{number}",
        "object": "google_account",
        "external_account_id": f"eac_google_{number}",
        "provider": "oauth_google",
        "identification_id": f"idn_google_{number}",
        "provider_user_id": str(number),
        "approved_scopes": "email openid profile",
        "email_address": address,
        "email_address_verified": True,
        "first_name": "Ada",
        "last_name": "Example",
        "image_url": None,
        "username": None,
        "phone_number": None,
        "public_metadata": {},
        "label": None,
        "created_at": created_at,
        "updated_at": created_at,
        "verification": {
            "object": "verification_oauth",
            "status": "verified",
            "strategy": "oauth_google",
            "attempts": None,
            "expire_at": created_at + 600_000,
        },
    }


def google_account_before_2025(number: int, address: str, created_at: int) -> Json:
    """The account of google_account() in Clerk's form before 2025."""
    today = google_account(number, address, created_at)
    kept = ("id", "object", "approved_scopes", "email_address", "username", "public_metadata", "label", "verification")
    return {name: today[name] for name in kept} | {
        "google_id": today["provider_user_id"],
        "given_name": today["first_name"],
        "family_name": today["last_name"],
        "picture": "https://img.example.test/google",
        "created_at": created_at,
        "updated_at": created_at,
    }


def web3_wallet(identifier: str, address: str, created_at: int) -> Json:
    """A verified Clerk Web3Wallet."""
    return {
        "id": identifier,
        "object": "web3_wallet",
        "web3_wallet": address,
        "verification": {"object": "verification_web3", "status": "verified", "strategy": "web3_metamask_signature"},
        "created_at": created_at,
        "updated_at": created_at,
    }


def enterprise_account(number: int, address: str, created_at: int, *, protocol: str = "saml") -> Json:
    """A Clerk EnterpriseAccount. `number`: the number of the person at the company's identity provider."""
    return {
        "id": f"entacc_{number}",
        "object": "enterprise_account",
        "protocol": protocol,
        "provider": f"{protocol}_custom",
        "active": True,
        "email_address": address,
        "first_name": "Ada",
        "last_name": "Example",
        "provider_user_id": str(number),
        "enterprise_connection_id": "entconn_1",
        "public_metadata": {},
        "verification": {
            "object": f"verification_{protocol}",
            "status": "verified",
            "strategy": protocol,
            "attempts": None,
            "expire_at": created_at + 600_000,
        },
        "enterprise_connection": {"id": "entconn_1", "name": "Example Labs", "domains": ["example.test"]},
        "last_authenticated_at": created_at,
    }


def saml_account(number: int, address: str, created_at: int) -> Json:
    """The account of enterprise_account() in the older form of Clerk's SAMLAccount."""
    today = enterprise_account(number, address, created_at)
    replaced = {"protocol", "enterprise_connection_id", "enterprise_connection"}
    return {name: value for name, value in today.items() if name not in replaced} | {
        "object": "saml_account",
        "saml_connection": today["enterprise_connection"],
    }


def organization(org_id: str, *, created_at: int, updated_at: int, **changes: Any) -> Json:
    """A Clerk Organization. Times in milliseconds; `changes` replaces whole fields."""
    return {
        "id": org_id,
        "object": "organization",
        "name": "Example Labs",
        "slug": org_id.lower().replace("_", "-"),
        "image_url": "https://img.example.test/organization",
        "has_image": False,
        "members_count": 1,
        "missing_member_with_elevated_permissions": False,
        "pending_invitations_count": 0,
        "max_allowed_memberships": 5,
        "admin_delete_enabled": True,
        "public_metadata": {},
        "private_metadata": {},
        "created_by": "user_founder",
        "created_at": created_at,
        "updated_at": updated_at,
        "last_active_at": created_at,
        "role_set_key": None,
    } | changes


def system_permissions(role: str) -> list[str]:
    """Clerk's own permissions of a default role of Clerk's."""
    if role == "org:admin":
        return [
            "org:sys_profile:manage",
            "org:sys_profile:delete",
            "org:sys_memberships:read",
            "org:sys_memberships:manage",
            "org:sys_domains:read",
            "org:sys_domains:manage",
        ]
    return ["org:sys_memberships:read"]


def membership(
    membership_id: str, org: Json, member: Json, *, created_at: int, updated_at: int, **changes: Any
) -> Json:
    """A Clerk OrganizationMembership of a user in an organization, both as objects of this module."""
    return {
        "id": membership_id,
        "object": "organization_membership",
        "role": "org:member",
        "role_name": "Member",
        "permissions": system_permissions(changes.get("role", "org:member")),
        "public_metadata": {},
        "private_metadata": {},
        "organization": org,
        "public_user_data": {
            "user_id": member["id"],
            "first_name": member["first_name"],
            "last_name": member["last_name"],
            "profile_image_url": member["profile_image_url"],
            "image_url": member["image_url"],
            "has_image": member["has_image"],
            "identifier": "someone@example.test",
            "username": member["username"],
            # A user of an older event lacks these fields.
            "banned": member.get("banned", False),
            "deprovisioned": member.get("deprovisioned", False),
        },
        "created_at": created_at,
        "updated_at": updated_at,
    } | changes


def invitation(invitation_id: str, org_id: str, *, created_at: int, updated_at: int, **changes: Any) -> Json:
    """A Clerk OrganizationInvitation, pending."""
    return {
        "id": invitation_id,
        "object": "organization_invitation",
        "email_address": "guest@example.test",
        "role": "org:member",
        "role_name": "Member",
        "organization_id": org_id,
        "inviter_id": "user_founder",
        "public_inviter_data": {
            "user_id": "user_founder",
            "first_name": "Ada",
            "last_name": "Example",
            "image_url": "https://img.example.test/founder",
            "has_image": False,
            "identifier": "founder@example.test",
        },
        "status": "pending",
        "public_metadata": {},
        "private_metadata": {},
        "url": "https://accounts.example.test/invitations/secret",
        "expires_at": created_at + 2_592_000_000,
        "created_at": created_at,
        "updated_at": updated_at,
    } | changes


def domain(domain_id: str, org_id: str, *, created_at: int, updated_at: int, **changes: Any) -> Json:
    """A Clerk OrganizationDomain, unverified."""
    return {
        "id": domain_id,
        "object": "organization_domain",
        "organization_id": org_id,
        "name": "example.test",
        "enrollment_mode": "manual_invitation",
        "affiliation_email_address": None,
        "affiliation_verification": None,
        "ownership_verification": None,
        "verification": None,
        "total_pending_invitations": 0,
        "total_pending_suggestions": 0,
        "created_at": created_at,
        "updated_at": updated_at,
    } | changes


def domain_verification(verified_at: int) -> Json:
    """A Clerk OrganizationDomainVerification after its success."""
    return {
        "status": "verified",
        "strategy": "affiliation_email_code",
        "attempts": 1,
        "expire_at": verified_at + 600_000,
        "verified_at": verified_at,
    }


def event(event_type: str, data: Json, *, timestamp: int, instance_id: str = INSTANCE_ID) -> Json:
    """The envelope of a webhook. `timestamp`: the moment of the change, in milliseconds."""
    return {
        "data": data,
        "event_attributes": {"http_request": {"client_ip": "192.0.2.7", "user_agent": "Mozilla/5.0"}},
        "instance_id": instance_id,
        "object": "event",
        "timestamp": timestamp,
        "type": event_type,
    }


def deleted(kind: str, object_id: str) -> Json:
    """Clerk's form of a deleted object: no times, no content. A deleted membership is sent whole instead."""
    return {"object": kind, "id": object_id, "deleted": True}


def new_user_id() -> str:
    """A new user id in Clerk's form."""
    return f"user_{secrets.token_hex(13)}"
