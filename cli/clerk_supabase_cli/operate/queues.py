"""The queues of a deployed stack: their addresses, and the number and age of their messages."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

from clerk_supabase_cli.failure import Failure

Name = Literal["sync", "dead_letters", "parked"]

HOW_TO_NAME_QUEUES: Final = "--stack-name NAME (or CLERK_SUPABASE_STACK=NAME)"
"""The options that name the queues, for hints."""
OUTPUTS: Final[Mapping[Name, str]] = {
    "sync": "SyncQueueUrl",
    "dead_letters": "SyncDeadLetterQueueUrl",
    "parked": "ParkedQueueUrl",
}
"""The outputs of template.yaml with the addresses of the queues."""

IN_WORDS: Final[Mapping[Name, str]] = {"sync": "sync", "dead_letters": "dead letters", "parked": "parked"}
"""The first column of a list of queues, for people."""
QUEUE_NAMES: Final[Mapping[Name, str]] = {
    "sync": "sync queue",
    "dead_letters": "dead-letter queue",
    "parked": "parked queue",
}
"""The names of the queues in a sentence."""

# SQS reports to CloudWatch once a minute, and CloudWatch shows the report minutes later.
_METRIC_WINDOW: Final = timedelta(minutes=15)


class AwsUnreachable(Failure):
    """AWS could not be reached, or rejected a request."""


@dataclass(frozen=True, slots=True)
class Depth:
    """The number of messages in a queue, by SQS's own estimate."""

    waiting: int
    in_flight: int
    delayed: int
    oldest_seconds: float | None
    """Age of the oldest waiting message; None if unknown."""

    @property
    def total(self) -> int:
        """The number of all messages."""
        return self.waiting + self.in_flight + self.delayed


@dataclass(frozen=True, slots=True)
class Queues:
    """The addresses of the queues; queues without a given name are missing."""

    urls: Mapping[Name, str]

    @classmethod
    def of_stack(cls, stack_name: str) -> Queues:
        """The queues of a CloudFormation stack of this project. Raises AwsUnreachable."""
        with errors_explained():
            answer = client("cloudformation").describe_stacks(StackName=stack_name)
        outputs = {each["OutputKey"]: each["OutputValue"] for each in answer["Stacks"][0].get("Outputs", [])}
        urls = {name: outputs[key] for name, key in OUTPUTS.items() if key in outputs}
        if not urls:
            raise AwsUnreachable(f"the stack {stack_name} has none of the outputs {', '.join(OUTPUTS.values())}")
        return cls(urls)

    def depths(self) -> dict[Name, Depth]:
        """The numbers of waiting messages, by queue. Raises AwsUnreachable."""
        with errors_explained():
            sqs = client("sqs")
            counts = {name: _counts(sqs, url) for name, url in self.urls.items()}
        ages = self._ages()
        return {name: Depth(*numbers, ages.get(name) if any(numbers) else 0.0) for name, numbers in counts.items()}

    def _ages(self) -> dict[Name, float]:
        """Ages of the oldest messages in seconds, as far as CloudWatch knows them; SQS itself does not tell."""
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - see _client

        now = datetime.now(UTC)
        try:
            answer = client("cloudwatch").get_metric_data(
                MetricDataQueries=[_age_query(name, url) for name, url in self.urls.items()],
                StartTime=now - _METRIC_WINDOW,
                EndTime=now + timedelta(minutes=1),
                ScanBy="TimestampDescending",
            )
        except (BotoCoreError, ClientError):
            return {}
        return {each["Id"]: each["Values"][0] for each in answer["MetricDataResults"] if each["Values"]}


def client(service: str) -> Any:
    """A client by the usual AWS environment: region, profile, credentials, AWS_ENDPOINT_URL. Raises AwsUnreachable."""
    try:
        with errors_explained():
            return _client(service)
    except ValueError as error:
        raise AwsUnreachable("AWS cannot be reached: AWS_ENDPOINT_URL is no URL") from error


def _client(service: str) -> Any:
    # boto3 takes a quarter of a second to load, and most commands do not reach AWS.
    import boto3  # noqa: PLC0415
    import botocore.session  # noqa: PLC0415
    from botocore.config import Config  # noqa: PLC0415

    core: Any = botocore.session.Session()
    core.register_component("data_loader", _descriptions())
    # boto3 itself does not read AWS_REGION, unlike every other AWS tool.
    session: Any = boto3.session.Session(botocore_session=core, region_name=os.environ.get("AWS_REGION") or None)
    config = Config(connect_timeout=5, read_timeout=20, retries={"mode": "standard"}, max_pool_connections=20)
    return session.client(service, config=config)


@functools.cache
def _descriptions() -> Any:
    """botocore's descriptions of the services, shared because their reading is most of the cost of a client."""
    import botocore.loaders  # noqa: PLC0415 - see _client

    return botocore.loaders.create_loader()


def _counts(sqs: Any, url: str) -> tuple[int, int, int]:
    names = [f"ApproximateNumberOfMessages{suffix}" for suffix in ("", "NotVisible", "Delayed")]
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    waiting, in_flight, delayed = (int(attributes[name]) for name in names)
    return waiting, in_flight, delayed


def _age_query(name: Name, url: str) -> dict[str, Any]:
    metric = {
        "Namespace": "AWS/SQS",
        "MetricName": "ApproximateAgeOfOldestMessage",
        "Dimensions": [{"Name": "QueueName", "Value": url.rpartition("/")[2]}],
    }
    return {"Id": name, "MetricStat": {"Metric": metric, "Period": 60, "Stat": "Maximum"}}


@contextmanager
def errors_explained() -> Iterator[None]:
    """Raises AwsUnreachable, with advice, for errors of AWS or its client inside the block."""
    from botocore.exceptions import (  # noqa: PLC0415 - see _client
        BotoCoreError,
        ClientError,
        NoCredentialsError,
        NoRegionError,
    )

    try:
        yield
    except NoCredentialsError as error:
        raise AwsUnreachable("no AWS credentials: set AWS_PROFILE, or log in with the AWS CLI") from error
    except NoRegionError as error:
        raise AwsUnreachable("no AWS region: set AWS_REGION") from error
    except ClientError as error:
        raise AwsUnreachable(f"AWS rejected: {error.response['Error'].get('Message') or error}") from error
    except BotoCoreError as error:
        raise AwsUnreachable(f"AWS cannot be reached: {error}") from error
