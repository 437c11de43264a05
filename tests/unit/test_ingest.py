"""Answers of ingest, row by row of its table, with queues and secrets of an account in memory."""

from __future__ import annotations

import base64
import json
import time
from dataclasses import replace
from io import StringIO
from typing import Any

import pytest

from clerk_supabase import ingest
from clerk_supabase.answer import Answer
from clerk_supabase.aws.queue import Queue, messages_of
from clerk_supabase.model.envelope import ParkedEvent
from clerk_supabase.model.facts import Facts
from clerk_supabase.model.found_kinds import FACTS, SYNCED_TYPES, Meaning
from clerk_supabase_cli.standin.deliveries import SignedRequest, api_gateway_event, generate_secret, sign, sign_body
from tests.kit.aws import Account
from tests.kit.ingesting import CREATED, LIMIT, RECEIVED_AT, Endpoint, counted, reason_of


@pytest.fixture
def endpoint(account: Account) -> Endpoint:
    return Endpoint(account)


# Good signature, a type that is synced


@pytest.mark.parametrize("event_type", sorted(SYNCED_TYPES))
def test_an_event_that_is_synced_is_answered_202_once_the_queue_holds_it(endpoint: Endpoint, event_type: str) -> None:
    request = sign({**CREATED, "type": event_type}, endpoint.secret, svix_id="msg_1")

    answer = endpoint.post(request)

    assert answer.status == 202
    [message] = endpoint.accepted()
    assert message.envelope.body == request.body
    assert message.envelope.svix_id == "msg_1"
    assert message.envelope.received_at == RECEIVED_AT
    assert not endpoint.parked()
    assert counted("Accepted") == 1


def test_the_queue_holds_the_body_byte_for_byte_and_what_ingest_knew_as_attributes(endpoint: Endpoint) -> None:
    request = sign(CREATED, endpoint.secret, svix_id="msg_1")
    endpoint.post(request)
    [record] = endpoint.account.received(endpoint.account.sync_queue_url)
    assert record["body"].encode() == request.body
    assert {name: each["stringValue"] for name, each in record["messageAttributes"].items()} == {
        "svix_id": "msg_1",
        "received_at": str(RECEIVED_AT),
    }


@pytest.mark.parametrize("base64_encoded", [False, True])
@pytest.mark.parametrize(
    "body",
    [
        '{ "type" : "user.created",\t"data":\r\n{"id":"user_1"} }\n',
        '{"data":{"id":"user_\\u0031","first_name":"\\u005a\\u006f\\u00eb"},"type":"user\\u002ecreated"}',
        '{"data":{"id":"user_1","first_name":"Zoë 😀"},"type":"user.created"}',
        '{"type":"user.created","type":"user.created","data":{"id":"user_1"}}',
        '{"data":{"id":"user_1","n":1.0E+2,"m":-0},"type":"user.created"}',
    ],
)
def test_unusual_but_valid_json_is_verified_and_queued_as_it_was_sent(
    endpoint: Endpoint, body: str, base64_encoded: bool
) -> None:
    answer = endpoint.post(sign_body(body, endpoint.secret), base64_encoded=base64_encoded)
    assert answer.status == 202
    [message] = endpoint.accepted()
    assert message.envelope.body == body.encode()


@pytest.mark.parametrize("change_case", [str.lower, str.upper, str.title])
def test_the_case_of_header_names_does_not_matter(endpoint: Endpoint, change_case: Any) -> None:
    signed = sign(CREATED, endpoint.secret)
    headers = {change_case(name): value for name, value in signed.headers.items()}
    assert endpoint.post(SignedRequest(headers, signed.body)).status == 202


@pytest.mark.parametrize("character", ["\ufffe", "\uffff", "\x7f", "\x00", "\x0b"])
def test_characters_that_sqs_rejects_arrive_unharmed(endpoint: Endpoint, character: str) -> None:
    # Characters below U+0020 are only legal between quotes as escapes; whether it is JSON is not the question here.
    event = {**CREATED, "data": {**CREATED["data"], "first_name": character}}
    assert endpoint.post_event(event).status == 202
    [message] = endpoint.accepted()
    assert json.loads(message.envelope.body)["data"]["first_name"] == character


# Characters that SQS rejects are sent as base64, which is a third larger.
@pytest.mark.parametrize(("first_name", "limit"), [("Ada", LIMIT), ("Zoë 😀", LIMIT), ("\ufffe", 780_000)])
def test_the_largest_body_allowed_fits_into_the_queue(first_name: str, limit: int, endpoint: Endpoint) -> None:
    request = of_size(limit, endpoint, first_name)
    assert endpoint.post(request).status == 202
    [message] = endpoint.accepted()
    assert message.envelope.body == request.body


