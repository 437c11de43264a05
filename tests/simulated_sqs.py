"""SQS and its hand-over to functions on a clock of their own: an hour passes when a test says so.

Visibility, delays, redrive and batches that fail in part are those of the developer guides of SQS and Lambda.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from botocore.exceptions import EndpointConnectionError

from tests.aws import record
from tests.clock import Clock

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

Handler = Callable[[dict[str, Any], object], dict[str, Any]]


@dataclass
class _Message:
    record: dict[str, Any]
    visible_at: float
    delay_seconds: int
    receives: int = 0


@dataclass
class SimulatedQueue:
    """One standard queue."""

    visibility_timeout: float
    dead_letters: SimulatedQueue | None = None
    max_receives: int = 0
    messages: list[_Message] = field(default_factory=list)
    is_refusing: bool = False
    """Whether SQS answers with an error when something is sent."""

    def take_all(self) -> list[dict[str, Any]]:
        """Removes every message, even those nobody could receive yet, and says how long each was to wait."""
        taken, self.messages = self.messages, []
        return [{**each.record, "delaySeconds": each.delay_seconds} for each in taken]


class SimulatedSqs:
    """As much of SQS as functions use, and of Lambda as polls queues for them."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.queues: dict[str, SimulatedQueue] = {}
        self._ids = (f"message-{number}" for number in itertools.count(1))

    @property
    def client(self) -> SQSClient:
        """For Queue."""
        return cast("SQSClient", self)

    def send_message(self, **given: Any) -> None:
        """As boto3 has it; the URL is the queue's name."""
        queue = self.queues[given["QueueUrl"]]
        if queue.is_refusing:
            raise EndpointConnectionError(endpoint_url=given["QueueUrl"])
        delay_seconds = given.get("DelaySeconds", 0)
        assert 0 <= delay_seconds <= 900
        attributes = {name: value["StringValue"] for name, value in given["MessageAttributes"].items()}
        assert 0 < len(attributes) <= 10
        sent = record(next(self._ids), given["MessageBody"], **attributes)
        queue.messages.append(_Message(sent, self.clock.now + delay_seconds, delay_seconds))

    def hand_over(self, name: str, handler: Handler, *, batch_size: int = 10, forget: bool = False) -> int:
        """Calls the function with what can be received now, a batch at a time; returns how many messages there were.

        A message is deleted unless its function names it; one that was received too often goes to the dead letters.
        `forget`: the function is killed before its answer arrives, so nothing is deleted.
        """
        queue = self.queues[name]
        handed_over = 0
        while batch := self._receive(queue, batch_size):
            answer = handler({"Records": [each.record for each in batch]}, None)
            failed = {each["itemIdentifier"] for each in answer["batchItemFailures"]}
            gone = [each for each in batch if each.record["messageId"] not in failed and not forget]
            queue.messages = [each for each in queue.messages if each not in gone]
            handed_over += len(batch)
        return handed_over

    def next_due(self) -> float:
        """When the next message can be received; infinity when there is none."""
        return min((each.visible_at for queue in self.queues.values() for each in queue.messages), default=float("inf"))

    def _receive(self, queue: SimulatedQueue, batch_size: int) -> list[_Message]:
        batch: list[_Message] = []
        for message in [each for each in queue.messages if each.visible_at <= self.clock.now]:
            if len(batch) == batch_size:
                break
            if queue.dead_letters is not None and message.receives >= queue.max_receives:
                queue.messages.remove(message)
                message.receives = 0
                queue.dead_letters.messages.append(message)
                continue
            message.receives += 1
            message.visible_at = self.clock.now + queue.visibility_timeout
            batch.append(message)
        return batch
