"""Numbers for the picture of the dashboard, measured while the stack of `make dev` is busy.

The functions write their metrics into their logs, as on AWS. The queues are asked. The API of AWS would count requests
and their durations: each is one invocation here.
"""

from __future__ import annotations

import json
import re
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import boto3
import httpx

from clerk_supabase_cli.local.dev.running import RunningStack
from clerk_supabase_cli.standin.instance.beginning import ADA
from tests.pictures.dashboard import Numbers, key_of

SECONDS: Final = 60
STEP: Final = 2
FUNCTIONS: Final = ("ingest", "sync", "retry", "reconcile", "session")
QUEUES: Final = ("sync", "sync-dead-letters", "parked", "failed-runs")
_ATTRIBUTES: Final = {
    "ApproximateNumberOfMessages": "ApproximateNumberOfMessagesVisible",
    "ApproximateNumberOfMessagesNotVisible": "ApproximateNumberOfMessagesNotVisible",
}
_DURATION: Final = re.compile(r"REPORT .*?Duration: ([\d.]+) ms")
_PLAY: Final = ("--rate", "8", "--seconds", "50", "--lose", "12", "--reorder", "20", "--duplicate", "10")
_BETWEEN_RUNS: Final = 7.0

Values = dict[str, list[tuple[float, float]]]


def measure(root: Path, stack: RunningStack, keys: Collection[str]) -> Numbers:
    """A minute of a stack: random changes, lost webhooks, sign-ins, forged webhooks, and comparisons.

    *keys*: the metrics to measure, of a stack named `stack`.
    """
    program = f"{root}/.venv/bin/clerk-supabase"
    environment = {"PATH": "/usr/bin:/bin", **stack.variables}
    minted = subprocess.run([program, "token", "mint", "--user", ADA], env=environment, check=True, capture_output=True)
    token = minted.stdout.decode().strip()
    values: Values = defaultdict(list)
    began, ended = time.time(), threading.Event()
    busy = [
        threading.Thread(target=_repeat, args=[ended, seconds, work])
        for seconds, work in (
            (0.5, lambda: _look_at_queues(stack, began, values)),
            (1.5, lambda: _post(stack.session_url, token)),
            (9.0, lambda: _post(stack.webhook_url, "forged")),
            (_BETWEEN_RUNS, lambda: _compare(stack)),
        )
    ]
    for thread in busy:
        thread.start()
    subprocess.run([program, "clerk", "play", *_PLAY], env=environment, check=True, stdout=subprocess.DEVNULL)
    time.sleep(max(began + SECONDS - time.time(), 0))
    ended.set()
    for thread in busy:
        thread.join()
    _read_logs(stack, began, values)
    renamed = {key.replace(stack.name, "stack"): found for key, found in values.items()}
    return Numbers(SECONDS, STEP, {key: sorted(renamed.get(key, [])) for key in keys})


def _repeat(ended: threading.Event, seconds: float, work: Callable[[], None]) -> None:
    while not ended.wait(seconds):
        work()


def _client(stack: RunningStack, service: Any) -> Any:
    aws = stack.aws
    return boto3.session.Session(aws["AWS_ACCESS_KEY_ID"], aws["AWS_SECRET_ACCESS_KEY"]).client(
        service, endpoint_url=aws["AWS_ENDPOINT_URL"], region_name=aws["AWS_REGION"]
    )


def _post(url: str, token: str) -> None:
    httpx.post(url, headers={"authorization": f"Bearer {token}"}, content=b"{}", timeout=60, trust_env=False)


def _compare(stack: RunningStack) -> None:
    _client(stack, "lambda").invoke(FunctionName=f"{stack.name}-reconcile", Qualifier="live", Payload=_event(stack))


def _event(stack: RunningStack) -> str:
    resource = _client(stack, "cloudformation").describe_stack_resource(
        StackName=stack.name, LogicalResourceId="ReconcileFunctionFull"
    )
    name = resource["StackResourceDetail"]["PhysicalResourceId"]
    return str(_client(stack, "scheduler").get_schedule(Name=name)["Target"]["Input"])


def _look_at_queues(stack: RunningStack, began: float, values: Values) -> None:
    sqs = _client(stack, "sqs")
    for queue in QUEUES:
        name = f"{stack.name}-{queue}"
        url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
        found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=list(_ATTRIBUTES))["Attributes"]
        for attribute, metric in _ATTRIBUTES.items():
            at = round(time.time() - began, 1)
            values[key_of("AWS/SQS", metric, {"QueueName": name})].append((at, float(found[attribute])))


def _read_logs(stack: RunningStack, began: float, values: Values) -> None:
    logs = _client(stack, "logs")
    for function in FUNCTIONS:
        group = f"/aws/lambda/{stack.name}-{function}"
        for page in logs.get_paginator("filter_log_events").paginate(logGroupName=group, startTime=int(began * 1000)):
            for event in page["events"]:
                at = round(event["timestamp"] / 1000 - began, 1)
                for key, value in _measured(stack, function, event["message"]):
                    if 0 <= at <= SECONDS:
                        values[key].append((at, value))


def _measured(stack: RunningStack, function: str, message: str) -> Iterator[tuple[str, float]]:
    """The metrics in a line of a function's log."""
    if message.startswith('{"_aws":'):
        yield from _embedded(json.loads(message))
    if function in {"ingest", "session"} and (found := _DURATION.match(message)):
        api = {"ApiName": f"{stack.name}-webhooks"}
        yield key_of("AWS/ApiGateway", "Count", api), 1
        yield key_of("AWS/ApiGateway", "Latency", api), float(found[1])


def _embedded(said: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """The metrics of a record in CloudWatch's embedded metric format."""
    for described in said["_aws"]["CloudWatchMetrics"]:
        for names in described["Dimensions"]:
            dimensions = {name: said[name] for name in names}
            for metric in described["Metrics"]:
                values = said[metric["Name"]]
                for value in values if isinstance(values, list) else [values]:
                    yield key_of(described["Namespace"], metric["Name"], dimensions), value
