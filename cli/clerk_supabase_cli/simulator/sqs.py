"""A simulation of SQS and of its delivery to functions, on a clock moved by the caller.

Visibility, delays, redrive and partial failures of a batch follow the developer guides of SQS and Lambda.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from botocore.exceptions import EndpointConnectionError

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

Handler = Callable[[dict[str, Any], object], dict[str, Any]]


def record(message_id: str, body: str, **attributes: str) -> dict[str, Any]:
    """A message in the form that Lambda passes to a function."""
    return {
        "messageId": message_id,
        "receiptHandle": f"handle of {message_id}",
        "body": body,
        "attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": "1700000000123"},
        "messageAttributes": {name: {"stringValue": value, "dataType": "String"} for name, value in attributes.items()},
        "md5OfBody": "",
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:eu-central-1:123456789012:sync",
        "awsRegion": "eu-central-1",
    }


@dataclass(eq=False)
class SimulatedMessage:
    """A message in a queue, equal only to itself."""

    record: dict[str, Any]
    visible_at: float
    delay_seconds: int
    receives: int = 0


@dataclass(eq=False)
class SimulatedQueue:
    """A standard queue."""

    visibility_timeout: float
    dead_letters: SimulatedQueue | None = None
    max_receives: int = 0
    messages: list[SimulatedMessage] = field(default_factory=list)
    is_refusing: bool = False
    """True: SQS answers each send with an error."""

    def take_all(self) -> list[dict[str, Any]]:
        """Removes and returns every message, visible or not, each with its delay."""
        taken, self.messages = self.messages, []
        return [{**each.record, "delaySeconds": each.delay_seconds} for each in taken]

    def receive(self, now: float, batch_size: int = 10) -> list[SimulatedMessage]:
        """Receives visible messages; a message received too often moves to the dead-letter queue instead."""
        batch: list[SimulatedMessage] = []
        for message in self.messages.copy():
            if len(batch) == batch_size:
                break
            if message.visible_at > now:
                continue
            if self.dead_letters is not None and message.receives >= self.max_receives:
                self.messages.remove(message)
                message.receives = 0
                self.dead_letters.messages.append(message)
                continue
            message.receives += 1
            message.visible_at = now + self.visibility_timeout
            batch.append(message)
        return batch

    def delete(self, messages: Collection[SimulatedMessage]) -> None:
        """Removes messages; a missing message is no error."""
        for message in messages:
            with contextlib.suppress(ValueError):
                self.messages.remove(message)

    def next_due(self) -> float:
        """The time at which the next message becomes visible; infinity without a message."""
        return min((each.visible_at for each in self.messages), default=float("inf"))


class SimulatedSqs:
    """The parts of SQS used by the functions, and the part of Lambda that polls queues."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock`: returns seconds."""
        self._clock = clock
        self.queues: dict[str, SimulatedQueue] = {}
        self._ids = (f"message-{number}" for number in itertools.count(1))

    @property
    def client(self) -> SQSClient:
        """The client for Queue."""
        return cast("SQSClient", self)

    def send_message(self, **given: Any) -> None:
        """Sends as boto3 does; the URL is the queue's name."""
        queue = self.queues[given["QueueUrl"]]
        if queue.is_refusing:
            raise EndpointConnectionError(endpoint_url=given["QueueUrl"])
        delay_seconds = given.get("DelaySeconds", 0)
        attributes = {name: value["StringValue"] for name, value in given["MessageAttributes"].items()}
        if not (0 <= delay_seconds <= 900 and 0 < len(attributes) <= 10):
            raise ValueError(f"SQS takes no delay of {delay_seconds} s, and no {len(attributes)} attributes")
        sent = record(next(self._ids), given["MessageBody"], **attributes)
        queue.messages.append(SimulatedMessage(sent, self._clock() + delay_seconds, delay_seconds))

    def send_message_batch(self, **given: Any) -> dict[str, Any]:
        """Sends as boto3 does."""
        if not 0 < len(given["Entries"]) <= 10:
            raise ValueError(f"SQS takes no {len(given['Entries'])} messages at once")
        for entry in given["Entries"]:
            self.send_message(QueueUrl=given["QueueUrl"], **entry)
        return {"Successful": [{"Id": entry["Id"]} for entry in given["Entries"]], "Failed": []}

    def hand_over(self, name: str, handler: Handler, *, batch_size: int = 10, forget: bool = False) -> int:
        """Calls the function with the visible messages, a batch at a time; returns the number of messages.

        A message is deleted unless the function reports its failure. `forget`: the function is killed before its answer
        arrives, so nothing is deleted.
        """
        queue = self.queues[name]
        handed_over = 0
        while batch := queue.receive(self._clock(), batch_size):
            answer = handler({"Records": [each.record for each in batch]}, None)
            failed = {each["itemIdentifier"] for each in answer["batchItemFailures"]}
            if not forget:
                queue.delete({each for each in batch if each.record["messageId"] not in failed})
            handed_over += len(batch)
        return handed_over

    def next_due(self) -> float:
        """The time at which the next message becomes visible; infinity without a message."""
        return min((queue.next_due() for queue in self.queues.values()), default=float("inf"))
