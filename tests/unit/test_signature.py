"""The signature check: held to the verdicts of the `svix` package, which the functions never load."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import pytest
from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from clerk_supabase.errors import SecretUnavailable, SignatureRejected
from clerk_supabase.ingest import Request
from clerk_supabase.signature import Verifier
from clerk_supabase_cli.standin.deliveries import SignedRequest, api_gateway_event, sign_body

# Source: https://docs.svix.com/receiving/verifying-payloads/how-manual
PUBLISHED_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
PUBLISHED_ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
PUBLISHED_TIMESTAMP = 1614265330
PUBLISHED_BODY = '{"test": 2432232314}'
PUBLISHED_SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="

SECRETS = (PUBLISHED_SECRET, "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD", "whsec_AAECAwQFBgcICQoLDA0ODw==")


def independent_signature(secret: str, svix_id: str, timestamp: str, body: bytes) -> str:
    """Written from Clerk's and Svix's documentation alone."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = b".".join([svix_id.encode(errors="surrogatepass"), timestamp.encode(errors="replace"), body])
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


T = TypeVar("T")

# One request, hostile or not. Its time is a distance from now, because both libraries look at the clock.


@dataclass(frozen=True)
class Attempt:
    body: bytes
    svix_id: str
    timestamp: str
    """A number of seconds from now, or something else."""
    signatures: Sequence[str]
    """`good` and the position of a secret, or an entry as it stands."""
    separator: str
    names: Mapping[str, str]
    """For each part of the signature the name of its header."""
    more: Mapping[str, str]

    def headers(self, now: int) -> dict[str, str]:
        try:
            timestamp = f"{now + float(self.timestamp):f}".rstrip("0").rstrip(".")
        except ValueError:
            timestamp = self.timestamp
        if timestamp in ("nan", "inf", "-inf"):
            timestamp = self.timestamp
        # Svix signs whole seconds, rounded down.
        signed_at = timestamp.split(".", maxsplit=1)[0]
        entries = [
            independent_signature(SECRETS[int(each.removeprefix("good"))], self.svix_id, signed_at, self.body)
            if each.startswith("good")
            else each
            for each in self.signatures
        ]
        values = {"id": self.svix_id, "timestamp": timestamp, "signature": self.separator.join(entries)}
        return {**self.more, **{name: values[part] for part, name in self.names.items()}}


PLAIN_NAMES = {"id": "svix-id", "timestamp": "svix-timestamp", "signature": "svix-signature"}

json_bodies = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
).map(lambda value: json.dumps(value).encode())

bodies = st.one_of(
    json_bodies,
    st.text().map(str.encode),
    st.binary(),
    st.sampled_from([b"", b"\xff\xfe", b"\xed\xa0\x80", '{"name": "Zoë 😀"}'.encode()]),
)

timestamps = st.one_of(
    st.just("0"),
    st.integers(-299, 299).map(str),
    st.floats(-299, 299).map(lambda seconds: f"{seconds:.3f}"),
    st.sampled_from(["-300", "300", "-301", "301", "-3600", "3600"]),
    st.sampled_from(["", " ", "now", "nan", "inf", "-inf", "1e400", "0x10", "--1", "۱۷۰۰۰۰۰۰۰۰", "1_0"]),
    st.integers(min_value=2**31).map(str),
    st.text(max_size=5).filter(lambda text: not _is_number(text)),
)

entries = st.one_of(
    st.sampled_from(["good0", "good1", "good2"]),
    st.sampled_from(
        [
            "",
            "v1",
            "v1,",
            ",",
            "v1,a,b",
            "v1,====",
            "v1,a",
            "v1,é",
            "v1,\x00",
            "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==",
            "v2,AAAA",
            "V1,AAAA",
            "\ud800",
        ]
    ),
    st.binary(min_size=32, max_size=32).map(lambda digest: f"v1,{base64.b64encode(digest).decode()}"),
    st.text(max_size=5).filter(lambda text: not text.startswith("good")),
)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


