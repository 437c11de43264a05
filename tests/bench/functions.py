"""The real handlers, each in processes of its own as in Lambda, with SQS and Secrets Manager on this machine."""

from __future__ import annotations

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
from typing import Any, cast

from clerk_supabase_cli.simulator.sqs import SimulatedMessage, SimulatedSqs
from tests.bench.aws import Aws, aws
from tests.kit.clock import Clock

Event = dict[str, Any]
Answer = dict[str, Any]


@dataclass
class Function:
    """One function: the source of its messages, and the processes that run the function."""

    queue: str
    """The URL of the queue; empty for a function without a queue."""
    idle: list[Connection] = field(default_factory=list)


class Functions:
    """Lambda: gives the messages of the queues to the functions, a batch to each idle process."""

    def __init__(self, aws: Aws, sqs: SimulatedSqs, clock: Clock, functions: Mapping[str, Function]) -> None:
        self._aws = aws
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
        answer: Answer = process.recv()
        for message in self._aws.messages():
            self._sqs.send_message(**message)
        return answer


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
    with aws(secrets) as made:
        for name, (queue, many) in functions.items():
            function = started[name] = Function(queue)
            for _ in range(many):
                ours, theirs = spawn.Pipe()
                handler = root / "functions" / name / "handler.py"
                # Daemons end with us, however that happens.
                process = spawn.Process(
                    target=_serve, args=(theirs, handler, {**made.environment, **settings}), daemon=True
                )
                process.start()
                theirs.close()
                processes.append(process)
                ends.append(ours)
                function.idle.append(ours)
        try:
            for end in ends:
                end.recv()
            yield Functions(made, sqs, clock, started)
        finally:
            for end in ends:
                end.close()
            for process in processes:
                process.join(10)


def _serve(parent: Connection, handler: Path, settings: Mapping[str, str]) -> None:
    """Runs one process: reports that the process is ready, then answers events until its parent closes the pipe."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ |= settings
    # CloudWatch reads what a function prints; writing it is the function's work, keeping it is not.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    layer = handler.parents[2] / "layers" / "shared"
    sys.path.insert(0, str(layer))
    module = runpy.run_path(str(handler))
    assert str(sys.modules["clerk_supabase.telemetry"].__file__).startswith(str(layer))
    parent.send(None)
    while True:
        try:
            event = parent.recv()
        except EOFError:
            break
        parent.send(module["lambda_handler"](event, None))
    if "store" in module:
        module["store"].close()
