"""Tokens: the accepted ones, and every reason for a rejection."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any, Final

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from clerk_supabase.errors import Rejection, TokenRejected
from clerk_supabase.settings import SettingsError
from clerk_supabase.tokens.claims import Actor, Claims, Organization
from clerk_supabase.tokens.verifiers import MAX_TOKEN_LENGTH, LegacyVerifier, SessionVerifier, keys_in_pem
from clerk_supabase_cli.standin.token_mint import Mint, SigningKey, legacy_token
from tests.kit.clock import Clock
from tests.kit.tokens import (
    ACME,
    ADA,
    ISSUER,
    KEY,
    MINT,
    NOW,
    OTHER_KEY,
    SECRET,
    assembled,
    keys,
    rejection,
    signed_by_key,
    verifier,
)

NAMELESS_KEY: Final = SigningKey(OTHER_KEY.private, "ins_2Somebody")


def legacy_verifier(**settings: Any) -> LegacyVerifier:
    return LegacyVerifier(SECRET, **({"clock": lambda: NOW} | settings))


def legacy(user_id: str = ADA, organization: Organization | None = None, **changes: Any) -> str:
    secret = changes.pop("secret", SECRET)
    return legacy_token(user_id, organization, secret=secret, issuer=ISSUER, clock=lambda: NOW, **changes)


def test_a_version_2_token_says_who_and_in_which_organization() -> None:
    token = MINT.session(ADA, ACME, pla="o:team,u:free", act={"sub": "user_2Boss", "iss": "x", "sid": "sess_2B"})
    assert verifier().verify(token) == Claims(
        version="v2",
        user_id=ADA,
        session_id="sess_2Ada",
        session_status="active",
        issuer=ISSUER,
        authorized_party="http://localhost:3000",
        issued_at=NOW,
        not_before=NOW - 10,
        expires_at=NOW + 60,
        organization=ACME,
        role="authenticated",
        audience=(),
        factor_ages=(0, -1),
        actor=Actor("user_2Boss", "sess_2B", "x", None),
        plans=("o:team", "u:free"),
        features=("o:docs", "o:billing"),
        payload=payload_of(token),
    )


def test_a_version_1_token_says_the_same() -> None:
    one = verifier().verify(MINT.session(ADA, ACME, version=1))
    two = verifier().verify(MINT.session(ADA, ACME, version=2))
    assert (one.version, two.version) == ("v1", "v2")
    assert one.organization == two.organization == ACME
    assert (one.user_id, one.session_id, one.factor_ages) == (two.user_id, two.session_id, two.factor_ages)


def test_a_legacy_token_says_who_and_belongs_to_no_session() -> None:
    claims = legacy_verifier(issuer=ISSUER).verify(legacy(ADA, ACME))
    assert (claims.version, claims.user_id, claims.session_id) == ("legacy", ADA, None)
    assert claims.organization == ACME


@pytest.mark.parametrize("version", [1, 2])
def test_without_an_active_organization_there_is_none(version: int) -> None:
    assert verifier().verify(MINT.session(ADA, version=version)).organization is None


@pytest.mark.parametrize(
    ("version", "changes"),
    [
        (1, {"org_id": "org_2Acme", "org_role": "admin"}),
        (1, {"org_id": "org_2Acme", "org_role": "org:admin"}),
        (2, {"o": {"id": "org_2Acme", "rol": "admin"}}),
        (2, {"o": {"id": "org_2Acme", "rol": "org:admin"}}),
    ],
)
def test_a_role_is_always_spelled_with_its_prefix(version: int, changes: dict[str, Any]) -> None:
    organization = verifier().verify(MINT.session(ADA, version=version, **changes)).organization
    assert organization == Organization("org_2Acme", None, "org:admin", ())


def test_a_version_does_not_read_the_claims_of_the_other() -> None:
    version_1: dict[str, Any] = {"org_id": "org_2Other", "org_role": "org:admin", "org_permissions": ["org:docs:read"]}
    assert verifier().verify(MINT.session(ADA, **version_1)).organization is None
    assert verifier().verify(MINT.session(ADA, version=1, o={"id": "org_2Other", "rol": "admin"})).organization is None


def test_claims_hold_the_json_as_it_was_signed() -> None:
    text = json.dumps(MINT.payload(ADA, ACME, name="Ada \u2028 Lovelace"), indent=1)
    assert verifier().verify(KEY.sign(text.encode())).payload == text


def test_unknown_claims_and_headers_do_not_matter() -> None:
    token = KEY.sign(MINT.payload(ADA, aud="an-api", custom={"deep": [1, None]}), oiat=NOW, jku="https://evil.test")
    assert verifier().verify(token).user_id == ADA


# Every rejection, by what is done to a good token.


def payload(**changes: Any) -> str:
    return MINT.session(ADA, ACME, **changes)


SESSION_REFUSALS: Final[list[tuple[str, str, Rejection]]] = [
    ("empty", "", Rejection.MALFORMED),
    ("one part", "eyJ", Rejection.MALFORMED),
    ("four parts", payload() + ".e30", Rejection.MALFORMED),
    ("an empty signature", payload().rpartition(".")[0] + ".", Rejection.MALFORMED),
    ("a header before it", "Bearer " + payload(), Rejection.MALFORMED),
    ("a line end behind it", payload() + "\n", Rejection.MALFORMED),
    ("padding", payload() + "=", Rejection.MALFORMED),
    ("base64 of the other alphabet", "+/+/." + payload().partition(".")[2], Rejection.MALFORMED),
    ("another script", "\u0435" + payload()[1:], Rejection.MALFORMED),
    ("a header that is not JSON", "bm90." + payload().partition(".")[2], Rejection.MALFORMED),
    ("a header that is a list", "W10." + payload().partition(".")[2], Rejection.MALFORMED),
    ("a header that is deep", jwt.utils.base64url_encode(b"[" * 9000).decode() + ".e30.eA", Rejection.MALFORMED),
    ("too long", "a" * (MAX_TOKEN_LENGTH + 1), Rejection.TOO_LONG),
    ("too long, well signed", payload(padding="x" * MAX_TOKEN_LENGTH), Rejection.TOO_LONG),
    ("another typ", KEY.sign(MINT.payload(ADA), typ="at+jwt"), Rejection.TYPE),
    ("OAuth", KEY.sign(MINT.payload(ADA), typ="application/at+jwt"), Rejection.TYPE),
    ("no typ", KEY.sign(MINT.payload(ADA), typ=None), Rejection.TYPE),
    ("crit", KEY.sign(MINT.payload(ADA), crit=["b64"]), Rejection.CRITICAL_HEADER),
    ("b64", KEY.sign(MINT.payload(ADA), b64=False), Rejection.CRITICAL_HEADER),
    ("template category", KEY.sign(MINT.payload(ADA), cat="cl_B7d4PD222AAA"), Rejection.TEMPLATE),
    ("machine category", KEY.sign(MINT.payload(ADA), cat="cl_B7d4PD333AAA"), Rejection.MACHINE),
    ("machine subject", payload(sub="mch_2Robot"), Rejection.MACHINE),
    ("exp null", KEY.sign(MINT.payload(ADA) | {"exp": None}), Rejection.CLAIM_MALFORMED),
    ("exp beyond what a number holds", KEY.sign(MINT.payload(ADA) | {"exp": 2**53}), Rejection.CLAIM_MALFORMED),
    ("iat null", KEY.sign(MINT.payload(ADA) | {"iat": None}), Rejection.CLAIM_MALFORMED),
    ("nbf null", KEY.sign(MINT.payload(ADA) | {"nbf": None}), Rejection.CLAIM_MALFORMED),
    ("somebody else's key", OTHER_KEY.sign(MINT.payload(ADA)), Rejection.SIGNATURE),
    ("unknown kid", NAMELESS_KEY.sign(MINT.payload(ADA)), Rejection.UNKNOWN_KEY),
    ("unknown kid, right key", KEY.sign(MINT.payload(ADA), kid="ins_2Other"), Rejection.UNKNOWN_KEY),
    ("no kid", KEY.sign(MINT.payload(ADA), kid=None), Rejection.UNKNOWN_KEY),
    ("version 3", payload(v=3), Rejection.VERSION),
    ("version true", payload(v=True), Rejection.VERSION),
    ("version as text", payload(v="2"), Rejection.VERSION),
    ("no exp", payload(exp=None), Rejection.CLAIM_MISSING),
    ("no iat", payload(iat=None), Rejection.CLAIM_MISSING),
    ("no sub", payload(sub=None), Rejection.CLAIM_MISSING),
    ("empty sub", payload(sub=""), Rejection.CLAIM_MISSING),
    ("no sid, as from a template", payload(sid=None), Rejection.CLAIM_MISSING),
    ("no iss", payload(iss=None), Rejection.CLAIM_MISSING),
    ("an organization without id", payload(o={"rol": "admin"}), Rejection.CLAIM_MISSING),
    ("exp as text", payload(exp=str(NOW + 60)), Rejection.CLAIM_MALFORMED),
    ("exp true", payload(exp=True), Rejection.CLAIM_MALFORMED),
    ("exp beyond any date", payload(exp=10**30), Rejection.CLAIM_MALFORMED),
    ("exp negative", payload(exp=-1), Rejection.CLAIM_MALFORMED),
    ("nbf as a list", payload(nbf=[NOW]), Rejection.CLAIM_MALFORMED),
    ("sub a number", payload(sub=7), Rejection.CLAIM_MALFORMED),
    ("sub a uuid", payload(sub="2f1e8a52-5f0a-4b52-9df4-0a0a0a0a0a0a"), Rejection.CLAIM_MALFORMED),
    ("sub only a prefix", payload(sub="user_"), Rejection.CLAIM_MALFORMED),
    ("sub with a control character", payload(sub="user_2Ada\x00"), Rejection.CLAIM_MALFORMED),
    ("sub with a blank", payload(sub="user_2Ada x"), Rejection.CLAIM_MALFORMED),
    ("sub endless", payload(sub="user_" + "x" * 300), Rejection.CLAIM_MALFORMED),
    ("sid of another kind", payload(sid="client_2Ada"), Rejection.CLAIM_MALFORMED),
    ("iss a list", payload(iss=[ISSUER]), Rejection.CLAIM_MALFORMED),
    ("azp a list", payload(azp=["http://localhost:3000"]), Rejection.CLAIM_MALFORMED),
    ("o a list", payload(o=[]), Rejection.CLAIM_MALFORMED),
    ("per a list", payload(o={"id": "org_2Acme", "per": ["read"], "fpm": "1"}), Rejection.CLAIM_MALFORMED),
    ("fpm a number", payload(o={"id": "org_2Acme", "per": "read", "fpm": 1}), Rejection.CLAIM_MALFORMED),
    ("fea without scope", payload(fea="docs"), Rejection.CLAIM_MALFORMED),
    ("pla without scope", payload(pla="pro"), Rejection.CLAIM_MALFORMED),
    ("version 1 permissions as text", payload(version=1, org_permissions="org:docs:read"), Rejection.CLAIM_MALFORMED),
    ("version 1 permissions of numbers", payload(version=1, org_permissions=[1]), Rejection.CLAIM_MALFORMED),
    ("an actor that is none", payload(act="user_2Boss"), Rejection.CLAIM_MALFORMED),
    ("an actor without sub", payload(act={}), Rejection.CLAIM_MISSING),
    ("one factor", payload(fva=[1]), Rejection.CLAIM_MALFORMED),
    ("factors of truth", payload(fva=[True, 1]), Rejection.CLAIM_MALFORMED),
    ("expired", payload(exp=NOW - 5), Rejection.EXPIRED),
    ("not yet valid", payload(nbf=NOW + 6), Rejection.NOT_YET_VALID),
    ("issued in the future", payload(iat=NOW + 6), Rejection.ISSUED_IN_FUTURE),
    ("another issuer", payload(iss="https://clerk.other.test"), Rejection.ISSUER),
    ("the issuer with a slash", payload(iss=ISSUER + "/"), Rejection.ISSUER),
    ("pending", payload(sts="pending"), Rejection.SESSION_NOT_ACTIVE),
    ("a status of tomorrow", payload(sts="revoked"), Rejection.SESSION_NOT_ACTIVE),
    ("legacy", legacy(), Rejection.ALGORITHM),
]


def test_a_payload_that_is_not_an_object_is_rejected_though_well_signed() -> None:
    for data in (b"", b"not JSON", b"[]", b'"text"', b"null", b'{"sub":"\xff"}', b'{"sub": NaN}', b"{}{}", b"[" * 9000):
        assert rejection(verifier().verify, KEY.sign(data)) is Rejection.MALFORMED


@pytest.mark.parametrize(
    ("token", "reason"),
    [pytest.param(token, reason, id=title) for title, token, reason in SESSION_REFUSALS],
)
def test_a_session_token_is_rejected_for_its_own_reason(token: str, reason: Rejection) -> None:
    assert rejection(verifier().verify, token) is reason


@pytest.mark.parametrize(
    "algorithm", ["none", "None", "HS256", "RS384", "RS512", "PS256", "ES256", "rs256", "", None, 1, []]
)
def test_no_other_algorithm_is_accepted(algorithm: object) -> None:
    assert rejection(verifier().verify, assembled({"alg": algorithm}, b"signature")) is Rejection.ALGORITHM


@pytest.mark.parametrize("form", ["pem", "der", "jwk", "modulus"])
def test_a_token_signed_with_the_public_key_as_a_secret_is_rejected(form: str) -> None:
    public = KEY.private.public_key()
    secret = {
        "pem": KEY.public_pem.encode(),
        "der": public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        "jwk": json.dumps(dict(KEY.jwk)).encode(),
        "modulus": str(KEY.jwk["n"]).encode(),
    }[form]
    token = assembled({"alg": "HS256"}, lambda signing: hmac.digest(secret, signing, hashlib.sha256))
    assert rejection(verifier().verify, token) is Rejection.ALGORITHM
    assert rejection(SessionVerifier(ISSUER, keys_in_pem(KEY.public_pem)).verify, token) is Rejection.ALGORITHM


@pytest.mark.parametrize("category", ["cl_B7d4PD111AAA", "cl_I7d4PD111III"])
def test_a_category_of_session_tokens_is_accepted(category: str) -> None:
    assert verifier().verify(KEY.sign(MINT.payload(ADA), cat=category)).user_id == ADA


def test_a_token_from_before_the_categories_is_accepted() -> None:
    assert verifier().verify(KEY.sign(MINT.payload(ADA), cat=None)).user_id == ADA


@pytest.mark.parametrize(
    "category",
    [
        *("cl_B7d4PD444AAA", "cl_B7d4PD555AAA", "cl_I7d4PD222III", "cl_I7d4PD111AAA", "cl_B7d4PD111III"),
        *(
            "CL_B7D4PD111AAA",
            " cl_B7d4PD111AAA",
            "cl_B7d4PD111AAA\n",
            "cl_B7d4PD111",
            "",
            "111AAA",
            "x222AAA",
            "x333AAA",
        ),
        *(None, 0, 1, True, False, [], ["cl_B7d4PD111AAA"], {}, {"cl_B7d4PD111AAA": 1}),
    ],
)
def test_any_other_category_is_rejected(category: object) -> None:
    token = assembled({"alg": "RS256", "cat": category}, signed_by_key)
    assert rejection(verifier().verify, token) is Rejection.CATEGORY


def test_the_signature_comes_before_the_claims() -> None:
    assert rejection(verifier().verify, OTHER_KEY.sign({"exp": 1})) is Rejection.SIGNATURE


def test_the_key_of_another_instance_does_not_speak_for_this_one() -> None:
    # One server that checks tokens of two instances: neither knows the other's keys.
    theirs = Mint(NAMELESS_KEY, "https://clerk.other.test", clock=lambda: NOW)
    other = SessionVerifier(theirs.issuer, keys(NAMELESS_KEY), clock=lambda: NOW)
    assert other.verify(theirs.session(ADA)).user_id == ADA
    assert rejection(verifier().verify, theirs.session(ADA)) is Rejection.UNKNOWN_KEY
    assert rejection(verifier().verify, theirs.session(ADA, iss=ISSUER)) is Rejection.UNKNOWN_KEY
    assert rejection(other.verify, theirs.session(ADA, iss=ISSUER)) is Rejection.ISSUER


def test_a_rejection_says_what_is_wrong_in_words() -> None:
    with pytest.raises(TokenRejected, match=r"^the token was not issued by https://clerk\.example\.test$"):
        verifier().verify(payload(iss="https://clerk.example.org"))


def test_five_seconds_are_forgiven_each_way() -> None:
    assert verifier().verify(payload(exp=NOW - 4, nbf=NOW + 5, iat=NOW + 5)).user_id == ADA


def test_times_may_be_fractions() -> None:
    assert verifier().verify(payload(exp=NOW + 0.5)).expires_at == NOW


def test_a_token_without_nbf_is_valid_at_once() -> None:
    assert verifier().verify(payload(nbf=None)).not_before is None


def test_only_the_origins_that_are_allowed_may_use_their_tokens() -> None:
    strict = verifier(authorized_parties=["https://app.example.test"])
    assert strict.verify(payload(azp="https://app.example.test")).authorized_party == "https://app.example.test"
    assert rejection(strict.verify, payload(azp="https://evil.test")) is Rejection.AUTHORIZED_PARTY
    assert rejection(strict.verify, payload(azp="https://app.example.test.evil.test")) is Rejection.AUTHORIZED_PARTY


@pytest.mark.parametrize("azp", [None, ""])
def test_a_token_without_origin_passes_only_where_native_apps_are_allowed(azp: str | None) -> None:
    parties = ["https://app.example.test"]
    assert (
        rejection(verifier(authorized_parties=parties).verify, payload(azp=azp)) is Rejection.AUTHORIZED_PARTY_MISSING
    )
    lenient = verifier(authorized_parties=parties, accept_missing_party=True)
    assert lenient.verify(payload(azp=azp)).authorized_party is None
    assert rejection(lenient.verify, payload(azp="https://evil.test")) is Rejection.AUTHORIZED_PARTY


def test_all_problems_are_found_not_only_the_first() -> None:
    strict = verifier(authorized_parties=["https://app.example.test"])
    claims = strict.authenticate(payload(exp=NOW - 60, iss="https://clerk.other.test", sts="pending"))
    assert [problem.reason for problem in strict.problems(claims)] == [
        *(Rejection.EXPIRED, Rejection.ISSUER, Rejection.AUTHORIZED_PARTY, Rejection.SESSION_NOT_ACTIVE)
    ]


def test_a_rejection_quotes_nothing_that_was_sent() -> None:
    marker = "quoted_by_mistake"
    for token in (
        KEY.sign(MINT.payload(ADA), typ=marker),
        OTHER_KEY.sign(MINT.payload(ADA), kid=marker),
        payload(iss=marker),
        payload(sub=marker),
        payload(sts=marker),
        payload(fea=marker),
        KEY.sign(marker.encode()),
        marker,
    ):
        with pytest.raises(TokenRejected) as caught:
            verifier(authorized_parties=["x"]).verify(token)
        assert marker not in str(caught.value)


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        (legacy(secret=SECRET[::-1]), Rejection.SIGNATURE),
        (legacy(exp=None), Rejection.CLAIM_MISSING),
        (legacy(iat=None), Rejection.CLAIM_MISSING),
        (legacy(sub=None), Rejection.CLAIM_MISSING),
        # Supabase's own users, and its keys `anon` and `service_role`, which the same secret signs.
        (legacy("2f1e8a52-5f0a-4b52-9df4-0a0a0a0a0a0a"), Rejection.CLAIM_MALFORMED),
        (legacy(sub=None, aud=None, role="service_role"), Rejection.CLAIM_MISSING),
        (legacy(role="service_role"), Rejection.ROLE),
        (legacy(role=None), Rejection.ROLE),
        (legacy(aud=None), Rejection.AUDIENCE),
        (legacy(aud="anon"), Rejection.AUDIENCE),
        (legacy(aud={"authenticated": True}), Rejection.CLAIM_MALFORMED),
        (legacy(exp=NOW - 5), Rejection.EXPIRED),
        (legacy(nbf=NOW + 6), Rejection.NOT_YET_VALID),
        (legacy(iss="https://clerk.other.test"), Rejection.ISSUER),
        (MINT.session(ADA), Rejection.ALGORITHM),
        (legacy().rpartition(".")[0] + ".", Rejection.MALFORMED),
    ],
)
def test_a_legacy_token_is_rejected_for_its_own_reason(token: str, reason: Rejection) -> None:
    assert rejection(legacy_verifier(issuer=ISSUER).verify, token) is reason


def test_several_audiences_may_include_authenticated() -> None:
    assert legacy_verifier().verify(legacy(aud=["x", "authenticated"])).audience == ("x", "authenticated")


@pytest.mark.parametrize("secret", ["", "short", "x" * 31, KEY.public_pem, '{"kty": "oct", "k": "' + "x" * 40 + '"}'])
def test_a_secret_that_is_short_or_a_key_of_another_kind_is_rejected(secret: str) -> None:
    with pytest.raises(SettingsError) as caught:
        LegacyVerifier(secret)
    assert not secret or secret not in str(caught.value)


def test_a_verifier_needs_an_issuer() -> None:
    with pytest.raises(SettingsError):
        SessionVerifier("", keys(KEY))


def test_a_signature_has_one_spelling() -> None:
    # The last character of 256 bytes holds four bits that mean nothing.
    token = payload()
    digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    other = digits[digits.index(token[-1]) ^ 1]
    assert rejection(verifier().verify, token[:-1] + other) is Rejection.MALFORMED


def test_the_clock_is_the_verifiers_own() -> None:
    clock = Clock(NOW)
    checker = verifier(clock=clock)
    token = MINT.session(ADA)
    checker.verify(token)
    clock.now += 64
    checker.verify(token)
    clock.now += 1
    assert rejection(checker.verify, token) is Rejection.EXPIRED


def test_a_minted_token_is_good_now() -> None:
    token = Mint(KEY, ISSUER).session(ADA)
    assert SessionVerifier(ISSUER, keys(KEY)).verify(token).issued_at == pytest.approx(time.time(), abs=30)


def payload_of(token: str) -> str:
    segment = token.split(".")[1]
    return base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4)).decode()
