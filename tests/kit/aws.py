"""An AWS account in memory: the queues and secrets of the bundle, as strict as the real ones where moto is not."""

from __future__ import annotations

import functools
import itertools
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import moto.core.responses
import moto.core.utils
import moto.sqs.models
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from clerk_supabase.aws import clients as aws
from clerk_supabase_cli.simulator.sqs import record

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient
    from mypy_boto3_sqs import SQSClient

LARGEST_MESSAGE = 1_048_576
_MOST_AT_ONCE = 10


class Region:
    """AWS in memory, whose clients are as slow to make as real clients: shared by the tests of a module."""

    def __init__(self) -> None:
        self.sqs: SQSClient = aws.sqs()
        self.secrets_manager: SecretsManagerClient = aws.secrets_manager()
        self.secret_reads: list[str] = []
        self.sqs.meta.events.register("before-parameter-build.sqs.SendMessage", _reject_what_sqs_rejects)
        self.sqs.meta.events.register("before-parameter-build.sqs.SendMessageBatch", _reject_a_batch)
        self.secrets_manager.meta.events.register(
            "before-parameter-build.secretsmanager.GetSecretValue",
            lambda params, **_: self.secret_reads.append(params["SecretId"]),
        )
        self._accounts = itertools.count(1)

    @classmethod
    @contextmanager
    def in_memory(cls) -> Iterator[Self]:
        """Exists only as long as the `with` block lasts."""
        with mock_aws(), _same_answers_sooner():
            yield cls()

    def account(self) -> Account:
        """Two empty queues, and no secret yet."""
        self.secret_reads.clear()
        number = next(self._accounts)
        urls = [self.sqs.create_queue(QueueName=f"{name}-{number}")["QueueUrl"] for name in ("sync", "parked")]
        return Account(self.sqs, self.secrets_manager, self.secret_reads, number, *urls)


@dataclass
class Account:
    """The queues and secrets that a function of the bundle finds in its account."""

    sqs: SQSClient
    secrets_manager: SecretsManagerClient
    secret_reads: list[str]
    """The id of every requested secret, after a success or a failure."""
    number: int
    sync_queue_url: str
    parked_queue_url: str
    _stored: dict[str, tuple[str, str]] = field(default_factory=dict, init=False)
    """Value and ARN of each secret."""

    def put_secret(self, name: str, value: str) -> str:
        """Stores a secret, or a new value for the secret; returns its ARN."""
        stored, arn = self._stored.get(name, ("", ""))
        if not arn:
            arn = self.secrets_manager.create_secret(Name=self._secret_id(name), SecretString=value)["ARN"]
        elif stored != value:
            self.secrets_manager.put_secret_value(SecretId=arn, SecretString=value)
        self._stored[name] = (value, arn)
        return arn

    def take_secret_away(self, name: str) -> None:
        """Makes Secrets Manager answer with an error to requests for a secret, from now on."""
        self.secrets_manager.delete_secret(SecretId=self._secret_id(name))

    def bring_secret_back(self, name: str) -> None:
        """Undoes take_secret_away."""
        self.secrets_manager.restore_secret(SecretId=self._secret_id(name))

    def _secret_id(self, name: str) -> str:
        return f"{name}-{self.number}"

    def remove_queue(self, url: str) -> None:
        """From now on SQS takes nothing for this queue."""
        self.sqs.delete_queue(QueueUrl=url)

    def received(self, queue_url: str) -> list[dict[str, Any]]:
        """Takes all messages from a queue, as records of Lambda's event."""
        records: list[dict[str, Any]] = []
        messages: list[Any] = [None] * _MOST_AT_ONCE
        # Queues in memory hand out as many messages as they have: fewer are the last ones.
        while len(messages) == _MOST_AT_ONCE:
            messages = self.sqs.receive_message(
                QueueUrl=queue_url,
                MaxNumberOfMessages=_MOST_AT_ONCE,
                MessageAttributeNames=["All"],
                MessageSystemAttributeNames=["All"],
            ).get("Messages", [])
            if not messages:
                break
            self.sqs.delete_message_batch(
                QueueUrl=queue_url,
                Entries=[{"Id": each["MessageId"], "ReceiptHandle": each["ReceiptHandle"]} for each in messages],
            )
            records += map(_record, messages)
        return records

    def lambda_event(self, queue_url: str) -> dict[str, Any]:
        """The event with which Lambda calls a function for all messages of a queue."""
        return {"Records": self.received(queue_url)}


@contextmanager
def _same_answers_sooner() -> Iterator[None]:
    """Replaces three functions of moto, which took a quarter of the time of the tests of queues, by cheaper ones.

    For each received message, moto computes all attributes of the queue, and for each of these looks at all messages.
    """
    spelled = functools.cache(moto.core.utils.camelcase_to_underscores)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(moto.sqs.models, "camelcase_to_underscores", spelled)
        patch.setattr(moto.core.responses, "camelcase_to_underscores", spelled)
        patch.setattr(moto.sqs.models, "unix_time_millis", lambda: time.time() * 1_000)
        patch.setattr(moto.sqs.models.SQSBackend, "is_message_valid_based_on_retention_period", _is_retained)
        yield


def _is_retained(backend: Any, queue_name: str, message: Any) -> bool:
    retained_seconds: int = backend.get_queue(queue_name).message_retention_period
    sent_at: int = message.sent_timestamp
    return sent_at / 1_000 + retained_seconds > time.time()


def _record(message: Any) -> dict[str, Any]:
    attributes = {name: value["StringValue"] for name, value in message.get("MessageAttributes", {}).items()}
    made = record(message["MessageId"], message["Body"], **attributes)
    return made | {"attributes": message["Attributes"]}


def _reject_what_sqs_rejects(params: dict[str, Any], **_: object) -> None:
    """Rejects requests that SQS rejects and moto accepts.

    Source: SendMessage and quotas in the API reference and guide of Amazon SQS.
    """
    texts = [params["MessageBody"]]
    texts += [value["StringValue"] for value in params.get("MessageAttributes", {}).values()]
    if not all(texts):
        raise _rejection("InvalidParameterValue", "a body or an attribute is empty")
    if not _ALLOWED.fullmatch("".join(texts)):
        raise _rejection("InvalidMessageContents", "a character outside the allowed set")
    if _size(params) > LARGEST_MESSAGE:
        raise _rejection("InvalidParameterValue", "larger than 1 MiB")


def _size(params: dict[str, Any]) -> int:
    texts = [params["MessageBody"], *params.get("MessageAttributes", {})]
    for value in params.get("MessageAttributes", {}).values():
        texts += [value["DataType"], value["StringValue"]]
    return len("".join(texts).encode())


def _reject_a_batch(params: dict[str, Any], **_: object) -> None:
    for entry in params["Entries"]:
        _reject_what_sqs_rejects(entry)
    if sum(_size(entry) for entry in params["Entries"]) > LARGEST_MESSAGE:
        raise _rejection("AWS.SimpleQueueService.BatchRequestTooLong", "larger than 1 MiB together")


# The characters of XML 1.0.
_ALLOWED = re.compile("[\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]*")


def _rejection(code: str, message: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, "SendMessage")
