"""The processor time of the check of one session token, with its keys in memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import jwt
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256

from clerk_supabase.tokens.claims import Organization
from clerk_supabase.tokens.verifiers import SessionVerifier, jwks, taken_apart
from clerk_supabase_cli.standin.frontend_api import FrontendApi
from clerk_supabase_cli.standin.token_mint import Mint, SigningKey
from tests.bench.results import Result
from tests.bench.turns import cost, gain, in_turns

_TOKENS: Final = 50
_TURNS: Final = 100
_CLIENT_TURNS: Final = 20
_ORGANIZATION: Final = Organization(
    "org_2bGk0oWcXHq1vYtNnRz5pLmA7Qe", "acme", "org:admin", ("org:docs:read", "org:docs:write", "org:billing:manage")
)


def measure(root: Path) -> Iterator[Result]:
    """Compares with the smallest possible job, the RSA signature; and with PyJWT's client, new for each request."""
    key = SigningKey.generate()
    with FrontendApi(key) as api:
        token = Mint(key, api.issuer).session("user_2bGk0oWcXHq1vYtNnRz5pLmA7Qe", _ORGANIZATION, lifetime=3600)
        verifier = SessionVerifier(api.issuer, jwks(api.jwks_url), authorized_parties=["http://localhost:3000"])
        verifier.verify(token)
        take = in_turns(_bare(key, token), _many(verifier.verify, token), range(_TURNS), time.process_time)
        yield cost(f"check a session token of {len(token):,} characters", "RSA verify", take, at_most=4, of=_TOKENS)
        assert api.requests == 1

        def with_a_client(_: object) -> None:
            found = jwt.PyJWKClient(api.jwks_url).get_signing_key_from_jwt(token)
            jwt.decode(token, found, algorithms=["RS256"], issuer=api.issuer)

        take = in_turns(with_a_client, lambda _: verifier.verify(token), range(_CLIENT_TURNS))
        yield gain("the same, keys fetched from this machine", "PyJWKClient per request", take)


def _bare(key: SigningKey, token: str) -> Callable[[object], None]:
    public, compact = key.private.public_key(), taken_apart(token)
    padding, digest = PKCS1v15(), SHA256()

    def verify(_: object) -> None:
        for _ in range(_TOKENS):
            public.verify(compact.signature, compact.signed, padding, digest)

    return verify


def _many(verify: Callable[[str], object], token: str) -> Callable[[object], None]:
    def act(_: object) -> None:
        for _ in range(_TOKENS):
            verify(token)

    return act