@pytest.mark.parametrize(("first_name", "size"), [("Ada", LIMIT + 1), ("\ufffe", 780_001)])
def test_a_larger_body_is_rejected_for_good_because_it_never_gets_smaller(
    first_name: str, size: int, endpoint: Endpoint, log: StringIO
) -> None:
    answer = endpoint.post(of_size(size, endpoint, first_name))
    assert answer.status == 413
    assert answer.to_api_gateway()["headers"]["webhook-delivery"] == "abort-message"
    assert endpoint.stored_nothing()
    assert counted("TooLarge") == 1
    assert "msg_xxx" in log.getvalue()


def test_an_accepted_event_still_fits_when_it_is_sent_back_and_parked(endpoint: Endpoint) -> None:
    endpoint.post(of_size(LIMIT, endpoint, "Ada"))
    [message] = endpoint.accepted()
    queue = Queue(endpoint.account.sqs, endpoint.account.parked_queue_url)
    queue.send(replace(message.envelope, attempts=8))
    queue.park(ParkedEvent(replace(message.envelope, attempts=8), "exhausted", "😀" * 2000))
    assert len(endpoint.parked()) == 2


def of_size(size: int, endpoint: Endpoint, first_name: str) -> SignedRequest:
    event: dict[str, Any] = {**CREATED, "data": {"id": "user_1", "first_name": first_name}}
    event["data"]["first_name"] += "x" * (size - len(sign(event, endpoint.secret).body))
    request = sign(event, endpoint.secret, svix_id="msg_" + "x" * 60)
    assert len(request.body) == size
    return request


def test_no_foreign_request_makes_svix_stop_its_deliveries(endpoint: Endpoint) -> None:
    answer = endpoint.post(sign_body(" " * (LIMIT + 1), generate_secret()))
    assert answer == Answer(401, "unauthorized")
    assert not counted("TooLarge")


def test_an_event_of_before_clerk_named_the_instance_is_accepted(endpoint: Endpoint) -> None:
    event = {name: value for name, value in CREATED.items() if name != "instance_id"}
    assert endpoint.post_event(event).status == 202


def test_without_an_instance_in_the_settings_any_instance_is_accepted(account: Account) -> None:
    assert Endpoint(account, instance_id="").post_event(CREATED).status == 202


# Good signature, nothing to sync


@pytest.mark.parametrize(
    "event_type",
    sorted(
        {
            "email.created",
            "sms.created",
            "session.created",
            "session.pending",
            "role.created",
            "subscriptionItem.freeTrialEnding",
            "user.unheardOf",
            "USER.CREATED",
        }
        - SYNCED_TYPES.keys()
    ),
)
def test_an_event_of_another_type_is_answered_200_and_not_stored(endpoint: Endpoint, event_type: str) -> None:
    assert endpoint.post_event({**CREATED, "type": event_type}).status == 200
    assert endpoint.stored_nothing()
    assert counted("Ignored") == 1


def test_sessions_are_ignored_unless_they_are_asked_for(account: Account) -> None:
    endpoint = Endpoint(account, sessions_days=0)
    for event_type in SYNCED_TYPES:
        status = 200 if event_type.startswith("session.") else 202
        assert endpoint.post_event({**CREATED, "type": event_type}).status == status, event_type
    assert counted("Ignored") == len(FACTS["session"].verbs)


def test_a_one_time_code_reaches_neither_a_queue_nor_the_log(endpoint: Endpoint, log: StringIO) -> None:
    event = {**CREATED, "type": "sms.created", "data": {"id": "sms_1", "message": "Your code is 424242"}}
    assert endpoint.post_event(event).status == 200
    assert endpoint.stored_nothing()
    assert log.getvalue()
    assert "424242" not in log.getvalue()


