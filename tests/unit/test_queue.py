"""The envelope on SQS: an envelope leaves the queue unchanged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import boto3
import pytest
from botocore.config import Config
from botocore.stub import Stubber
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from clerk_supabase.aws.queue import LARGEST_BODY, Queue, messages_of
from clerk_supabase.errors import EventTooLarge, QueueUnavailable
from clerk_supabase.model.envelope import Envelope, ParkedEvent, ReasonClass
from clerk_supabase_cli.local.processes import free_port
from clerk_supabase_cli.simulator.sqs import record
from tests.kit.aws import Account

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

bodies = st.one_of(
    st.binary(),
    st.text().map(str.encode),
    st.text(alphabet=st.sampled_from("\x00\x1f\t\n\r\ufffe\uffff\ufffd😀é")).map(str.encode),
    st.sampled_from([b"", b"\xff", "\ufeff{}".encode(), b"e30=", b"{}"]),
)


@pytest.fixture
def queue(account: Account) -> Queue:
    return Queue(account.sqs, account.sync_queue_url)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    envelope=st.builds(
        Envelope,
        svix_id=st.from_regex(r"\Amsg_[A-Za-z0-9]{1,40}\Z"),
        body=bodies,
        received_at=st.integers(0, 10**14),
        attempts=st.integers(0, 100),
    )
)
@example(envelope=Envelope("msg_1", b"", 0))
@example(envelope=Envelope("msg_1", b"\xc3 \xa9", 0, attempts=8))
def test_an_envelope_comes_out_of_the_queue_as_it_went_in(account: Account, queue: Queue, envelope: Envelope) -> None:
    queue.send(envelope)
    [message] = messages_of(account.lambda_event(account.sync_queue_url))
    assert message.envelope == envelope
    assert message.parked is None


def test_a_client_is_made_once_and_not_before_the_first_message(account: Account) -> None:
    made = []

    def make() -> SQSClient:
        made.append(account.sqs)
        return account.sqs

    queue = Queue(make, account.sync_queue_url)
    assert made == []
    for svix_id in ("msg_1", "msg_2"):
        queue.send(Envelope(svix_id, b"{}", 0))
    assert made == [account.sqs]
    assert len(messages_of(account.lambda_event(account.sync_queue_url))) == 2


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(reason=st.text(), reason_class=st.sampled_from(["unusable", "refused", "exhausted"]), attempts=st.integers(0, 9))
@example(reason="\ufffe" * 5000, reason_class="refused", attempts=8)
@example(reason="\ud800\x00", reason_class="refused", attempts=0)
def test_a_parked_event_comes_out_of_the_queue_with_its_reason(
    account: Account, queue: Queue, reason: str, reason_class: ReasonClass, attempts: int
) -> None:
    envelope = Envelope("msg_1", b"[1]", 7, attempts)
    queue.park(ParkedEvent(envelope, reason_class, reason))
    [message] = messages_of(account.lambda_event(account.sync_queue_url))
    assert message.parked is not None
    assert message.envelope == message.parked.envelope == envelope
    assert message.parked.reason_class == reason_class
    if reason.isalnum() and reason.isascii():
        assert message.parked.reason == reason[:1000]
    assert 0 < len(message.parked.reason) <= 1000


@pytest.mark.parametrize(
    "body",
    [
        b"x" * (LARGEST_BODY + 1),
        b"\xff" * (LARGEST_BODY * 3 // 4 + 1),
        "\ufffe".encode() * (LARGEST_BODY // 4 + 1),
    ],
    ids=["as it is", "not UTF-8", "characters that SQS refuses"],
)
def test_a_body_that_no_queue_takes_is_named_as_such(body: bytes, account: Account, queue: Queue) -> None:
    with pytest.raises(EventTooLarge):
        queue.send(Envelope("msg_1", body, 0))
    with pytest.raises(EventTooLarge):
        queue.park(ParkedEvent(Envelope("msg_1", body, 0), "unusable", "why"))
    assert account.received(account.sync_queue_url) == []


@pytest.mark.parametrize("body", [b"x" * LARGEST_BODY, b"\xff" * (LARGEST_BODY * 3 // 4)])
def test_the_largest_body_fits_with_the_longest_attributes(body: bytes, account: Account, queue: Queue) -> None:
    envelope = Envelope("😀" * 5000, body, 10**14, attempts=100)
    queue.park(ParkedEvent(envelope, "exhausted", "😀" * 5000))
    assert len(account.received(account.sync_queue_url)) == 1


def test_a_message_that_is_delayed_is_not_received_before(account: Account, queue: Queue) -> None:
    queue.send(Envelope("msg_1", b"{}", 0), delay_seconds=900)
    assert account.received(account.sync_queue_url) == []
    queue.send(Envelope("msg_2", b"{}", 0))
    [sent] = account.received(account.sync_queue_url)
    assert sent["messageAttributes"]["svix_id"]["stringValue"] == "msg_2"


def test_a_readable_body_stays_readable_in_the_queue(account: Account, queue: Queue) -> None:
    queue.send(Envelope("msg_1", '{"name": "Zoë 😀"}'.encode(), 0))
    [sent] = account.received(account.sync_queue_url)
    assert sent["body"] == '{"name": "Zoë 😀"}'
    assert "encoding" not in sent["messageAttributes"]


def test_messages_keep_their_order_and_their_ids() -> None:
    event = {"Records": [record(f"message-{n}", "{}", svix_id=f"msg_{n}", received_at="5") for n in range(3)]}
    assert [(m.message_id, m.envelope.svix_id) for m in messages_of(event)] == [
        ("message-0", "msg_0"),
        ("message-1", "msg_1"),
        ("message-2", "msg_2"),
    ]


def test_a_message_sent_by_hand_is_read_as_far_as_possible() -> None:
    [message] = messages_of({"Records": [record("message-1", '{"type":"user.created"}')]})
    assert message.envelope == Envelope("message-1", b'{"type":"user.created"}', 1_700_000_000_123)


@pytest.mark.parametrize(
    "attributes",
    [
        {"encoding": "base64"},
        {"received_at": "yesterday"},
        {"received_at": "1.5"},
        {"received_at": "9" * 5000},
        {"attempts": "many"},
        {"attempts": "-1"},
        {"attempts": "9" * 5000},
        {"reason": "", "reason_class": "because"},
    ],
    ids=lambda attributes: str(attributes)[:40],
)
def test_a_message_with_broken_attributes_does_not_keep_its_batch_from_being_read(
    attributes: dict[str, str],
) -> None:
    broken = record("message-1", "abcde", **attributes)
    good = record("message-2", "{}", svix_id="msg_2", received_at="5")
    assert [message.message_id for message in messages_of({"Records": [broken, good]})][-1] == "message-2"


def test_a_queue_that_does_not_exist_is_unavailable(account: Account, queue: Queue) -> None:
    account.remove_queue(account.sync_queue_url)
    with pytest.raises(QueueUnavailable, match="did not take the message"):
        queue.send(Envelope("msg_1", b"{}", 0))


def test_an_sqs_that_cannot_be_reached_is_unavailable() -> None:
    endpoint = f"http://127.0.0.1:{free_port()}"
    client = boto3.client(
        "sqs",
        endpoint_url=endpoint,
        region_name="eu-central-1",
        aws_access_key_id="nobody",
        aws_secret_access_key="nothing",
        config=Config(retries={"total_max_attempts": 1}, proxies={}),
    )
    with pytest.raises(QueueUnavailable, match="did not take the message"):
        Queue(client, f"{endpoint}/000000000000/sync").send(Envelope("msg_1", b"{}", 0))


# Many at once


def test_many_envelopes_arrive_each_with_its_delay_and_attempts(account: Account, queue: Queue) -> None:
    many = [(Envelope(f"msg_{number}", b"{}", 5, attempts=number), 0) for number in range(23)]
    assert queue.send_all(many) == [None] * 23
    arrived = messages_of(account.lambda_event(account.sync_queue_url))
    assert sorted(message.envelope.attempts for message in arrived) == list(range(23))


def test_many_envelopes_are_sent_in_as_few_requests_as_sqs_allows(account: Account, queue: Queue) -> None:
    sizes: list[int] = []
    account.sqs.meta.events.register(
        "before-parameter-build.sqs.SendMessageBatch", lambda params, **_: sizes.append(len(params["Entries"]))
    )
    queue.send_all([(Envelope(f"msg_{number}", b"{}", 5), 0) for number in range(23)])
    assert sizes == [10, 10, 3]


def test_large_envelopes_are_split_over_requests_that_sqs_takes(account: Account, queue: Queue) -> None:
    body = b'"' + b"a" * 400_000 + b'"'
    assert queue.send_all([(Envelope(f"msg_{number}", body, 5), 0) for number in range(5)]) == [None] * 5
    assert len(account.received(account.sync_queue_url)) == 5


def test_one_envelope_that_no_queue_takes_does_not_keep_the_others_back(account: Account, queue: Queue) -> None:
    too_large = b'"' + b"a" * 1_040_000 + b'"'
    one, other, third = queue.send_all(
        [(Envelope(f"msg_{n}", body, 5), 0) for n, body in enumerate((b"{}", too_large, b"{}"))]
    )
    assert (one, third) == (None, None)
    assert isinstance(other, EventTooLarge)
    assert len(account.received(account.sync_queue_url)) == 2


def test_when_sqs_takes_only_some_messages_each_failure_is_reported(account: Account, queue: Queue) -> None:
    with Stubber(account.sqs) as stub:
        failed = {"Id": "1", "Code": "InternalError", "SenderFault": False}
        taken = {"Id": "0", "MessageId": "message", "MD5OfMessageBody": ""}
        stub.add_response("send_message_batch", {"Successful": [taken], "Failed": [failed]})
        first, second = Queue(account.sqs, account.sync_queue_url).send_all(
            [(Envelope("msg_1", b"{}", 5), 0), (Envelope("msg_2", b"{}", 5), 0)]
        )
    assert first is None
    assert isinstance(second, QueueUnavailable)


def test_an_unavailable_sqs_is_asked_once_for_many_messages(account: Account) -> None:
    with Stubber(account.sqs) as stub:
        stub.add_client_error("send_message_batch", "ServiceUnavailable")
        answers = Queue(account.sqs, account.sync_queue_url).send_all(
            [(Envelope(f"msg_{n}", b"{}", 5), 0) for n in range(25)]
        )
        stub.assert_no_pending_responses()
    assert all(isinstance(answer, QueueUnavailable) for answer in answers)
