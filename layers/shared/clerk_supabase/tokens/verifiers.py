"""Verification of Clerk's session tokens, and of tokens from its former JWT template for Supabase.

No other module knows PyJWT, whose algorithms and keys are used here. The token itself is split here: the library looks
at every character in Python, which costs three times as much as the signature. By a property test, this module accepts
no token that the library rejects.
Sources: https://clerk.com/docs/guides/sessions/manual-jwt-verification, RFC 7515, RFC 7519, RFC 8725.
"""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Self

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import HMACAlgorithm, RSAAlgorithm
from jwt.exceptions import InvalidKeyError

from clerk_supabase.errors import Rejection, TokenRejected
from clerk_supabase.settings import SettingsError
from clerk_supabase.tokens.claims import Claims, decode_object, legacy_claims, session_claims
from clerk_supabase.tokens.jwks import FixedKeys, Jwks, KeySet, KeySource
from clerk_supabase.tokens.publishable_key import jwks_url_of

LEEWAY_SECONDS: Final = 5
# A cookie holds 4 kB and API Gateway takes 10 kB of headers.
MAX_TOKEN_LENGTH: Final = 16_384

_COMPACT: Final = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")
_RS256: Final = RSAAlgorithm(RSAAlgorithm.SHA256)
_HS256: Final = HMACAlgorithm(HMACAlgorithm.SHA256)
_RSA_BITS: Final = range(2048, 8193)
_SHORTEST_SECRET: Final = 32
_MOST_KEYS: Final = 16
# Values of the header `cat`, by which Clerk tells apart the tokens that it signs with the same key. Instances that do
# not tell their tokens apart use the second value for all; tokens from before the categories have no `cat`.
# https://github.com/clerk/javascript, packages/backend/src/tokens/jwtCategories.ts
_SESSION_CATEGORIES: Final = ("cl_B7d4PD111AAA", "cl_I7d4PD111III")
_TEMPLATE_CATEGORY: Final = "cl_B7d4PD222AAA"
_MACHINE_CATEGORY: Final = "cl_B7d4PD333AAA"


@dataclass(frozen=True, slots=True)
class Compact:
    """The parts of a token, unproven."""

    header: dict[str, Any]
    payload: bytes
    signed: bytes
    signature: bytes


