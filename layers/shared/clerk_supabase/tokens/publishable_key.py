"""Addresses of a Clerk instance: its publishable key is the base64 of its Frontend API's host and a dollar sign."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import Final

from clerk_supabase.settings import SettingsError

_KEY: Final = re.compile(r"pk_(?:test|live)_([A-Za-z0-9+/]+={0,2})")
_LABEL: Final = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HOST: Final = re.compile(rf"(?:{_LABEL}\.)+[a-z][a-z0-9-]{{0,61}}[a-z0-9]")
_LONGEST_HOST: Final = 253


@dataclass(frozen=True, slots=True)
class FrontendApi:
    """The part of a Clerk instance for browsers, which issues session tokens."""

    host: str

    @property
    def issuer(self) -> str:
        """The `iss` of the instance's tokens."""
        return f"https://{self.host}"

    @property
    def jwks_url(self) -> str:
        """The address of the instance's public keys."""
        return jwks_url_of(self.issuer)


def jwks_url_of(issuer: str) -> str:
    """The address of an issuer's public keys; the issuer may be a proxy below a path of the app."""
    return f"{issuer}/.well-known/jwks.json"


def frontend_api(publishable_key: str) -> FrontendApi:
    """The instance named by a key (`pk_test_...`, `pk_live_...`). Raises SettingsError, which never quotes the key."""
    if publishable_key.startswith("sk_"):
        raise SettingsError("this is Clerk's secret key; the publishable key begins with pk_test_ or pk_live_")
    match = _KEY.fullmatch(publishable_key)
    if match is None:
        raise SettingsError("the publishable key is not pk_test_ or pk_live_ and base64")
    host, dollar, rest = _decoded(match[1]).partition("$")
    if dollar != "$" or rest or len(host) > _LONGEST_HOST or not _HOST.fullmatch(host):
        raise SettingsError("the publishable key does not contain the name of a host: was it copied whole?")
    return FrontendApi(host)


def _decoded(encoded: str) -> str:
    unpadded = encoded.rstrip("=")
    try:
        data = base64.b64decode(unpadded + "=" * (-len(unpadded) % 4), validate=True)
    except ValueError:
        return ""
    # The last digit may hold meaningless bits: only one spelling of a key is accepted.
    return data.decode("ascii", "replace") if base64.b64encode(data).decode().rstrip("=") == unpadded else ""