@pytest.mark.parametrize(
    ("data", "queued"),
    [
        ('{"id":"ema_1","body":"424242","status":"sent"}', '{"id":"ema_1","status":"sent"}'),
        ('{"b\\u006fdy":"424242","id":"ema_1","body":{"x":["424242","}"]}}', '{"id":"ema_1"}'),
        ('{"id":"ema_1","body":"424242","x":"\\ud800"}', '{"id":"ema_1","x":"\\ud800"}'),
        ('{"id":"ema_1"},"data":{"id":"ema_2","body":"424242"}', '{"id":"ema_2"}'),
        # Parked: without an id.
        ('{"body":"424242","status":"sent"}', '{"status":"sent"}'),
        ('"424242"', "{}"),
        ('["424242"]', "{}"),
    ],
)
def test_a_field_that_a_kind_calls_secret_is_removed_before_the_event_waits_or_is_parked(
    account: Account, monkeypatch: pytest.MonkeyPatch, data: str, queued: str
) -> None:
    """Planted as facts: no kind of this project has such a field, but a kind of the app may."""
    facts = Facts("sent_email", 9001, "e-mails", "public.emails", "id", "email", ("created",), secrets=("body",))
    monkeypatch.setattr(ingest, "FACTS", {"sent_email": facts})
    monkeypatch.setattr(ingest, "SYNCED_TYPES", {"email.created": Meaning("sent_email")})
    endpoint = Endpoint(account)
    assert endpoint.post_body(f'{{"type":"email.created","timestamp":7,"data":{data}}}').status == 202
    [message] = [*endpoint.accepted(), *messages_of({"Records": endpoint.parked()})]
    assert message.envelope.body.decode() == f'{{"type":"email.created","timestamp":7,"data":{queued}}}'


# Good signature, another instance


def test_an_event_of_another_instance_is_rejected_for_good_and_counted(endpoint: Endpoint) -> None:
    answer = endpoint.post_event({**CREATED, "instance_id": "ins_2Other"})
    assert answer.status == 403
    assert answer.to_api_gateway()["headers"]["webhook-delivery"] == "abort-message"
    assert endpoint.stored_nothing()
    assert counted("WrongInstance") == 1


@pytest.mark.parametrize("event_type", ["email.created", "user.unheardOf"])
def test_an_event_of_another_instance_is_rejected_whatever_its_type(endpoint: Endpoint, event_type: str) -> None:
    assert endpoint.post_event({**CREATED, "instance_id": "ins_2Other", "type": event_type}).status == 403


# Good signature, and a part that no parser takes


@pytest.mark.parametrize(
    "text",
    [
        '"\\ud800"',
        '{"\\udc00":1}',
        "NaN",
        "1e400",
        "9" * 5_000,
        "[" * 250 + "]" * 250,
        '{"a":' * 100_000 + "1" + "}" * 100_000,
    ],
    ids=lambda text: text[:20],
)
def test_no_value_of_a_user_keeps_an_event_from_the_queue(endpoint: Endpoint, text: str) -> None:
    for written in (text, f'[{text},{{"id":"user_2"}}]'):
        body = '{"data":{"unsafe_metadata":{"id":"user_2","x":X},"id":"user_1"},"type":"user.updated"}'
        body = body.replace("X", written)
        assert endpoint.post_body(body).status == 202
        [message] = endpoint.accepted()
        assert message.envelope.body == body.encode()
        assert not endpoint.parked()


@pytest.mark.parametrize("text", ["7", "null", '"org_1"'])
def test_a_part_that_no_parser_takes_hides_neither_the_type_nor_the_instance(endpoint: Endpoint, text: str) -> None:
    body = '{"type":"user.updated","instance_id":"ins_2Other","data":{"id":"user_1","x":"\\ud800","y":Y}}'
    body = body.replace("Y", text)
    assert endpoint.post_body(body).status == 403
    assert endpoint.post_body(body.replace("user.updated", "user.unheardOf").replace("Other", "Own")).status == 200


# Good signature, not usable


@pytest.mark.parametrize(
    "body",
    [
        "",
        " ",
        "not json",
        "[]",
        '"text"',
        "5",
        "null",
        "{",
        "{}",
        '{"type":5,"data":{"id":"user_1"}}',
        '{"type":"","data":{"id":"user_1"}}',
        '{"type":"user.created"}',
        '{"type":"user.created","data":null}',
        '{"type":"user.created","data":[]}',
        '{"type":"user.created","data":{}}',
        '{"type":"user.created","data":{"id":""}}',
        '{"type":"user.created","data":{"id":7}}',
        '{"type":"user.deleted","data":{"deleted":true,"object":"user"}}',
        '{"type":"user.created","data":{"id":"\\ud800"}}',
        '{"type":5,"data":{"id":"user_1","name":"\\ud800"}}',
        '{"type":"user.created","data":{"id":7,"name":"\\ud800"}}',
        '\ufeff{"type":"user.created","data":{"id":"user_1"}}',
        "[" * 100_000,
        '{"type":' + "[" * 100_000,
        '{"type":"user.created","data":{"id":"user_1","deep":' + "[" * 100_000 + "}}",
    ],
    ids=lambda body: body[:60] or "empty",
)
def test_a_signed_body_that_is_not_usable_is_parked_with_its_reason(endpoint: Endpoint, body: str) -> None:
    answer = endpoint.post_body(body)

    assert answer.status == 202
    assert not endpoint.accepted()
    [record] = endpoint.parked()
    assert reason_of(record)
    [message] = messages_of({"Records": [record]})
    assert message.envelope.body == body.encode()
    assert message.envelope.received_at == RECEIVED_AT
    assert counted("Parked") == 1