class SessionVerifier:
    """Checks session tokens of one Clerk instance, for all threads."""

    def __init__(
        self,
        issuer: str,
        keys: KeySource,
        *,
        authorized_parties: Collection[str] = (),
        accept_missing_party: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """*authorized_parties*: origins of the apps whose tokens are accepted; if empty, any app of the instance.

        *accept_missing_party*: whether tokens of native apps, which name no origin, are accepted, too.
        """
        if not issuer:
            raise SettingsError("the issuer of the tokens is not set")
        self._issuer = issuer
        self._keys = keys
        self._parties = frozenset(authorized_parties)
        self._accept_missing_party = accept_missing_party
        self._clock = clock

    @property
    def issuer(self) -> str:
        """The only `iss` that this verifier accepts."""
        return self._issuer

    def verify(self, token: str) -> Claims:
        """The claims of the token, once it is proven. Raises TokenRejected; KeysUnavailable when nobody can tell."""
        claims = self.authenticate(token)
        for problem in self.problems(claims):
            raise problem
        return claims

    def authenticate(self, token: str) -> Claims:
        """The claims of a session token with a good signature, valid now and here or not.

        Raises TokenRejected and KeysUnavailable.
        """
        compact = taken_apart(token)
        _require_kind(compact.header, "RS256")
        _reject_other_categories(compact.header)
        self._require_signature(compact)
        return session_claims(compact.payload)

    def problems(self, claims: Claims) -> Iterator[TokenRejected]:
        """Every reason against the use of these claims now and here."""
        yield from _problems_of_time(claims, self._clock())
        if claims.issuer != self._issuer:
            yield TokenRejected(Rejection.ISSUER, f"the token was not issued by {self._issuer}")
        if self._parties:
            yield from self._problems_of_party(claims.authorized_party)
        if claims.session_status not in {None, "active"}:
            yield TokenRejected(Rejection.SESSION_NOT_ACTIVE, "the session is not active: the sign-in is not complete")

    def _problems_of_party(self, party: str | None) -> Iterator[TokenRejected]:
        if party is None:
            if not self._accept_missing_party:
                yield TokenRejected(Rejection.AUTHORIZED_PARTY_MISSING, "the token names no origin (azp)")
        elif party not in self._parties:
            yield TokenRejected(Rejection.AUTHORIZED_PARTY, "the token is for an origin (azp) that is not allowed")

    def _require_signature(self, compact: Compact) -> None:
        kid = compact.header.get("kid")
        keys = self._keys.current()
        if _is_signed_by(keys, kid, compact):
            return
        newer = self._keys.newer_than(keys)
        if newer is not None and _is_signed_by(newer, kid, compact):
            return
        if not (newer or keys).candidates(kid):
            raise TokenRejected(Rejection.UNKNOWN_KEY, "the token is signed with a key that is not the issuer's")
        raise TokenRejected(Rejection.SIGNATURE, "the signature does not match")


class IssuerChoice:
    """Checks session tokens of several issuers, each against its own keys, for all threads."""

    def __init__(self, verifiers: Iterable[SessionVerifier]) -> None:
        """*verifiers*: a verifier for each accepted issuer."""
        self._by_issuer = {verifier.issuer: verifier for verifier in verifiers}

    @classmethod
    def of(
        cls, issuers: Iterable[str], *, authorized_parties: Collection[str] = (), accept_missing_party: bool = False
    ) -> Self:
        """Each issuer with the keys below its own address. Raises SettingsError."""
        return cls(
            SessionVerifier(
                issuer,
                jwks(jwks_url_of(issuer)),
                authorized_parties=authorized_parties,
                accept_missing_party=accept_missing_party,
            )
            for issuer in issuers
        )

    def verify(self, token: str) -> Claims:
        """The claims of the token, once it is proven. Raises TokenRejected; KeysUnavailable when nobody can tell."""
        return self.chosen_for(token).verify(token)

    def chosen_for(self, token: str) -> SessionVerifier:
        """The verifier for the issuer named in a token, which is not proven yet.

        Raises TokenRejected for any other issuer, without a look at keys.
        """
        issuer = decode_object(taken_apart(token).payload).get("iss")
        chosen = self._by_issuer.get(issuer) if isinstance(issuer, str) else None
        if chosen is None:
            raise TokenRejected(Rejection.ISSUER, f"the token was not issued by {' or '.join(self._by_issuer)}")
        return chosen


class LegacyVerifier:
    """Checks tokens of Clerk's former JWT template for Supabase, signed with the project's JWT secret.

    The same secret signs Supabase's own tokens, which are rejected because they name no Clerk user.
    """

    def __init__(self, secret: str, *, issuer: str = "", clock: Callable[[], float] = time.time) -> None:
        """*issuer*: empty for any issuer. Raises SettingsError for a secret that is too short."""
        key = secret.encode()
        if len(key) < _SHORTEST_SECRET:
            raise SettingsError(f"the JWT secret must have {_SHORTEST_SECRET} bytes or more")
        try:
            self._key = _HS256.prepare_key(key)
        except InvalidKeyError as error:
            raise SettingsError("the JWT secret is a key of another kind") from error
        self._issuer = issuer
        self._clock = clock

    def verify(self, token: str) -> Claims:
        """The claims of the token, once it is proven. Raises TokenRejected."""
        claims = self.authenticate(token)
        for problem in self.problems(claims):
            raise problem
        return claims

    def authenticate(self, token: str) -> Claims:
        """The claims of a token with a good signature, valid now and here or not. Raises TokenRejected."""
        compact = taken_apart(token)
        _require_kind(compact.header, "HS256")
        if not _HS256.verify(compact.signed, self._key, compact.signature):
            raise TokenRejected(Rejection.SIGNATURE, "the signature does not match")
        return legacy_claims(compact.payload)

    def problems(self, claims: Claims) -> Iterator[TokenRejected]:
        """Every reason against the use of these claims now and here."""
        yield from _problems_of_time(claims, self._clock())
        if self._issuer and claims.issuer != self._issuer:
            yield TokenRejected(Rejection.ISSUER, f"the token was not issued by {self._issuer}")
        if "authenticated" not in claims.audience:
            yield TokenRejected(Rejection.AUDIENCE, "the token's audience (aud) is not 'authenticated'")
        if claims.role != "authenticated":
            yield TokenRejected(Rejection.ROLE, "the token's role is not 'authenticated'")


def taken_apart(token: str) -> Compact:
    """Split a token into its parts, all unproven. Raises TokenRejected for any other text."""
    if len(token) > MAX_TOKEN_LENGTH:
        raise TokenRejected(Rejection.TOO_LONG, f"the token is longer than {MAX_TOKEN_LENGTH} characters")
    match = _COMPACT.fullmatch(token)
    if match is None:
        raise TokenRejected(Rejection.MALFORMED, "this is not a token: three parts with dots between them")
    header, payload, signature = map(_decoded, match.groups())
    signed = token[: match.end(2)].encode()
    return Compact(decode_object(header), payload, signed, signature)


def jwks(url: str) -> Jwks:
    """Keys fetched from a URL on demand. Raises SettingsError."""
    return Jwks(url, keys_in_jwks)


def keys_in_jwks(document: bytes) -> KeySet:
    """The RSA signing keys of a JWKS document (RFC 7517). Raises ValueError for a document without any."""
    try:
        listed = msgspec.json.decode(document)["keys"]
    except (TypeError, KeyError, IndexError, RecursionError) as error:
        raise ValueError("not a JWKS document") from error
    keys: dict[str, list[RSAPublicKey]] = {}
    for jwk in listed[:_MOST_KEYS] if isinstance(listed, list) else ():
        if _is_for_signing(jwk) and (key := _rsa_key(jwk)) is not None:
            keys.setdefault(jwk["kid"], []).append(key)
    if not keys:
        raise ValueError("no RSA key for signatures in the JWKS document")
    return KeySet(keys)


def keys_in_pem(pem: str) -> FixedKeys:
    """The instance's public key as Clerk's dashboard shows it, for use without a network. Raises SettingsError."""
    # Environment variables often hold the key in one line.
    text = pem.replace("\\n", "\n").strip()
    try:
        key = _RS256.prepare_key(text) if text.startswith("-----BEGIN ") else None
    except (InvalidKeyError, UnsupportedAlgorithm, ValueError, TypeError):
        # Not chained: the cause may quote the given text, which may be a private key.
        key = None
    if not isinstance(key, RSAPublicKey) or key.key_size not in _RSA_BITS:
        raise SettingsError("the PEM is not a public RSA key of 2048 bits or more")
    return FixedKeys(KeySet(of_any_kid=(key,)))


def _is_for_signing(jwk: object) -> bool:
    return (
        isinstance(jwk, dict)
        and isinstance(jwk.get("kid"), str)
        and jwk.get("kty") == "RSA"
        and jwk.get("use", "sig") == "sig"
        and jwk.get("alg", "RS256") == "RS256"
        and ("key_ops" not in jwk or (isinstance(jwk["key_ops"], list) and "verify" in jwk["key_ops"]))
    )


def _rsa_key(jwk: dict[str, Any]) -> RSAPublicKey | None:
    try:
        key = RSAAlgorithm.from_jwk(jwk)
    except (InvalidKeyError, UnsupportedAlgorithm, ValueError, TypeError, KeyError, AttributeError):
        return None
    # A private key that is published proves nothing.
    return key if isinstance(key, RSAPublicKey) and key.key_size in _RSA_BITS else None


def _decoded(segment: str) -> bytes:
    try:
        data = base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    except ValueError as error:
        raise TokenRejected(Rejection.MALFORMED, "a part of the token is not base64url") from error
    # The last digit may hold meaningless bits: only one spelling of a token is accepted.
    if base64.urlsafe_b64encode(data).rstrip(b"=") != segment.encode():
        raise TokenRejected(Rejection.MALFORMED, "a part of the token is not base64url")
    return data


def _require_kind(header: dict[str, Any], algorithm: str) -> None:
    """Rejects any token but an ordinary JWT with this signature; the token does not choose its algorithm."""
    if header.get("alg") != algorithm:
        raise TokenRejected(Rejection.ALGORITHM, f"the token is not signed with {algorithm}")
    if header.get("typ") != "JWT":
        raise TokenRejected(Rejection.TYPE, "the header's typ is not JWT: an OAuth access token, for example")
    # b64 has to be named in crit, but not every library insists. https://www.rfc-editor.org/rfc/rfc7797#section-6
    if "crit" in header or "b64" in header:
        message = "the header demands an extension (crit or b64) that is not understood"
        raise TokenRejected(Rejection.CRITICAL_HEADER, message)


def _reject_other_categories(header: dict[str, Any]) -> None:
    if "cat" not in header or header["cat"] in _SESSION_CATEGORIES:
        return
    if header["cat"] == _TEMPLATE_CATEGORY:
        raise TokenRejected(Rejection.TEMPLATE, "the token comes from a JWT template, not from a session")
    if header["cat"] == _MACHINE_CATEGORY:
        raise TokenRejected(Rejection.MACHINE, "the token belongs to a machine, not to a user")
    raise TokenRejected(Rejection.CATEGORY, "the header's cat is not that of a session token")


def _is_signed_by(keys: KeySet, kid: object, compact: Compact) -> bool:
    return any(_RS256.verify(compact.signed, key, compact.signature) for key in keys.candidates(kid))


def _problems_of_time(claims: Claims, now: float) -> Iterator[TokenRejected]:
    if claims.expires_at <= now - LEEWAY_SECONDS:
        yield TokenRejected(Rejection.EXPIRED, "the token has expired")
    if claims.not_before is not None and claims.not_before > now + LEEWAY_SECONDS:
        yield TokenRejected(Rejection.NOT_YET_VALID, "the token is not valid yet (nbf)")
    if claims.issued_at > now + LEEWAY_SECONDS:
        yield TokenRejected(Rejection.ISSUED_IN_FUTURE, "the token was issued in the future (iat)")
