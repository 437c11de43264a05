"""Empties the dead-letter queue: sends messages back once the database is available, or parks them after many failures.

The function also empties the parked queue, into the table of parked events.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from clerk_supabase.aws.queue import Message, Queue
from clerk_supabase.errors import ClerkSupabaseError, DatabaseUnavailable, Retryable, RowUnavailable, SetUpWrong
from clerk_supabase.model.envelope import ParkedEvent
from clerk_supabase.parking import Parking
from clerk_supabase.postgres.store import Store
from clerk_supabase.sync import Sync
from clerk_supabase.telemetry import count, logger

# Unless the template allows a loop of functions and queues, Lambda stops the loop after about 16 passes through one
# function; each attempt is one pass.
# https://docs.aws.amazon.com/lambda/latest/dg/invocation-recursion.html
MAX_ATTEMPTS = 8
# Short, because the queue itself protects the database: its number of workers has a limit.
_FIRST_CEILING_SECONDS = 5
# Of the 60 s of RetryFunction: a message begun before may take twice the limit of a statement, and then be parked.
_SECONDS_TO_TRY = 12.0
# The longest delay of a message in SQS.
_LONGEST_DELAY_SECONDS = 900

Draw = Callable[[float, float], float]


def delay_seconds(attempt: int, draw: Draw = random.uniform) -> int:
    """A random delay before the attempt, counted from 1, up to a ceiling that doubles with each attempt.

    Full jitter: the events of one outage return neither all at once nor in the same batches.
    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """
    ceiling = min(_LONGEST_DELAY_SECONDS, _FIRST_CEILING_SECONDS * 2 ** (attempt - 1))
    return round(draw(0, ceiling))


class Retry:
    """Sends back or parks each dead letter, and moves events from the parked queue into the table of parked events."""

    def __init__(
        self,
        store: Store,
        sync: Sync,
        sync_queue: Queue,
        draw: Draw = random.uniform,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`sync` makes the last attempt, whose error is the reason for parking. `draw` draws the delays."""
        self._store = store
        self._sync = sync
        self._sync_queue = sync_queue
        self._parking = Parking(store)
        self._draw = draw
        self._monotonic = monotonic

    def process(self, messages: Sequence[Message]) -> list[str]:
        """Returns the ids of the messages to leave in their queue.

        While the database is unavailable, all messages stay, and no attempt is counted. SQS deletes a message after
        its copy was sent: a crash in between leaves two copies, which is harmless, and never loses the message.
        """
        try:
            self._store.check()
        except Retryable as error:
            # As in sync: a wrong set-up is no outage.
            if not isinstance(error, SetUpWrong):
                count("RetryPostponed", len(messages))
            svix_ids = [message.envelope.svix_id for message in messages]
            failure = type(error).__name__
            logger.warning(
                "nothing is sent back, all messages stay", reason=str(error), failure=failure, svix_ids=svix_ids
            )
            return [message.message_id for message in messages]
        parked = [message for message in messages if message.parked is not None]
        dead = [message for message in messages if message.parked is None]
        young = [message for message in dead if message.envelope.attempts < MAX_ATTEMPTS]
        old = [message for message in dead if message.envelope.attempts >= MAX_ATTEMPTS]
        staying = [*self._move_to_table(parked), *self._send_back(young), *self._try_once_more(old)]
        count("RetryPostponed", len(staying))
        return [message.message_id for message in staying]

    def _move_to_table(self, messages: Sequence[Message]) -> Sequence[Message]:
        if not messages:
            return []
        try:
            answers: Sequence[ClerkSupabaseError | None] = self._store.park(
                [message.parked for message in messages if message.parked is not None]
            )
        except Retryable as error:
            answers = [error] * len(messages)
        staying = []
        for message, answer in zip(messages, answers, strict=True):
            svix_id = message.envelope.svix_id
            if answer is None:
                logger.info("moved to the table of parked events", svix_id=svix_id)
            else:
                logger.error("not moved to the table of parked events", reason=str(answer), svix_id=svix_id)
                staying.append(message)
        count("Moved", len(messages) - len(staying))
        return staying

    def _send_back(self, messages: Sequence[Message]) -> Sequence[Message]:
        attempts = [replace(message.envelope, attempts=message.envelope.attempts + 1) for message in messages]
        delays = [delay_seconds(envelope.attempts, self._draw) for envelope in attempts]
        answers = self._sync_queue.send_all(list(zip(attempts, delays, strict=True)))
        staying = []
        for message, envelope, delay, error in zip(messages, attempts, delays, answers, strict=True):
            if error is None:
                logger.info("sent back", svix_id=envelope.svix_id, attempt=envelope.attempts, delay_seconds=delay)
            else:
                logger.error("not sent back", svix_id=envelope.svix_id, reason=str(error))
                staying.append(message)
        count("Retried", len(messages) - len(staying))
        return staying

    def _try_once_more(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Try each message alone, with the time of a whole statement; return the messages to leave in the queue."""
        began = self._monotonic()
        for position, message in enumerate(messages):
            if self._monotonic() - began > _SECONDS_TO_TRY:
                # Another message may take the time of a whole statement: the rest waits for the next pass.
                return messages[position:]
            if not self._is_settled(message):
                return messages[position:]
        return []

    def _is_settled(self, message: Message) -> bool:
        """Apply a message, or park it if it fails although the database is available; False: the message stays."""
        error = self._tried(message)
        if isinstance(error, DatabaseUnavailable) and not isinstance(error, RowUnavailable):
            # An outage may have ended this try, and be over: only a second try shows that the message is the reason.
            error = self._tried(message) if self._is_database_there() else error
        if error is None:
            return True
        if not isinstance(error, DatabaseUnavailable) or not self._is_database_there():
            return False
        return self._parking.park([ParkedEvent(message.envelope, "exhausted", str(error))]) == [None]

    def _tried(self, message: Message) -> ClerkSupabaseError | None:
        """Try one message; return the error, if the message has to stay in the queue."""
        failures = self._sync.process([message])
        return failures[0].error if failures else None

    def _is_database_there(self) -> bool:
        try:
            self._store.check()
        except Retryable:
            return False
        return True
