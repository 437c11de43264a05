"""The envelope on SQS: what goes in comes out."""

from __future__ import annotations

import boto3
import pytest
from botocore.config import Config
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from clerk_supabase.errors import QueueUnavailable
from clerk_supabase.queue import Envelope, Queue, messages_of
from clerk_supabase_cli.processes import free_port
from tests.aws import Account, record

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
@given(body=bodies, svix_id=st.from_regex(r"\Amsg_[A-Za-z0-9]{1,40}\Z"), received_at=st.integers(0, 2**53))
@example(body=b"", svix_id="msg_1", received_at=0)
@example(body=b"\xc3 \xa9", svix_id="msg_1", received_at=0)
def test_an_envelope_comes_out_of_the_queue_as_it_went_in(
    account: Account, queue: Queue, body: bytes, svix_id: str, received_at: int
) -> None:
    envelope = Envelope(svix_id, body, received_at)
    queue.send(envelope)
    [message] = messages_of(account.lambda_event(account.sync_queue_url))
    assert message.envelope == envelope


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(reason=st.text(min_size=1))
@example(reason="\ufffe" * 5000)
def test_any_reason_can_be_given_when_an_envelope_is_parked(account: Account, queue: Queue, reason: str) -> None:
    queue.send(Envelope("msg_1", b"{}", 0), reason)
    [sent] = account.received(account.sync_queue_url)
    assert len(sent["messageAttributes"]["reason"]["stringValue"]) == min(len(reason), 1000)


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


def test_a_message_that_an_operator_sent_by_hand_is_read_as_well_as_can_be() -> None:
    [message] = messages_of({"Records": [record("message-1", '{"type":"user.created"}')]})
    assert message.envelope == Envelope("message-1", b'{"type":"user.created"}', 1_700_000_000_123)


@pytest.mark.parametrize(
    "attributes",
    [{"encoding": "base64"}, {"received_at": "yesterday"}, {"received_at": "1.5"}],
    ids=["not base64", "not a number", "not whole"],
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
