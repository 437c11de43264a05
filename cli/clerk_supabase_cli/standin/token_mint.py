"""Makes tokens for this machine in Clerk's form: session tokens of both versions, and tokens of the former template."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from jwt.algorithms import HMACAlgorithm, RSAAlgorithm
from jwt.utils import base64url_encode

from clerk_supabase.tokens.claims import Organization
from clerk_supabase_cli.private_files import private_folder, write_privately
from clerk_supabase_cli.standin.samples import INSTANCE_ID

# https://github.com/clerk/javascript, packages/backend/src/jwt: which tokens are of a session.
SESSION_CATEGORY: Final = "cl_B7d4PD111AAA"
LOCAL_ISSUER: Final = "https://clerk.local.test"
# The secret of `supabase start` on every machine.
LOCAL_JWT_SECRET: Final = "super-secret-jwt-token-with-at-least-32-characters-long"  # noqa: S105 - known to everybody
_LIFETIME_SECONDS: Final = 60
# Clerk dates its tokens back a little, for slow clocks.
_NOT_BEFORE_SECONDS: Final = 10
SYSTEM_PERMISSION: Final = "org:sys_"

Payload = dict[str, Any]


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key pair of an instance. Clerk names its keys by the id of the instance."""

    private: rsa.RSAPrivateKey
    kid: str = INSTANCE_ID

    @classmethod
    def generate(cls, kid: str = INSTANCE_ID, *, bits: int = 2048) -> Self:
        """A new key."""
        return cls(rsa.generate_private_key(public_exponent=65537, key_size=bits), kid)

    @classmethod
    def of_checkout(cls, root: Path) -> Self:
        """This checkout's key for local use, made on the first use."""
        file = private_folder(root) / "clerk-signing-key.pem"
        if not file.exists():
            new = cls.generate()
            pem = new.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            write_privately(file, pem.decode())
            public_key_file(root).write_text(new.public_pem)
        private = load_pem_private_key(file.read_bytes(), password=None)
        if not isinstance(private, rsa.RSAPrivateKey):
            raise TypeError(f"{file} holds no RSA key: delete it, and a new one will be made")
        return cls(private)

    @property
    def public_pem(self) -> str:
        """The public key in the form of Clerk's dashboard."""
        return self.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    @property
    def jwk(self) -> Mapping[str, Any]:
        """The public key in the form of the instance's JWKS."""
        numbers = RSAAlgorithm.to_jwk(self.private.public_key(), as_dict=True)
        return {"use": "sig", "kty": "RSA", "kid": self.kid, "alg": "RS256", "n": numbers["n"], "e": numbers["e"]}

    def sign(self, payload: Mapping[str, Any] | bytes, **headers: Any) -> str:
        """Signs any claims, true or not, or any bytes.

        *headers* adds to the headers of a session token, replaces headers, or removes them with `None`.
        """
        header = {"alg": "RS256", "typ": "JWT", "kid": self.kid, "cat": SESSION_CATEGORY}
        rs256 = RSAAlgorithm(RSAAlgorithm.SHA256)
        return _compact(_changed(header, headers), payload, lambda signed: rs256.sign(signed, self.private))


def public_key_file(root: Path) -> Path:
    """The file with the public half of the checkout's key."""
    return private_folder(root) / "clerk-public-key.pem"


@dataclass(frozen=True, slots=True)
class Mint:
    """An issuer of tokens: a Clerk instance."""

    key: SigningKey
    issuer: str = LOCAL_ISSUER
    clock: Callable[[], float] = time.time

    def session(
        self, user_id: str, organization: Organization | None = None, *, version: int = 2, **changes: Any
    ) -> str:
        """A session token; *changes* adds or replaces claims, or removes claims with `None`."""
        return self.key.sign(self.payload(user_id, organization, version=version, **changes))

    def payload(
        self,
        user_id: str,
        organization: Organization | None = None,
        *,
        version: int = 2,
        lifetime: int = _LIFETIME_SECONDS,
        plans: Sequence[str] = (),
        features: Sequence[str] = (),
        **changes: Any,
    ) -> Payload:
        """The claims of a session token. Only version 2 has *plans* and *features*, spelled `o:team` and `u:pro`."""
        now = int(self.clock())
        said: Payload = {
            "azp": "http://localhost:3000",
            "exp": now + lifetime,
            "fva": [0, -1],
            "iat": now,
            "iss": self.issuer,
            "jti": secrets.token_hex(10),
            "nbf": now - _NOT_BEFORE_SECONDS,
            "role": "authenticated",
            "sid": f"sess_{user_id.removeprefix('user_')}",
            "sts": "active",
            "sub": user_id,
        }
        if version == 2:
            said |= {"v": 2} | _organization_v2(organization, features) | _listed("pla", plans)
        else:
            said |= _organization_v1(organization)
        return _changed(said, changes)


