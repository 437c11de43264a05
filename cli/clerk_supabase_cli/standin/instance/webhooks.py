"""Sends events as Svix does for Clerk: signed, in parallel, again after a failure; and with faults, if wished."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from random import Random
from types import TracebackType
from typing import Final, Literal, Self

import httpx

from clerk_supabase_cli.standin.deliveries import new_svix_id, sign
from clerk_supabase_cli.standin.samples import Json

# https://docs.svix.com/retries: seconds between a failed attempt and the next.
RETRIES: Final = (5, 300, 1_800, 7_200, 18_000, 36_000, 36_000)
_ANSWER_SECONDS: Final = 15.0
_AT_ONCE: Final = 4
_LONGEST_HELD: Final = 30.0
_MOST_REMEMBERED: Final = 10_000

State = Literal["waiting", "delivered", "failed", "lost"]


@dataclass(frozen=True, slots=True)
class DeliveryFaults:
    """Faults of the delivery: probabilities from 0 to 1, and a delay in seconds."""

    lose: float = 0.0
    """Nothing is ever sent."""
    duplicate: float = 0.0
    """The message is sent a second time after its delivery."""
    reorder: float = 0.0
    """The message is sent after the next message, or half a minute later."""
    delay: float = 0.0


NO_FAULTS: Final = DeliveryFaults()


@dataclass(slots=True)
class Message:
    """A webhook; its id is the same in every attempt."""

    svix_id: str
    event: Json
    state: State = "waiting"
    answers: list[str] = field(default_factory=list)
    """The answer to each attempt: a status, or the error of the connection."""
    faults: list[str] = field(default_factory=list)
    """The faults that were drawn for this message."""

    def summary(self) -> Json:
        """The message without its content."""
        return {
            "svix_id": self.svix_id,
            "type": self.event["type"],
            "object_id": self.event["data"].get("id"),
            "state": self.state,
            "answers": self.answers,
            "faults": self.faults,
        }


@dataclass(order=True, slots=True)
class _Attempt:
    due: float
    """By the clock of `time.monotonic`."""
    number: int
    """Rises with each message and copy."""
    message: Message = field(compare=False)
    failures: int = field(default=0, compare=False)
    is_held: bool = field(default=False, compare=False)
    """True: the attempt waits for the delivery of a later message."""


class Webhooks:
    """The messages, and during the `with` block the threads that post the messages to an address.

    Events from before `deliver_to()` are sent to nobody: the endpoint did not exist then.
    """

    def __init__(self, *, retries: tuple[float, ...] = RETRIES, longest_held: float = _LONGEST_HELD) -> None:
        """*retries*: seconds before each further attempt; *longest_held*: seconds, at most, before a reordered one."""
        self.messages: deque[Message] = deque(maxlen=_MOST_REMEMBERED)
        """The latest messages, oldest first."""
        self.chance = Random()  # noqa: S311 - draws faults, not secrets
        self._retries = retries
        self._longest_held = longest_held
        self._url = self._secret = ""
        self._queue: list[_Attempt] = []
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._has_ended = False
        self._threads = [
            threading.Thread(target=self._work, name=f"webhooks-{number}", daemon=True) for number in range(_AT_ONCE)
        ]

    def deliver_to(self, url: str, secret: str) -> None:
        """Posts the events from now on to *url*, signed with *secret*."""
        self._url, self._secret = url, secret

    def __enter__(self) -> Self:
        # A proxy of the environment could not reach this machine's loopback.
        self._client = httpx.Client(timeout=_ANSWER_SECONDS, trust_env=False)
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._has_ended = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(_ANSWER_SECONDS)
        self._client.close()

    def send(self, event: Json, faults: DeliveryFaults = NO_FAULTS) -> Message | None:
        """Takes an event for delivery; None without an address."""
        if not self._url:
            return None
        message = Message(new_svix_id(), event)
        message.faults = [
            name for name in ("lose", "duplicate", "reorder") if self.chance.random() < getattr(faults, name)
        ]
        message.faults += ["delay"] if faults.delay else []
        with self._changed:
            self.messages.append(message)
            if "lose" in message.faults:
                message.state = "lost"
            else:
                is_held = "reorder" in message.faults
                self._push(message, faults.delay + (self._longest_held if is_held else 0.0), is_held=is_held)
        return message

    def _push(self, message: Message, seconds: float, *, failures: int = 0, is_held: bool = False) -> None:
        due = time.monotonic() + seconds
        heapq.heappush(self._queue, _Attempt(due, next(self._numbers), message, failures, is_held))
        self._changed.notify_all()

    def _work(self) -> None:
        while (attempt := self._next()) is not None:
            answer, is_good = self._post(attempt.message)
            with self._changed:
                self._note(attempt, answer, is_good=is_good)

    def _next(self) -> _Attempt | None:
        """The next attempt, at its time; None at the end."""
        with self._changed:
            while not self._has_ended:
                wait = self._queue[0].due - time.monotonic() if self._queue else None
                if wait is not None and wait <= 0:
                    return heapq.heappop(self._queue)
                self._changed.wait(wait)
            return None

    def _post(self, message: Message) -> tuple[str, bool]:
        try:
            request = sign(message.event, self._secret, svix_id=message.svix_id)
            answer = self._client.post(self._url, content=request.body, headers=dict(request.headers))
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, TypeError) as error:
            # Also an event that is no text, such as one with half of a character: no thread may end by it.
            return type(error).__name__, False
        return str(answer.status_code), answer.is_success

    def _note(self, attempt: _Attempt, answer: str, *, is_good: bool) -> None:
        message = attempt.message
        message.answers.append(answer)
        if is_good:
            if message.state == "waiting" and "duplicate" in message.faults:
                self._push(message, 0)
            message.state = "delivered"
            self._release_held(attempt.number)
        elif message.state == "waiting" and attempt.failures < len(self._retries):
            self._push(message, self._retries[attempt.failures], failures=attempt.failures + 1)
        elif message.state == "waiting":
            message.state = "failed"

    def _release_held(self, number: int) -> None:
        """Sends the reordered messages now, after the delivery of a later message."""
        for attempt in self._queue:
            if attempt.is_held and attempt.number < number:
                attempt.due, attempt.is_held = time.monotonic(), False
        heapq.heapify(self._queue)
        self._changed.notify_all()
