"""The real handlers, each in processes of its own as in Lambda, with boto3 and everything else but the network.

SQS and Secrets Manager are answered inside the process, after boto3 has built and signed the request.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Final, cast

import boto3
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.compat import HTTPHeaders

from clerk_supabase_cli.simulator.sqs import SimulatedMessage, SimulatedSqs
from tests.kit.clock import Clock

Event = dict[str, Any]
Answer = dict[str, Any]

ACCOUNT: Final = {
    "AWS_DEFAULT_REGION": "eu-central-1",
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "POWERTOOLS_METRICS_NAMESPACE": "Bench",
}


@dataclass
class Function:
    """One function: the source of its messages, and the processes that run the function."""

    queue: str
    """The URL of the queue; empty for a function without a queue."""
    idle: list[Connection] = field(default_factory=list)


class Functions:
    """Lambda: gives the messages of the queues to the functions, a batch to each idle process."""

    def __init__(self, sqs: SimulatedSqs, clock: Clock, functions: Mapping[str, Function]) -> None:
        self._sqs = sqs
        self._clock = clock
        self._functions = functions

    def call(self, name: str, events: Sequence[Event]) -> list[Answer]:
        """The answers of a function to all events, in no order."""
        answers: list[Answer] = []
        waiting = iter(events)
        idle = self._functions[name].idle
        busy: list[Connection] = []
        while True:
            while idle and (event := next(waiting, None)) is not None:
                busy.append(idle.pop())
                busy[-1].send(event)
            if not busy:
                return answers
            for process in cast("list[Connection]", wait(busy)):
                busy.remove(process)
                answers.append(self._answer(process))
                idle.append(process)

    def work(self, seconds: float, names: Collection[str] = ()) -> None:
        """Lets the time of the queues pass: whenever a message can be received, its function gets it.

        *names*: only these functions receive messages. The clock is the real clock while a function works, and jumps to
        the next message when none does. Ends early when the queues are empty.
        """
        end = self._clock.now + seconds
        busy: dict[Connection, tuple[Function, list[SimulatedMessage]]] = {}
        functions = [function for name, function in self._functions.items() if not names or name in names]
        while True:
            began = time.perf_counter()
            for function in functions:
                while function.idle and (batch := self._receive(function)):
                    process = function.idle.pop()
                    process.send({"Records": [message.record for message in batch]})
                    busy[process] = function, batch
            if busy:
                for process in cast("list[Connection]", wait(list(busy))):
                    function, batch = busy.pop(process)
                    failed = {each["itemIdentifier"] for each in self._answer(process)["batchItemFailures"]}
                    done = {message for message in batch if message.record["messageId"] not in failed}
                    self._sqs.queues[function.queue].delete(done)
                    function.idle.append(process)
                self._clock.now += time.perf_counter() - began
                continue
            due = min(self._sqs.queues[function.queue].next_due() for function in functions if function.queue)
            if due == float("inf"):
                return
            if due > end:
                self._clock.now = end
                return
            self._clock.now = due

    def _receive(self, function: Function) -> list[SimulatedMessage]:
        return self._sqs.queues[function.queue].receive(self._clock.now) if function.queue else []

    def _answer(self, process: Connection) -> Answer:
        """Sends the messages of a function before its answer counts, as on AWS."""
        answer, sent = process.recv()
        for message in sent:
            self._sqs.send_message(**message)
        return cast("Answer", answer)


@contextmanager
def running(
    root: Path,
    sqs: SimulatedSqs,
    clock: Clock,
    *,
    secrets: Mapping[str, str],
    settings: Mapping[str, str],
    functions: Mapping[str, tuple[str, int]],
) -> Iterator[Functions]:
    """Starts the processes of each function: the URL of its queue, and how many. *secrets* are by ARN."""
    spawn = get_context("spawn")
    ends: list[Connection] = []
    processes = []
    started: dict[str, Function] = {}
    for name, (queue, many) in functions.items():
        function = started[name] = Function(queue)
        for _ in range(many):
            ours, theirs = spawn.Pipe()
            handler = root / "functions" / name / "handler.py"
            # Daemons end with us, however that happens.
            process = spawn.Process(target=_serve, args=(theirs, handler, dict(secrets), dict(settings)), daemon=True)
            process.start()
            theirs.close()
            processes.append(process)
            ends.append(ours)
            function.idle.append(ours)
    try:
        for end in ends:
            end.recv()
        yield Functions(sqs, clock, started)
    finally:
        for end in ends:
            end.close()
        for process in processes:
            process.join(10)


def _serve(parent: Connection, handler: Path, secrets: Mapping[str, str], settings: Mapping[str, str]) -> None:
    """Runs one process: reports that the process is ready, then answers events until its parent closes the pipe."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ |= ACCOUNT | dict(settings)
    # CloudWatch reads what a function prints; writing it is the function's work, keeping it is not.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sent = stand_in_for_aws(secrets)
    module = runpy.run_path(str(handler))
    parent.send(None)
    while True:
        try:
            event = parent.recv()
        except EOFError:
            break
        answer = module["lambda_handler"](event, None)
        parent.send((answer, sent))
        sent.clear()
    if "store" in module:
        module["store"].close()


def stand_in_for_aws(secrets: Mapping[str, str]) -> list[dict[str, Any]]:
    """Answers this process's requests to SQS and Secrets Manager; messages sent to SQS are added to the list."""
    sent: list[dict[str, Any]] = []

    def to_sqs(request: AWSPreparedRequest, **_: object) -> AWSResponse:
        asked = _json(request)
        if request.headers["X-Amz-Target"] in ("AmazonSQS.SendMessage", b"AmazonSQS.SendMessage"):
            sent.append(asked)
            return _response(request, {"MessageId": "message", "MD5OfMessageBody": ""})
        assert request.headers["X-Amz-Target"] in ("AmazonSQS.SendMessageBatch", b"AmazonSQS.SendMessageBatch")
        sent.extend({"QueueUrl": asked["QueueUrl"], **entry} for entry in asked["Entries"])
        taken = [{"Id": entry["Id"], "MessageId": "message", "MD5OfMessageBody": ""} for entry in asked["Entries"]]
        return _response(request, {"Successful": taken, "Failed": []})

    def to_secrets_manager(request: AWSPreparedRequest, **_: object) -> AWSResponse:
        arn = _json(request)["SecretId"]
        return _response(request, {"ARN": arn, "SecretString": secrets[arn]})

    boto3.setup_default_session()
    assert boto3.DEFAULT_SESSION is not None
    boto3.DEFAULT_SESSION.events.register("before-send.sqs", cast("Any", to_sqs))
    boto3.DEFAULT_SESSION.events.register("before-send.secrets-manager", cast("Any", to_secrets_manager))
    return sent


def _json(request: AWSPreparedRequest) -> dict[str, Any]:
    return cast("dict[str, Any]", json.loads(cast("bytes", request.body)))


class _Body:
    """The body of an answer, as botocore reads it."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def stream(self, **_: object) -> Iterator[bytes]:
        yield self._content


def _response(request: AWSPreparedRequest, answer: Mapping[str, object]) -> AWSResponse:
    return AWSResponse(request.url, 200, HTTPHeaders(), _Body(json.dumps(answer).encode()))
