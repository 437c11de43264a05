"""Tokens, their signers and their verifiers, at a moment that stands still."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

import jwt
import pytest
from jwt.algorithms import RSAAlgorithm

from clerk_supabase.errors import Rejection, TokenRejected
from clerk_supabase.tokens.claims import Claims, Organization
from clerk_supabase.tokens.jwks import FixedKeys
from clerk_supabase.tokens.verifiers import SessionVerifier, keys_in_jwks
from clerk_supabase_cli.standin.token_mint import Mint, SigningKey

ISSUER: Final = "https://clerk.example.test"
ADA: Final = "user_2Ada"
ACME: Final = Organization("org_2Acme", "acme", "org:admin", ("org:docs:read", "org:docs:write", "org:billing:read"))
KEY: Final = SigningKey.generate()
OTHER_KEY: Final = SigningKey.generate()
SECRET: Final = "a secret of the project, forty bytes long."
NOW: Final = 1_790_000_000
MINT: Final = Mint(KEY, ISSUER, clock=lambda: NOW)

Verify = Callable[[str], Claims]


def keys(*known: SigningKey) -> FixedKeys:
    """A source of these keys and no newer ones."""
    return FixedKeys(keys_in_jwks(json.dumps({"keys": [dict(key.jwk) for key in known]}).encode()))


def verifier(**settings: Any) -> SessionVerifier:
    """Believes KEY, at NOW."""
    return SessionVerifier(ISSUER, keys(KEY), **({"clock": lambda: NOW} | settings))


def rejection(verify: Verify, token: str) -> Rejection:
    """The reason why a token is rejected; fails when the token is accepted."""
    with pytest.raises(TokenRejected) as caught:
        verify(token)
    return caught.value.reason


def assembled(header: Mapping[str, Any], signature: bytes | Callable[[bytes], bytes]) -> str:
    """The good claims under any header, with any signature."""
    full = {"typ": "JWT", "kid": KEY.kid} | dict(header)
    data = json.dumps(MINT.payload(ADA)).encode()
    signing = b".".join(map(jwt.utils.base64url_encode, (json.dumps(full).encode(), data)))
    made = signature if isinstance(signature, bytes) else signature(signing)
    return (signing + b"." + jwt.utils.base64url_encode(made)).decode()


def signed_by_key(signing: bytes) -> bytes:
    """The signature of KEY, for a header or claims that the mint does not make."""
    return RSAAlgorithm(RSAAlgorithm.SHA256).sign(signing, KEY.private)