@pytest.mark.parametrize(
    "part",
    ["[" * 500_000 + "]" * 500_000, "[" * 2_000 + "[]," * 330_000 + "1" + "]" * 2_000],
    ids=["deep", "many lists"],
)
def test_a_body_that_takes_long_to_take_apart_is_answered_long_before_lambda_gives_up(
    endpoint: Endpoint, part: str
) -> None:
    body = f'{{"type":"user.created","data":{{"id":"user_1","deep":{part}}}}}'
    request = sign_body(body, endpoint.secret)
    before = time.process_time()
    assert endpoint.post(request).status == 202
    # Lambda's 512 MB are a third of a processor, and its time-out is 14 seconds.
    assert time.process_time() - before < 3
    [message] = endpoint.accepted()
    assert message.envelope.body == body.encode()


def test_the_reason_says_what_is_missing(endpoint: Endpoint) -> None:
    endpoint.post_body('{"type":"user.created","data":{}}')
    [record] = endpoint.parked()
    assert reason_of(record) == "data.id is missing"


# Too large


def test_a_body_over_the_limit_is_answered_413(account: Account) -> None:
    endpoint = Endpoint(account, limit=10_000)
    request = sign_body("{" + " " * 9_999 + "}", endpoint.secret)
    assert endpoint.post(request).status == 413
    assert endpoint.post(request, base64_encoded=True).status == 413
    assert endpoint.stored_nothing()
    assert counted("TooLarge") == 2


def test_the_limit_is_for_the_bytes_of_the_body_not_for_its_characters(account: Account) -> None:
    endpoint = Endpoint(account, limit=10_000)
    at_the_limit = '{"type":"x","é":"' + "é" * 4_990 + '"}'
    at_the_limit += " " * (10_000 - len(at_the_limit.encode()))
    assert endpoint.post_body(at_the_limit).status == 200
    assert endpoint.post_body(at_the_limit + " ").status == 413


# A neighbour is unavailable


def test_when_sqs_is_unavailable_the_answer_is_503_so_that_svix_sends_again(endpoint: Endpoint) -> None:
    endpoint.account.remove_queue(endpoint.account.sync_queue_url)
    assert endpoint.post_event(CREATED).status == 503
    assert counted("Unavailable") == 1
    assert not counted("Accepted")


def test_when_the_parked_queue_is_unavailable_an_unusable_event_is_answered_503(endpoint: Endpoint) -> None:
    endpoint.account.remove_queue(endpoint.account.parked_queue_url)
    assert endpoint.post_body("{}").status == 503


# Log and metrics


def test_neither_answers_nor_log_lines_hold_personal_data_or_secrets(endpoint: Endpoint, log: StringIO) -> None:
    user = CREATED["data"]
    for event in (
        CREATED,
        {**CREATED, "type": "email.created"},
        {**CREATED, "instance_id": "ins_2Other"},
        {**CREATED, "data": {**user, "id": None}},
    ):
        endpoint.post_event(event)
    endpoint.post(sign(CREATED, generate_secret()))
    endpoint.account.remove_queue(endpoint.account.sync_queue_url)
    endpoint.post_event(CREATED)

    said = log.getvalue()
    assert len(said.splitlines()) == 6
    for private in ("Ada", "Example", "@example.test", "img.example", "192.0.2.7", "Mozilla", "whsec_"):
        assert private not in said


def test_every_log_line_of_an_event_names_its_delivery(endpoint: Endpoint, log: StringIO) -> None:
    endpoint.post(sign(CREATED, endpoint.secret, svix_id="msg_1"))
    [line] = [json.loads(line) for line in log.getvalue().splitlines()]
    assert line["svix_id"] == "msg_1"
    assert line["object_id"] == "user_1"


def test_the_answer_has_the_shape_that_api_gateway_wants(endpoint: Endpoint) -> None:
    assert endpoint.post_event(CREATED).to_api_gateway() == {
        "statusCode": 202,
        "headers": {"content-type": "text/plain; charset=utf-8"},
        "body": "accepted",
        "isBase64Encoded": False,
    }


def test_a_body_sent_as_base64_is_the_same_event(endpoint: Endpoint) -> None:
    request = sign(CREATED, endpoint.secret)
    event = api_gateway_event(request, base64_encoded=True)
    assert base64.b64decode(event["body"]) == request.body
    assert endpoint.ingest.answer(event).status == 202