@st.composite
def header_names(draw: st.DrawFn) -> dict[str, str]:
    """Svix's own names or the white-label ones, in any case, some of them missing."""
    names: dict[str, str] = {}
    for part in ("id", "timestamp", "signature"):
        prefix = draw(st.sampled_from(["svix", "svix", "svix", "webhook"]))
        name = draw(st.sampled_from([str.lower, str.title, str.upper]))(f"{prefix}-{part}")
        if draw(st.integers(0, 19)):
            names[part] = name
    return names


more_headers = st.dictionaries(
    st.sampled_from(
        [
            f"{prefix}-{part}"
            for prefix in ("svix", "Svix", "webhook", "WEBHOOK")
            for part in ("id", "timestamp", "signature", "Id")
        ]
    ),
    st.sampled_from(["", "msg_other", "1700000000", "v1,AAAA"]),
    max_size=2,
)

ids = st.sampled_from(["", ".", "msg_é", "msg_\ud800", "msg 1"]) | st.text(max_size=8)
separators = st.sampled_from(["  ", ",", "\t", ""])


@st.composite
def attempts(draw: st.DrawFn) -> Attempt:
    """A genuine request with a few parts replaced, so that both verdicts are common."""
    parts = ["id", "timestamp", "signatures", "separator", "names", "more"]
    replaced = draw(st.sets(st.sampled_from(parts), max_size=3))

    def part(name: str, genuine: T, hostile: st.SearchStrategy[T]) -> T:
        return draw(hostile) if name in replaced else genuine

    return Attempt(
        body=draw(bodies),
        svix_id=part("id", PUBLISHED_ID, ids),
        timestamp=part("timestamp", "0", timestamps),
        signatures=part("signatures", ["good0"], st.lists(entries, min_size=1, max_size=3)),
        separator=part("separator", " ", separators),
        names=part("names", PLAIN_NAMES, header_names()),
        more=part("more", {}, more_headers),
    )


def svix_accepts(secrets: Sequence[str], request: SignedRequest) -> bool:
    return any(_one_accepts(secret, request) for secret in secrets)


def _one_accepts(secret: str, request: SignedRequest) -> bool:
    # The import takes half a second, which a process without these tests need not spend.
    from svix.webhooks import Webhook, WebhookVerificationError  # noqa: PLC0415

    try:
        Webhook(secret).verify(request.body, dict(request.headers))
    except (WebhookVerificationError, ValueError):
        return False
    return True


def we_accept(secrets: Sequence[str], request: SignedRequest, *, base64_encoded: bool = True) -> bool:
    """Our verdict, on a request as API Gateway passes it on."""
    received = Request.from_api_gateway(api_gateway_event(request, base64_encoded=base64_encoded))
    try:
        Verifier(secrets).verify(received.body, received.headers)
    except SignatureRejected:
        return False
    return True


@settings(max_examples=300)
@given(attempt=attempts(), secrets=st.lists(st.sampled_from(SECRETS), min_size=1, max_size=3))
@example(Attempt(b"{}", "msg_1", "0", ["good0"], " ", PLAIN_NAMES, {}), SECRETS[:1])
@example(Attempt(b"{}", "msg_1", "0", ["good0"], " ", PLAIN_NAMES, {"Svix-Id": "msg_2"}), SECRETS[:1])
@example(Attempt(b"{}", "msg_1", "-300", ["good0"], " ", PLAIN_NAMES, {}), SECRETS[:1])
@example(Attempt(b"{}", "msg_1", "300", ["good0"], " ", PLAIN_NAMES, {}), SECRETS[:1])
@example(Attempt(b"{}", "msg_1", "1.5", ["good1"], " ", PLAIN_NAMES, {}), SECRETS[:2])
@example(Attempt(b"{}", "msg_1", "0", ["v1a,AAAA", "good2"], " ", PLAIN_NAMES, {}), SECRETS)
@example(Attempt(b"{}", "msg_1", "0", ["good0", "v1"], " ", PLAIN_NAMES, {}), SECRETS[:1])
@example(Attempt(b"{}", "msg_1", "0", ["v1", "good0"], " ", PLAIN_NAMES, {}), SECRETS[:1])
@example(Attempt(b"{}", "msg_1", "0", ["good1", "v1"], " ", PLAIN_NAMES, {}), SECRETS[:2])
@example(Attempt(b"\xff", "msg_1", "0", ["good0"], " ", PLAIN_NAMES, {}), SECRETS[:1])
def test_every_request_gets_the_verdict_of_the_svix_package(attempt: Attempt, secrets: list[str]) -> None:
    request = SignedRequest(attempt.headers(int(time.time())), attempt.body)

    before = svix_accepts(secrets, request)
    ours = we_accept(secrets, request)
    after = svix_accepts(secrets, request)

    event(f"accepted: {ours}")
    # At the edge of the five minutes the clock may tick between two looks; then either verdict is right.
    assert ours in (before, after)


