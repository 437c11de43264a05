"""Events on SQS. No other module knows the queue: envelopes go in, and envelopes come out.

The body of a message is Clerk's own, byte for byte; the facts of its delivery travel in message attributes.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from clerk_supabase.aws.failures import failures
from clerk_supabase.errors import ClerkSupabaseError, EventTooLarge, QueueUnavailable
from clerk_supabase.model.envelope import REASON_CLASSES, Envelope, ParkedEvent, ReasonClass, storable

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import MessageAttributeValueTypeDef, SendMessageBatchRequestEntryTypeDef

    from clerk_supabase.aws.lean_client import LeanClient

# SQS takes 1 MiB (1,048,576 bytes) with all attributes. A message of ingest must still fit when retry adds the count of
# its attempts and sync a reason, so that no accepted event is too large later on.
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
LARGEST_BODY = 1_040_000
# The limit for the messages of one request together, of which there are ten at most.
_LARGEST_BATCH = 1_048_576
_LONGEST_BATCH = 10

_NOT_CONTROL_CHARACTERS = b"\t\n\r" + bytes(range(0x20, 0x100))
_NONCHARACTERS = "\ufffe".encode(), "\uffff".encode()
# The largest numbers in clerk_sync.parked_events: the last day of the year 9999 in milliseconds, and int4.
_LAST_MOMENT = 253_402_214_400_000
_MOST_ATTEMPTS = 2_147_483_647
# Four bytes each, at most.
_SVIX_ID_LIMIT = 500
_REASON_LIMIT = 1000


@dataclass(frozen=True, slots=True)
class Message:
    """An envelope received from SQS."""

    message_id: str
    envelope: Envelope
    parked: ParkedEvent | None = None
    """The parked event in a message of the parked queue."""


class Queue:
    """An SQS queue to send to."""

    def __init__(self, client: SQSClient | LeanClient | Callable[[], SQSClient], url: str) -> None:
        """`client`: a client or, for a function that seldom sends, what makes one for the first message."""
        self._given = client
        self._url = url

    @cached_property
    def _client(self) -> SQSClient | LeanClient:
        return self._given() if callable(self._given) else self._given

    def send(self, envelope: Envelope, *, delay_seconds: int = 0, is_json: bool = False) -> None:
        """Returns once SQS holds the message. Raises QueueUnavailable, and EventTooLarge for a message that never fits.

        `delay_seconds`: 0 to 900, the time before SQS delivers the message. `is_json`: the body was parsed, so its
        bytes are UTF-8 without control characters.
        """
        self._send(envelope, {}, delay_seconds=delay_seconds, is_json=is_json)

    def send_all(self, envelopes: Sequence[tuple[Envelope, int]]) -> list[ClerkSupabaseError | None]:
        """Sends envelopes, each with its delay in seconds, in as few requests as SQS allows.

        An answer for each envelope: None once SQS holds it, otherwise the error that `send` would have raised. After a
        request that did not reach SQS, no other is made.
        """
        answers: list[ClerkSupabaseError | None] = [None] * len(envelopes)
        entries: list[SendMessageBatchRequestEntryTypeDef] = []
        for position, (envelope, delay_seconds) in enumerate(envelopes):
            try:
                body, attributes = _to_message(envelope, is_json=False)
            except EventTooLarge as error:
                answers[position] = error
                continue
            entries.append(
                {
                    "Id": str(position),
                    "MessageBody": body,
                    "MessageAttributes": attributes,
                    "DelaySeconds": delay_seconds,
                }
            )
        unreachable: QueueUnavailable | None = None
        for batch in _batches(entries):
            not_taken: dict[str, ClerkSupabaseError] = {}
            if unreachable is None:
                try:
                    answer = self._client.send_message_batch(QueueUrl=self._url, Entries=batch)
                except failures() as error:
                    unreachable = QueueUnavailable(f"SQS did not take the messages: {error}")
                else:
                    not_taken = {
                        each["Id"]: QueueUnavailable(f"SQS did not take the message: {each['Code']}")
                        for each in answer.get("Failed", [])
                    }
            for entry in batch:
                answers[int(entry["Id"])] = unreachable or not_taken.get(entry["Id"])
        return answers

    def park(self, event: ParkedEvent) -> None:
        """Returns once SQS holds the event and the reason for its parking. Raises the errors of `send`."""
        self._send(
            event.envelope,
            {"reason": _text(event.reason or "unknown", _REASON_LIMIT), "reason_class": _text(event.reason_class)},
        )

    def _send(
        self,
        envelope: Envelope,
        more_attributes: Mapping[str, MessageAttributeValueTypeDef],
        *,
        delay_seconds: int = 0,
        is_json: bool = False,
    ) -> None:
        body, attributes = _to_message(envelope, is_json=is_json)
        attributes |= more_attributes
        try:
            self._client.send_message(
                QueueUrl=self._url, MessageBody=body, MessageAttributes=attributes, DelaySeconds=delay_seconds
            )
        except failures() as error:
            raise QueueUnavailable(f"SQS did not take the message: {error}") from error


def _batches(
    entries: Sequence[SendMessageBatchRequestEntryTypeDef],
) -> Iterator[list[SendMessageBatchRequestEntryTypeDef]]:
    batch: list[SendMessageBatchRequestEntryTypeDef] = []
    size = 0
    for entry in entries:
        # Names, types and values of attributes count, too.
        texts = [entry["MessageBody"], *entry.get("MessageAttributes", {})]
        for attribute in entry.get("MessageAttributes", {}).values():
            texts += [attribute["DataType"], attribute.get("StringValue", "")]
        size_of_entry = sum(len(text.encode()) for text in texts)
        if batch and (len(batch) == _LONGEST_BATCH or size + size_of_entry > _LARGEST_BATCH):
            yield batch
            batch, size = [], 0
        batch.append(entry)
        size += size_of_entry
    if batch:
        yield batch


def messages_of(lambda_event: Mapping[str, Any]) -> list[Message]:
    """The messages of a Lambda SQS event. A message sent by hand, without attributes, is read as well as possible."""
    return [_from_record(record) for record in lambda_event["Records"]]


def _to_message(envelope: Envelope, *, is_json: bool) -> tuple[str, dict[str, MessageAttributeValueTypeDef]]:
    attributes = {
        "svix_id": _text(envelope.svix_id, _SVIX_ID_LIMIT),
        "received_at": _number(envelope.received_at),
    }
    if envelope.attempts:
        attributes["attempts"] = _number(envelope.attempts)
    body = envelope.body
    if not _is_fit_for_sqs(body, is_json=is_json):
        attributes["encoding"] = _text("base64")
        # SQS refuses an empty message, too; padding alone decodes to nothing.
        body = base64.b64encode(body) or b"="
    if len(body) > LARGEST_BODY:
        raise EventTooLarge(f"{len(body)} bytes on the queue, which takes {LARGEST_BODY}")
    return body.decode(), attributes


def _is_fit_for_sqs(body: bytes, *, is_json: bool) -> bool:
    """Tells whether SQS takes the body unchanged. A look at bytes is ten times as fast as a pattern."""
    if not is_json:
        try:
            body.decode()
        except UnicodeDecodeError:
            return False
        if body == b"" or body.translate(None, _NOT_CONTROL_CHARACTERS) != b"":
            return False
    return body.isascii() or not any(each in body for each in _NONCHARACTERS)


def _from_record(record: Mapping[str, Any]) -> Message:
    attributes = {name: value.get("stringValue", "") for name, value in record.get("messageAttributes", {}).items()}
    body = record["body"].encode(errors="surrogatepass")
    if attributes.get("encoding") == "base64":
        # A body that is not base64 after all is no event either, and is parked unchanged.
        with contextlib.suppress(binascii.Error):
            body = base64.b64decode(body)
    envelope = Envelope(
        svix_id=attributes.get("svix_id") or record["messageId"],
        body=body,
        received_at=_integer(
            attributes.get("received_at", ""), int(record["attributes"]["SentTimestamp"]), _LAST_MOMENT
        ),
        attempts=_integer(attributes.get("attempts", ""), 0, _MOST_ATTEMPTS),
    )
    return Message(record["messageId"], envelope, _parked(envelope, attributes))


def _parked(envelope: Envelope, attributes: Mapping[str, str]) -> ParkedEvent | None:
    if "reason" not in attributes:
        return None
    given = attributes.get("reason_class")
    reason_class: ReasonClass = next((each for each in REASON_CLASSES if each == given), "unusable")
    return ParkedEvent(envelope, reason_class, attributes["reason"])


def _integer(text: str, default: int, highest: int) -> int:
    """The number in an attribute; the default for an attribute written by hand with another or a larger value."""
    return int(text) if text.isdecimal() and len(text) <= 15 and int(text) <= highest else default


def _text(value: str, limit: int = 100) -> MessageAttributeValueTypeDef:
    return {"DataType": "String", "StringValue": storable(value, limit)}


def _number(value: int) -> MessageAttributeValueTypeDef:
    return {"DataType": "Number", "StringValue": str(value)}
