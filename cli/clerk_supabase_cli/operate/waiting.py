"""Counts, and removes, the messages about a person in a queue."""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from clerk_supabase_cli.operate.queues import errors_explained

Mentions = Callable[[bytes], bool]

# SQS delivers at most ten messages at a time, and hides a delivered message from others for a time.
_BATCH: Final = 10
_HOLD_SECONDS: Final = 60
_MOST_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Waiting:
    """Numbers of messages in a queue: `seen` were read, `about` of these name the person, `removed` were deleted.

    `unseen`: by SQS's estimate, messages held by another reader or not reached in time.
    """

    seen: int
    about: int
    removed: int
    unseen: int


def look(sqs: Any, url: str, mentions: Mentions, *, remove: bool) -> Waiting:
    """Reads the messages in a queue, and with `remove` deletes the messages that name the person.

    All other messages are released at the end, not earlier, so that no message is read twice. Raises AwsUnreachable.
    """
    held: list[str] = []
    seen: set[str] = set()
    about = removed = 0
    deadline = time.monotonic() + _MOST_SECONDS
    with errors_explained():
        try:
            while time.monotonic() < deadline:
                messages = _receive(sqs, url)
                if not messages:
                    break
                for message in messages:
                    is_named = mentions(_body(message))
                    about += is_named and message["MessageId"] not in seen
                    seen.add(message["MessageId"])
                    if is_named and remove:
                        sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
                        removed += 1
                    else:
                        held.append(message["ReceiptHandle"])
        finally:
            _give_back(sqs, url, held)
        return Waiting(len(seen), about, removed, max(0, _number_of_messages(sqs, url) - (len(seen) - removed)))


def _receive(sqs: Any, url: str) -> Sequence[dict[str, Any]]:
    messages: Sequence[dict[str, Any]] = sqs.receive_message(
        QueueUrl=url,
        MaxNumberOfMessages=_BATCH,
        VisibilityTimeout=_HOLD_SECONDS,
        # Asks all of SQS's servers, not some of them.
        WaitTimeSeconds=1,
        MessageAttributeNames=["encoding"],
    ).get("Messages", ())
    return messages


def _body(message: dict[str, Any]) -> bytes:
    """The body sent by Clerk; the text of a message written by hand."""
    body: str = message["Body"]
    if message.get("MessageAttributes", {}).get("encoding", {}).get("StringValue") == "base64":
        try:
            return base64.b64decode(body)
        except binascii.Error:
            pass
    return body.encode(errors="surrogatepass")


def _give_back(sqs: Any, url: str, handles: Sequence[str]) -> None:
    for first in range(0, len(handles), _BATCH):
        entries = [
            {"Id": str(number), "ReceiptHandle": handle, "VisibilityTimeout": 0}
            for number, handle in enumerate(handles[first : first + _BATCH])
        ]
        sqs.change_message_visibility_batch(QueueUrl=url, Entries=entries)


def _number_of_messages(sqs: Any, url: str) -> int:
    names = [f"ApproximateNumberOfMessages{suffix}" for suffix in ("", "NotVisible", "Delayed")]
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    return sum(int(attributes[name]) for name in names)
