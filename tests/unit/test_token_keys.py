"""Keys that check tokens: the ones taken from a PEM or a JWKS, and the times of the look for newer ones."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from clerk_supabase.errors import Rejection
from clerk_supabase.settings import SettingsError
from clerk_supabase.tokens.jwks import FixedKeys, KeySet
from clerk_supabase.tokens.verifiers import SessionVerifier, keys_in_jwks, keys_in_pem
from clerk_supabase_cli.standin.token_mint import SigningKey
from tests.kit.tokens import ADA, ISSUER, KEY, MINT, NOW, OTHER_KEY, assembled, keys, rejection


def test_a_pem_needs_no_network_and_no_kid() -> None:
    networkless = SessionVerifier(ISSUER, keys_in_pem(KEY.public_pem), clock=lambda: NOW)
    assert networkless.verify(MINT.session(ADA)).user_id == ADA
    one_line = SessionVerifier(ISSUER, keys_in_pem(KEY.public_pem.replace("\n", "\\n")), clock=lambda: NOW)
    assert one_line.verify(KEY.sign(MINT.payload(ADA), kid="ins_2Any")).user_id == ADA
    assert rejection(networkless.verify, OTHER_KEY.sign(MINT.payload(ADA))) is Rejection.SIGNATURE


def private_pem(key: SigningKey) -> str:
    return key.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@pytest.mark.parametrize(
    "pem",
    [
        "",
        "text",
        "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----",
        private_pem(KEY),
        ec.generate_private_key(ec.SECP256R1())
        .public_key()
        .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        .decode(),
        SigningKey.generate(bits=1024).public_pem,
    ],
    ids=["nothing", "text", "broken", "private", "elliptic", "short"],
)
def test_a_pem_that_is_no_public_rsa_key_is_rejected(pem: str) -> None:
    with pytest.raises(SettingsError, match="public RSA key"):
        keys_in_pem(pem)


@pytest.mark.parametrize(
    "changes",
    [
        {"kty": "EC"},
        {"use": "enc"},
        {"alg": "RS512"},
        {"alg": "HS256"},
        {"kid": None},
        {"n": None},
        {"n": 7},
        {"n": "!"},
        {"e": "AQ"},
        dict(jwt.algorithms.RSAAlgorithm.to_jwk(KEY.private, as_dict=True)) | {"key_ops": ["verify"]},
        {"key_ops": ["sign"]},
        {"key_ops": "verify"},
        dict(SigningKey.generate(bits=1024).jwk),
    ],
)
def test_of_a_jwks_only_public_rsa_keys_for_signatures_are_taken(changes: Mapping[str, Any]) -> None:
    useless = dict(KEY.jwk) | {"kid": "ins_2Useless"} | dict(changes)
    with pytest.raises(ValueError, match="no RSA key"):
        keys_in_jwks(json.dumps({"keys": [useless]}).encode())
    taken = keys_in_jwks(json.dumps({"keys": [useless, None, "text", dict(KEY.jwk)]}).encode())
    assert list(taken.by_kid) == [KEY.kid]


@pytest.mark.parametrize("changes", [{"use": None}, {"alg": None}, {"key_ops": ["sign", "verify"]}])
def test_a_key_that_may_be_for_signatures_is_taken(changes: Mapping[str, Any]) -> None:
    jwk = {name: value for name, value in {**KEY.jwk, **changes}.items() if value is not None}
    found = FixedKeys(keys_in_jwks(json.dumps({"keys": [jwk]}).encode()))
    assert SessionVerifier(ISSUER, found, clock=lambda: NOW).verify(MINT.session(ADA)).user_id == ADA


@pytest.mark.parametrize("document", [b"", b"[]", b"{}", b"7", b'"x"', b'{"keys": {}}', b'{"keys": null}', b"[" * 9000])
def test_a_document_that_is_no_jwks_is_rejected(document: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        keys_in_jwks(document)


def test_two_keys_may_share_a_name_while_one_replaces_the_other() -> None:
    both = SessionVerifier(ISSUER, keys(OTHER_KEY, KEY), clock=lambda: NOW)
    assert both.verify(MINT.session(ADA)).user_id == ADA
    assert both.verify(OTHER_KEY.sign(MINT.payload(ADA))).user_id == ADA


@dataclass
class CountingKeys:
    """Keys that count the requests for them, and change when newer ones exist."""

    known: KeySet
    newer: KeySet | None = None
    looks: list[KeySet] = field(default_factory=list)

    def current(self) -> KeySet:
        return self.known

    def newer_than(self, known: KeySet) -> KeySet | None:
        self.looks.append(known)
        return self.newer


def test_a_good_token_makes_nobody_look_for_newer_keys() -> None:
    source = CountingKeys(keys(KEY).keys)
    SessionVerifier(ISSUER, source, clock=lambda: NOW).verify(MINT.session(ADA))
    assert source.looks == []


@pytest.mark.parametrize("kid", [KEY.kid, "ins_2New"])
def test_a_rotated_key_is_found_whether_it_keeps_its_name_or_not(kid: str) -> None:
    # Clerk names a key by the id of the instance, which a rotation does not change.
    rotated = SigningKey(OTHER_KEY.private, kid)
    source = CountingKeys(keys(KEY).keys, keys(rotated).keys)
    checker = SessionVerifier(ISSUER, source, clock=lambda: NOW)
    assert checker.verify(rotated.sign(MINT.payload(ADA))).user_id == ADA


def test_a_token_rejected_before_its_signature_causes_no_look_for_newer_keys() -> None:
    source = CountingKeys(keys(KEY).keys)
    checker = SessionVerifier(ISSUER, source)
    for token in ("junk", assembled({"alg": "none"}, b"x"), KEY.sign({}, typ="at+jwt"), KEY.sign({}, crit=["x"])):
        rejection(checker.verify, token)
    assert source.looks == []