def legacy_token(
    user_id: str,
    organization: Organization | None = None,
    *,
    secret: str = LOCAL_JWT_SECRET,
    issuer: str = LOCAL_ISSUER,
    lifetime: int = _LIFETIME_SECONDS,
    clock: Callable[[], float] = time.time,
    **changes: Any,
) -> str:
    """A token of Clerk's former JWT template for Supabase, signed with the project's JWT secret."""
    now = int(clock())
    said = {
        "aud": "authenticated",
        "exp": now + lifetime,
        "iat": now,
        "iss": issuer,
        "nbf": now - _NOT_BEFORE_SECONDS,
        "role": "authenticated",
        "sub": user_id,
    } | _organization_v1(organization)
    hs256 = HMACAlgorithm(HMACAlgorithm.SHA256)
    header = {"alg": "HS256", "typ": "JWT"}
    return _compact(header, _changed(said, changes), lambda signed: hs256.sign(signed, secret.encode()))


def _compact(header: Mapping[str, Any], payload: Mapping[str, Any] | bytes, sign: Callable[[bytes], bytes]) -> str:
    # The library's own encoder rejects to make most of the bad tokens.
    said = payload if isinstance(payload, bytes) else json.dumps(payload, separators=(",", ":")).encode()
    signed = b".".join(map(base64url_encode, (json.dumps(header, separators=(",", ":")).encode(), said)))
    return b".".join((signed, base64url_encode(sign(signed)))).decode()


def _organization_v1(organization: Organization | None) -> Payload:
    if organization is None:
        return {}
    said = {
        "org_id": organization.id,
        "org_slug": organization.slug,
        "org_role": organization.role,
        "org_permissions": list(organization.permissions),
    }
    return _changed(said, {})


def _organization_v2(organization: Organization | None, more_features: Sequence[str]) -> Payload:
    if organization is None:
        return _listed("fea", more_features)
    # Clerk keeps its own permissions out of these tokens.
    custom = [each for each in organization.permissions if not each.startswith(SYSTEM_PERMISSION)]
    features, names, masks = _packed(custom)
    said = {
        "id": organization.id,
        "slg": organization.slug,
        "rol": organization.role and organization.role.removeprefix("org:"),
        "per": ",".join(names) or None,
        "fpm": ",".join(map(str, masks)) or None,
    }
    # A number of `fpm` is for the feature of the organization at its place: features without a number come last.
    return {"o": _changed(said, {})} | _listed("fea", [*(f"o:{name}" for name in features), *more_features])


def _listed(claim: str, elements: Sequence[str]) -> Payload:
    """A claim with these elements, each once; no claim without elements."""
    return {claim: ",".join(dict.fromkeys(elements))} if elements else {}


def _packed(permissions: Iterable[str]) -> tuple[list[str], list[str], list[int]]:
    """Features, names and a mask per feature: bit i stands for name i."""
    pairs = [tuple(permission.removeprefix("org:").rsplit(":", 1)) for permission in permissions]
    features = list(dict.fromkeys(feature for feature, _ in pairs))
    names = list(dict.fromkeys(name for _, name in pairs))
    masks = [sum(1 << index for index, name in enumerate(names) if (feature, name) in pairs) for feature in features]
    return features, names, masks


def _changed(said: Payload, changes: Mapping[str, Any]) -> Payload:
    return {name: value for name, value in (said | dict(changes)).items() if value is not None}