@pytest.mark.parametrize("later", [0, 1])
def test_of_a_time_rounded_to_microseconds_the_whole_seconds_are_signed_as_in_the_svix_package(later: int) -> None:
    now = int(time.time())
    headers = {
        "svix-id": "msg_1",
        "svix-timestamp": f"{now}.9999996",
        "svix-signature": independent_signature(SECRETS[0], "msg_1", str(now + later), b"{}"),
    }
    request = SignedRequest(headers, b"{}")
    assert svix_accepts(SECRETS[:1], request) == we_accept(SECRETS[:1], request) == bool(later)


@pytest.mark.parametrize("base64_encoded", [False, True])
@pytest.mark.parametrize("prefix", ["svix", "Svix", "SVIX", "webhook", "Webhook"])
def test_a_genuine_request_is_accepted_whatever_the_case_or_label_of_its_headers(
    prefix: str, base64_encoded: bool
) -> None:
    signed = sign_body('{"name": "Zoë 😀"}', SECRETS[0])
    headers = {name.replace("svix", prefix): value for name, value in signed.headers.items()}
    assert we_accept(SECRETS, SignedRequest(headers, signed.body), base64_encoded=base64_encoded)


def test_the_verified_id_is_the_one_that_was_signed() -> None:
    signed = sign_body("{}", SECRETS[0], svix_id="msg_1")
    confusing = {**signed.headers, "webhook-id": "msg_2"}
    assert Verifier(SECRETS).verify(signed.body, confusing) == "msg_1"


def test_svix_own_headers_win_over_white_label_ones() -> None:
    signed = sign_body("{}", SECRETS[0])
    white_label = {name.replace("svix", "webhook"): "forged" for name in signed.headers}
    assert we_accept(SECRETS, SignedRequest({**white_label, **signed.headers}, signed.body))


def test_the_published_test_vector_is_reproduced() -> None:
    signed = sign_body(PUBLISHED_BODY, PUBLISHED_SECRET, svix_id=PUBLISHED_ID, at=PUBLISHED_TIMESTAMP)
    assert signed.headers["svix-signature"] == PUBLISHED_SIGNATURE
    # The vector is of 2021, too old to be accepted: it proves the signer below, whose work of today is accepted.
    by_hand = independent_signature(PUBLISHED_SECRET, PUBLISHED_ID, str(PUBLISHED_TIMESTAMP), PUBLISHED_BODY.encode())
    assert by_hand == PUBLISHED_SIGNATURE

    now = str(int(time.time()))
    headers = {
        "svix-id": PUBLISHED_ID,
        "svix-timestamp": now,
        "svix-signature": independent_signature(PUBLISHED_SECRET, PUBLISHED_ID, now, PUBLISHED_BODY.encode()),
    }
    assert Verifier([PUBLISHED_SECRET]).verify(PUBLISHED_BODY.encode(), headers) == PUBLISHED_ID


