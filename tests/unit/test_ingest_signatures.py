"""Signatures and signing secrets at ingest: the requests that are answered 401, after a rotation and in an outage."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from clerk_supabase.answer import Answer
from clerk_supabase_cli.standin.deliveries import SignedRequest, api_gateway_event, generate_secret, sign, sign_body
from tests.kit.aws import Account
from tests.kit.ingesting import CREATED, Endpoint, counted


@pytest.fixture
def endpoint(account: Account) -> Endpoint:
    return Endpoint(account)


# Not signed by Clerk


def rejected_requests(secret: str) -> dict[str, SignedRequest]:
    good = sign(CREATED, secret)

    def without(name: str) -> SignedRequest:
        return SignedRequest({key: value for key, value in good.headers.items() if key != name}, good.body)

    def but(**headers: str) -> SignedRequest:
        changed = {name.replace("_", "-"): value for name, value in headers.items()}
        return SignedRequest({**good.headers, **changed}, good.body)

    return {
        "no svix-id": without("svix-id"),
        "no svix-timestamp": without("svix-timestamp"),
        "no svix-signature": without("svix-signature"),
        "no headers": SignedRequest({}, good.body),
        "empty id": but(svix_id=""),
        "another id": but(svix_id="msg_other"),
        "another secret": sign(CREATED, generate_secret()),
        "another body": SignedRequest(good.headers, good.body.replace(b"Ada", b"Eva")),
        "re-serialised body": SignedRequest(good.headers, json.dumps(CREATED).encode()),
        "stale": sign(CREATED, secret, at=time.time() - 310),
        "of the future": sign(CREATED, secret, at=time.time() + 310),
        "timestamp text": but(svix_timestamp="yesterday"),
        "timestamp nan": but(svix_timestamp="nan"),
        "timestamp infinite": but(svix_timestamp="inf"),
        "timestamp huge": but(svix_timestamp="9" * 400),
        "signature without a comma": but(svix_signature="v1"),
        "signature with two commas": but(svix_signature="v1,a,b"),
        "signatures two spaces apart": but(svix_signature=f"v1,AAAA  {good.headers['svix-signature']}"),
        "signature not base64": but(svix_signature="v1,a"),
        "signature not ascii": but(svix_signature="v1,é"),
        "only a newer kind of signature": but(svix_signature="v1a,AAAA"),
        "header that is not UTF-8": but(svix_id="msg_\udcff"),
    }


@pytest.mark.parametrize("name", rejected_requests(generate_secret()))
def test_a_request_that_clerk_did_not_sign_is_answered_401(endpoint: Endpoint, name: str) -> None:
    answer = endpoint.post(rejected_requests(endpoint.secret)[name])
    assert answer == Answer(401, "unauthorized")
    assert endpoint.stored_nothing()
    assert counted("Rejected") == 1


@pytest.mark.parametrize("body", [b"\xff\xfe", b'{"name":"\xed\xa0\x80"}'])
def test_a_body_that_is_not_utf_8_is_answered_401_like_a_bad_signature(endpoint: Endpoint, body: bytes) -> None:
    request = SignedRequest(sign_body("{}", endpoint.secret).headers, body)
    assert endpoint.post(request, base64_encoded=True) == Answer(401, "unauthorized")


def test_a_body_that_is_not_the_base64_it_claims_to_be_is_answered_401(endpoint: Endpoint) -> None:
    event = api_gateway_event(sign(CREATED, endpoint.secret)) | {"isBase64Encoded": True}
    assert endpoint.ingest.answer(event) == Answer(401, "unauthorized")


@pytest.mark.parametrize(
    "event",
    [
        {"headers": None, "body": None, "isBase64Encoded": False},
        {"headers": {}, "body": "{}"},
        {"headers": {"svix-id": None}, "body": "{}"},
        {"headers": {}, "body": "\ud800", "isBase64Encoded": False},
        {"headers": {}, "body": "é", "isBase64Encoded": True},
        {},
    ],
)
def test_a_request_without_headers_or_body_is_answered_401(endpoint: Endpoint, event: dict[str, Any]) -> None:
    assert endpoint.ingest.answer(event) == Answer(401, "unauthorized")


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    headers=st.dictionaries(
        st.sampled_from(["svix-id", "Svix-Timestamp", "svix-signature", "webhook-id", "x"]), st.text()
    ),
    body=st.binary(),
)
@example(headers={}, body=b"")
def test_every_request_of_a_stranger_gets_the_same_401_which_echoes_nothing(
    endpoint: Endpoint, headers: dict[str, str], body: bytes
) -> None:
    answer = endpoint.post(SignedRequest(headers, body), base64_encoded=True)
    assert answer == Answer(401, "unauthorized")


# Secrets


def test_when_the_secret_is_unavailable_the_answer_is_503(endpoint: Endpoint) -> None:
    endpoint.account.take_secret_away("webhook")
    assert endpoint.post_event(CREATED).status == 503
    assert endpoint.stored_nothing()


def test_events_are_accepted_again_within_a_minute_of_the_secret_coming_back(endpoint: Endpoint) -> None:
    endpoint.account.take_secret_away("webhook")
    assert endpoint.post_event(CREATED).status == 503
    endpoint.account.bring_secret_back("webhook")
    endpoint.clock.now += 60
    assert endpoint.post_event(CREATED).status == 202


def test_a_request_asks_once_for_an_unavailable_secret(endpoint: Endpoint) -> None:
    # Svix waits 15 s and the function may take 14 s; each look takes up to 5 s when Secrets Manager hangs.
    endpoint.account.take_secret_away("webhook")
    endpoint.post_event(CREATED)
    assert len(endpoint.account.secret_reads) == 1


@pytest.mark.parametrize("value", ["whsec_", "hello", " ", '{"key":"whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"}'])
def test_when_the_secret_is_not_a_signing_secret_the_answer_is_503(endpoint: Endpoint, value: str) -> None:
    endpoint.account.put_secret("webhook", value)
    assert endpoint.post_event(CREATED).status == 503


def test_an_invalid_secret_works_once_it_is_corrected(endpoint: Endpoint) -> None:
    endpoint.account.put_secret("webhook", "hello")
    assert endpoint.post_event(CREATED).status == 503
    endpoint.account.put_secret("webhook", endpoint.secret)
    endpoint.clock.now += 60
    assert endpoint.post_event(CREATED).status == 202


# Rotation


def test_several_secrets_are_accepted_at_once(endpoint: Endpoint) -> None:
    new = generate_secret()
    endpoint.account.put_secret("webhook", f"{new}\n{endpoint.secret} ")
    for signer in (endpoint.secret, new):
        assert endpoint.post(sign(CREATED, signer)).status == 202


def test_a_rotated_secret_is_found_by_the_next_delivery_without_a_deploy(endpoint: Endpoint) -> None:
    assert endpoint.post_event(CREATED).status == 202
    new = generate_secret()
    endpoint.account.put_secret("webhook", new)
    assert endpoint.post(sign(CREATED, new)).status == 202
    assert endpoint.post(sign(CREATED, endpoint.secret)).status == 401


def test_forged_requests_make_ingest_look_for_a_new_secret_at_most_once_a_minute(endpoint: Endpoint) -> None:
    forged = sign(CREATED, generate_secret())
    for _ in range(20):
        assert endpoint.post(forged).status == 401
    first_minute = len(endpoint.account.secret_reads)
    endpoint.clock.now += 60
    for _ in range(20):
        assert endpoint.post(forged).status == 401
    # One read when it started, one look in each minute.
    assert (first_minute, len(endpoint.account.secret_reads)) == (2, 3)


def test_a_secret_in_use_survives_an_outage_of_secrets_manager(endpoint: Endpoint) -> None:
    assert endpoint.post_event(CREATED).status == 202
    endpoint.account.take_secret_away("webhook")
    for _ in range(10):
        endpoint.clock.now += 300
        assert endpoint.post_event(CREATED).status == 202


def test_a_forged_request_is_still_answered_401_during_an_outage_of_secrets_manager(endpoint: Endpoint) -> None:
    assert endpoint.post_event(CREATED).status == 202
    endpoint.account.take_secret_away("webhook")
    assert endpoint.post(sign(CREATED, generate_secret())).status == 401
