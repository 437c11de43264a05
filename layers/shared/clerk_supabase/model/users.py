"""Clerk's User, and its row of the table users.

Webhooks and Clerk's Backend API send the same object.
Source of the field names: https://github.com/clerk/openapi-specs (webhooks/2025-04-15, bapi/2026-05-12).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Final, TypeVar

from pydantic import Field

from clerk_supabase.model.clerk_object import (
    EMPTY_LIST,
    LONGEST_INDEXED,
    ClerkObject,
    ClientFlag,
    ClientKey,
    ClientMetadata,
    ClientText,
    Columns,
    Flag,
    Lenient,
    Loss,
    Metadata,
    Milliseconds,
    Text,
    Verdict,
    Verification,
    is_verified,
    timestamp,
)
from clerk_supabase.model.facts import Kind


class _Identifier(Lenient):
    id: Text = None
    verification: Verification | None = None

    @property
    def verified(self) -> bool:
        return is_verified(self.verification)


class EmailAddress(_Identifier):
    """One e-mail address of a user."""

    email_address: Annotated[str, Field(max_length=LONGEST_INDEXED)]


class PhoneNumber(_Identifier):
    """One phone number of a user. Its backup codes are never read."""

    phone_number: str


class Web3Wallet(_Identifier):
    """One wallet of a user."""

    web3_wallet: str


class ExternalAccount(_Identifier):
    """One account at an OAuth provider."""

    object: Text = None
    external_account_id: Text = None
    identification_id: Text = None
    provider: Text = None
    provider_user_id: Text = None
    google_id: Text = None
    facebook_id: Text = None
    email_address: Text = None
    username: Text = None

    @property
    def deletable_id(self) -> str | None:
        """The id by which Clerk's API deletes the account; None in the shape before 2025, which lacks this id.

        `id` is this id only in an account that names its identification by another id.
        """
        return self.external_account_id or (self.id if self.identification_id not in (None, "", self.id) else None)


class _Connection(Lenient):
    id: Text = None


class EnterpriseAccount(_Identifier):
    """One account at the identity provider of a company. Clerk's older SAMLAccount differs in its connection only.

    Left out: names and metadata, which Clerk copies to the user; the time of the last sign-in, which would rewrite the
    row at each sign-in; and settings of the connection, which change without an event about the user.
    """

    protocol: Text = None
    provider: Text = None
    provider_user_id: Text = None
    email_address: Text = None
    active: Flag = False
    enterprise_connection_id: Text = None
    enterprise_connection: _Connection | None = None
    saml_connection: _Connection | None = None

    @property
    def connection_id(self) -> str | None:
        """The id of the connection; None for an account without a connection."""
        connection = self.enterprise_connection or self.saml_connection
        return self.enterprise_connection_id or (None if connection is None else connection.id)

    def row(self, protocol: str | None) -> dict[str, object]:
        """The account as an element of the column enterprise_accounts."""
        return {
            "id": self.id,
            "active": self.active,
            "protocol": protocol,
            "provider": self.provider,
            "verified": self.verified,
            "email_address": self.email_address,
            "provider_user_id": self.provider_user_id,
            "enterprise_connection_id": self.connection_id,
        }


# Before 2025, accounts of these two providers had a shape of their own, which did not name the provider.
_PROVIDERS: Final[Mapping[str | None, str]] = {"google_account": "oauth_google", "facebook_account": "oauth_facebook"}


class User(ClerkObject):
    """Clerk's User: the fields with a column in the table users."""

    kind: ClassVar[Kind] = "user"

    external_id: Text = None
    username: ClientKey = None
    first_name: ClientText = None
    last_name: ClientText = None
    image_url: ClientText = None
    has_image: ClientFlag = False
    locale: ClientText = None
    primary_email_address_id: ClientText = None
    primary_phone_number_id: ClientText = None
    primary_web3_wallet_id: ClientText = None
    # Clerk always sends these lists: without a list, part of the row would be unknown.
    email_addresses: Annotated[list[EmailAddress], Loss.whole]
    phone_numbers: Annotated[list[PhoneNumber], Loss.whole]
    web3_wallets: Annotated[list[Web3Wallet], Loss.whole]
    external_accounts: Annotated[list[ExternalAccount], Loss.whole]
    # Clerk's newer list, and its older one: not every user has both.
    enterprise_accounts: Annotated[list[EnterpriseAccount], EMPTY_LIST, Loss.whole] = []
    saml_accounts: Annotated[list[EnterpriseAccount], EMPTY_LIST, Loss.whole] = []
    public_metadata: Metadata = {}
    unsafe_metadata: ClientMetadata = {}
    password_enabled: ClientFlag = False
    two_factor_enabled: ClientFlag = False
    # Clerk always sends this verdict: a missing one must not lift a ban.
    banned: Verdict
    locked: Verdict = False
    deprovisioned: Verdict = False
    legal_accepted_at: Annotated[Milliseconds | None, Loss.whole] = None

    @classmethod
    def stub(cls, **known: Any) -> User:
        """Make a user from the fields in another object, with empty lists: only the user's own object has the lists."""
        lists: dict[str, Any] = {
            "email_addresses": [],
            "phone_numbers": [],
            "web3_wallets": [],
            "external_accounts": [],
        }
        return cls(**lists | {"banned": False} | known)

    def columns(self) -> Columns:
        """The row of the table users.

        The row has no time of the last sign-in or of the last update: both change at every sign-in, so a write without
        any other change would fire triggers and send Realtime messages.
        """
        email = _with_id(self.email_addresses, self.primary_email_address_id)
        phone = _with_id(self.phone_numbers, self.primary_phone_number_id)
        # The names in the order in which jsonb keeps them, so that nobody has to sort them.
        return {
            "email": email and email.email_address,
            "phone": phone and phone.phone_number,
            "banned": self.banned,
            "locale": self.locale,
            "locked": self.locked,
            "clerk_id": self.id,
            "username": self.username,
            "has_image": self.has_image,
            "image_url": self.image_url,
            "last_name": self.last_name,
            "created_at": timestamp(self.created_at),
            "first_name": self.first_name,
            "external_id": self.external_id,
            "web3_wallets": [
                {"id": each.id, "verified": each.verified, "web3_wallet": each.web3_wallet}
                for each in self.web3_wallets
            ],
            "deprovisioned": self.deprovisioned,
            "phone_numbers": [
                {"id": each.id, "verified": each.verified, "phone_number": each.phone_number}
                for each in self.phone_numbers
            ],
            "email_verified": email is not None and email.verified,
            "phone_verified": phone is not None and phone.verified,
            "email_addresses": [
                {"id": each.id, "verified": each.verified, "email_address": each.email_address}
                for each in self.email_addresses
            ],
            "public_metadata": self.public_metadata,
            "unsafe_metadata": self.unsafe_metadata,
            "password_enabled": self.password_enabled,
            "external_accounts": [
                {
                    "id": each.id,
                    "provider": each.provider or _PROVIDERS.get(each.object),
                    "username": each.username,
                    "verified": each.verified,
                    "email_address": each.email_address,
                    "provider_user_id": each.provider_user_id or each.google_id or each.facebook_id,
                    "external_account_id": each.deletable_id,
                }
                for each in self.external_accounts
            ],
            "legal_accepted_at": timestamp(self.legal_accepted_at),
            "two_factor_enabled": self.two_factor_enabled,
            "enterprise_accounts": _enterprise_accounts(self.enterprise_accounts, self.saml_accounts),
            "primary_web3_wallet_id": self.primary_web3_wallet_id,
        }


def _enterprise_accounts(new: list[EnterpriseAccount], old: list[EnterpriseAccount]) -> list[dict[str, object]]:
    """The accounts of both lists; an account in both, by its id or its address, as in the newer list."""
    rows = [each.row(each.protocol) for each in new]
    if not old:
        return rows
    # Perhaps Clerk gives an account another id in each list, but an OAuth account is never a SAML account.
    known = {each.id for each in new} | {_address(each) for each in new if each.protocol != "oauth"}
    return rows + [each.row("saml") for each in old if not known & {each.id, _address(each)} - {None}]


def _address(account: EnterpriseAccount) -> str | None:
    return account.email_address and account.email_address.lower()


Identifier = TypeVar("Identifier", EmailAddress, PhoneNumber)


def _with_id(identifiers: Iterable[Identifier], wanted: str | None) -> Identifier | None:
    """The primary identifier, named by Clerk by its id: not simply the first; None for a user without it."""
    if wanted is not None:
        for each in identifiers:
            if each.id == wanted:
                return each
    return None