def test_the_published_test_vector_is_rejected_today_because_it_is_stale() -> None:
    signed = sign_body(PUBLISHED_BODY, PUBLISHED_SECRET, svix_id=PUBLISHED_ID, at=PUBLISHED_TIMESTAMP)
    with pytest.raises(SignatureRejected, match="too old"):
        Verifier([PUBLISHED_SECRET]).verify(signed.body, signed.headers)


@pytest.mark.parametrize(("seconds", "accepted"), [(-290, True), (290, True), (-310, False), (310, False)])
def test_an_attempt_is_good_for_five_minutes_in_both_directions(seconds: int, accepted: bool) -> None:
    assert we_accept(SECRETS, sign_body("{}", SECRETS[0], at=time.time() + seconds)) is accepted


@given(position=st.integers(0), bit=st.integers(0, 7))
def test_a_body_in_which_one_bit_differs_is_rejected(position: int, bit: int) -> None:
    signed = sign_body('{"type":"user.created","data":{"id":"user_1"}}', SECRETS[0])
    body = bytearray(signed.body)
    body[position % len(body)] ^= 1 << bit
    assert not we_accept(SECRETS, SignedRequest(signed.headers, bytes(body)))


@pytest.mark.parametrize("part", ["svix-id", "svix-timestamp", "svix-signature"])
def test_a_request_without_one_of_the_three_headers_is_rejected(part: str) -> None:
    signed = sign_body("{}", SECRETS[0])
    headers = {name: value for name, value in signed.headers.items() if name != part}
    assert not we_accept(SECRETS, SignedRequest(headers, signed.body))
    assert not we_accept(SECRETS, SignedRequest({**headers, part: ""}, signed.body))


def test_during_a_rotation_either_of_two_secrets_is_enough() -> None:
    old, new = SECRETS[:2]
    for signer in (old, new):
        assert we_accept([new, old], sign_body("{}", signer))
    assert not we_accept([new], sign_body("{}", old))


def test_svix_signs_with_every_live_key_during_a_rotation_and_one_known_key_is_enough() -> None:
    both = [sign_body("{}", secret, svix_id="msg_1", at=time.time()) for secret in SECRETS[:2]]
    signatures = " ".join(each.headers["svix-signature"] for each in both)
    request = SignedRequest({**both[0].headers, "svix-signature": signatures}, b"{}")
    assert we_accept(SECRETS[:1], request)
    assert we_accept(SECRETS[1:2], request)
    assert not we_accept(SECRETS[2:], request)


@pytest.mark.parametrize(
    "secret",
    [
        "whsec_",
        "whsec_!!!!",
        "whsec_a",
        "hello",
        '{"CLERK_WEBHOOK_SIGNING_SECRET":"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}',
        "postgresql://clerk_sync_worker:secret@db.example.test/postgres",
        "whsec_MfKQ9r8GKYqr<paste-yours>",
    ],
)
def test_a_secret_that_is_not_whsec_and_base64_is_named_as_the_problem(secret: str) -> None:
    with pytest.raises(SecretUnavailable) as caught:
        Verifier([SECRETS[0], secret])
    assert "MfKQ" not in str(caught.value)
    assert "db.example" not in str(caught.value)


def test_no_secret_at_all_is_named_as_the_problem() -> None:
    with pytest.raises(SecretUnavailable, match="empty"):
        Verifier([])


def test_the_rejection_names_no_secret_and_no_part_of_the_body() -> None:
    signed = sign_body('{"email": "ada@example.test"}', SECRETS[1])
    with pytest.raises(SignatureRejected) as caught:
        Verifier(SECRETS[:1]).verify(signed.body, signed.headers)
    assert "ada@" not in str(caught.value)
    assert SECRETS[0] not in str(caught.value)


def test_broken_base64_in_the_request_is_rejected_like_a_bad_signature() -> None:
    with pytest.raises(SignatureRejected) as caught:
        Request.from_api_gateway({"headers": {}, "body": "no base64!", "isBase64Encoded": True})
    assert isinstance(caught.value.__cause__, binascii.Error)
