"""Junk for tokens: never an error of another kind, never accepted, never where the library rejects."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any, Final

import jwt
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from clerk_supabase.errors import TokenRejected
from clerk_supabase.tokens.claims import Claims
from clerk_supabase.tokens.verifiers import LegacyVerifier, SessionVerifier
from clerk_supabase_cli.standin.token_mint import Mint, legacy_token
from tests.kit.tokens import (
    ACME,
    ADA,
    ISSUER,
    KEY,
    MINT,
    NOW,
    SECRET,
    Verify,
    assembled,
    keys,
    signed_by_key,
    verifier,
)

GOOD: Final = Mint(KEY, ISSUER).session(ADA, ACME, lifetime=10**6)
GOOD_LEGACY: Final = legacy_token(ADA, ACME, secret=SECRET, lifetime=10**6)
CHARACTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=+/ \n\u0435\U0001f600"
ORIGIN: Final = "https://app.example.test"
everything: Final = (SessionVerifier(ISSUER, keys(KEY)), LegacyVerifier(SECRET))


def is_accepted(verify: Verify, token: str) -> bool:
    try:
        verify(token)
    except TokenRejected:
        return False
    return True


@given(st.text(alphabet=st.characters(), max_size=200) | st.text(alphabet=CHARACTERS, max_size=400))
def test_junk_is_rejected(junk: str) -> None:
    assert not any(is_accepted(one.verify, junk) for one in everything)


@given(st.sampled_from([GOOD, GOOD_LEGACY]), st.data())
def test_a_token_with_one_character_changed_is_rejected(token: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(token) - 1))
    character = data.draw(st.sampled_from(CHARACTERS.replace(token[place], "")))
    changed = token[:place] + character + token[place + 1 :]
    assert not any(is_accepted(one.verify, changed) for one in everything)


@given(
    st.sampled_from([GOOD, GOOD_LEGACY]), st.integers(0, 2000), st.integers(0, 2000), st.text(CHARACTERS, max_size=9)
)
def test_a_token_with_a_piece_replaced_is_rejected(token: str, start: int, end: int, piece: str) -> None:
    changed = token[:start] + piece + token[end:]
    assume(changed != token)
    assert not any(is_accepted(one.verify, changed) for one in everything)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
CLAIM_NAMES: Final = [
    *("sub", "sid", "iss", "exp", "iat", "nbf", "azp", "sts", "v", "o", "fea", "pla", "act", "fva", "aud", "role"),
    *("org_id", "org_slug", "org_role", "org_permissions", "jti"),
]


@given(st.dictionaries(st.sampled_from(CLAIM_NAMES), json_values, max_size=4), st.sampled_from([1, 2]))
def test_any_claims_are_normalised_or_rejected(changes: dict[str, Any], version: int) -> None:
    said = MINT.payload(ADA, ACME, version=version) | changes
    with suppress(TokenRejected):
        assert_is_normalised(said)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("changes", [{}, {"aud": "app"}, {"fva": [1, 2]}, {"jti": None}])
def test_claims_that_are_accepted_are_normalised(changes: dict[str, Any], version: int) -> None:
    claims = assert_is_normalised(MINT.payload(ADA, ACME, version=version) | changes)
    assert claims.organization == ACME


def assert_is_normalised(said: dict[str, Any]) -> Claims:
    claims = verifier().verify(KEY.sign(json.dumps(said).encode()))
    assert (claims.user_id, claims.issuer) == (said["sub"], ISSUER)
    assert said["exp"] > NOW - 5
    permissions = () if claims.organization is None else claims.organization.permissions
    assert all(isinstance(permission, str) for permission in permissions)
    return claims


@given(
    st.dictionaries(st.sampled_from(["alg", "typ", "kid", "crit", "b64", "cat", "jwk", "x5c"]), json_values, max_size=3)
)
@example({})
@example({"typ": "at+jwt"})
@example({"alg": "none"})
@example({"crit": ["b64"], "b64": False})
def test_any_header_is_understood_or_rejected(changes: dict[str, Any]) -> None:
    token = KEY.sign(MINT.payload(ADA), **changes)
    assert library_accepts(token) or not is_accepted(verifier().verify, token)


CATEGORIES: Final = st.from_regex(r"cl_[BI]7d4PD[0-9]{3}(AAA|III)", fullmatch=True) | json_values


@given(CATEGORIES)
def test_a_category_that_is_not_of_session_tokens_is_rejected(category: object) -> None:
    token = assembled({"alg": "RS256", "cat": category}, signed_by_key)
    assert is_accepted(verifier().verify, token) == (category in ("cl_B7d4PD111AAA", "cl_I7d4PD111III"))


def clerks_library_accepts(said: dict[str, Any]) -> bool:
    """The verdict of @clerk/backend 3.25.0 on claims at NOW, for an app that allows one origin.

    https://github.com/clerk/javascript, packages/backend/src/jwt/assertions.ts: there, null is not the same as missing.
    """

    def is_number(name: str) -> bool:
        return isinstance(said[name], int | float) and not isinstance(said[name], bool)

    return (
        isinstance(said.get("sub"), str)
        and said.get("azp") == ORIGIN
        and ("exp" in said and is_number("exp") and int(said["exp"]) > NOW - 5)
        and ("nbf" not in said or (is_number("nbf") and int(said["nbf"]) <= NOW + 5))
        and ("iat" not in said or (is_number("iat") and int(said["iat"]) <= NOW + 5))
        and said.get("sts") != "pending"
    )


@given(
    st.dictionaries(
        st.sampled_from(CLAIM_NAMES),
        st.sampled_from([None, "", 0, False, [], {}, NOW, NOW + 60, NOW - 60]) | json_values,
        max_size=3,
    ),
    st.sets(st.sampled_from(CLAIM_NAMES), max_size=2),
    st.sampled_from([1, 2]),
)
def test_claims_that_clerks_own_library_rejects_are_rejected(
    changes: dict[str, Any], missing: set[str], version: int
) -> None:
    said = MINT.payload(ADA, ACME, version=version, azp=ORIGIN) | changes
    said = {name: value for name, value in said.items() if name not in missing}
    assert clerks_library_accepts(said) or not is_accepted(verifier(authorized_parties=[ORIGIN]).verify, KEY.sign(said))


@pytest.mark.parametrize("version", [1, 2])
def test_claims_as_clerk_makes_them_are_accepted_here_and_by_clerks_own_library(version: int) -> None:
    said = MINT.payload(ADA, ACME, version=version, azp=ORIGIN)
    assert clerks_library_accepts(said)
    assert is_accepted(verifier(authorized_parties=[ORIGIN]).verify, KEY.sign(said))


@given(st.sampled_from([GOOD[:-1], GOOD + "=", GOOD.replace(".", "..", 1)]) | st.text(CHARACTERS, max_size=60))
def test_a_token_accepted_here_is_accepted_by_the_library_too(token: str) -> None:
    assert library_accepts(token) or not is_accepted(everything[0].verify, token)


def test_a_good_token_is_accepted_here_and_by_the_library() -> None:
    assert is_accepted(everything[0].verify, GOOD)
    assert library_accepts(GOOD)


def library_accepts(token: str) -> bool:
    try:
        jwt.PyJWS().decode(token, KEY.private.public_key(), algorithms=["RS256"])
    except jwt.PyJWTError:
        return False
    return True
