"""The path from ingest to the tables: the queues, their clock, and the outages of the database and of SQS."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from clerk_supabase.aws.queue import Message, Queue, messages_of
from clerk_supabase_cli.simulator.orders.schedules import Batch, Fate
from clerk_supabase_cli.simulator.outages import DatabaseSwitch, Outage
from clerk_supabase_cli.simulator.sqs import SimulatedMessage, SimulatedQueue, SimulatedSqs

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

QueueName = Literal["sync", "dead letters", "parked"]

# As in template.yaml.
SYNC_VISIBILITY_SECONDS: Final = 180
RETRY_VISIBILITY_SECONDS: Final = 360
MAX_RECEIVES: Final = 5
BATCH_SIZE: Final = 10

# No message needs as long: an outage lasts up to four hours, and eight attempts take four hours, too.
_LONGEST_SECONDS: Final = 2 * 86_400
# Clerk does not wait for the database: this number of batches arrives during an outage of the database.
_ARRIVE_WHILE_AWAY: Final = 3


class Killed(Exception):
    """The function is killed: its remaining steps do not happen."""


@dataclass(frozen=True, slots=True)
class Job:
    """The messages of a single call of a function."""

    queue: QueueName
    entries: Sequence[SimulatedMessage]
    messages: Sequence[Message]
    fate: Fate
    outage: Outage | None
    """The present outage of the database; None while the database is available."""


class Line:
    """The waiting messages, and a clock. Work takes no time; without work, the clock goes on to the next due moment."""

    def __init__(self, batches: Iterable[Batch], chance: Random, database: DatabaseSwitch) -> None:
        self._arriving = deque(batches)
        self._database = database
        self._now = 0.0
        self._seconds_between_batches = chance.choice((0, 2, 15))
        self.draw = chance.uniform
        self._sqs = SimulatedSqs(lambda: self._now)
        dead_letters = SimulatedQueue(RETRY_VISIBILITY_SECONDS)
        self._queues: dict[QueueName, SimulatedQueue] = {
            "sync": SimulatedQueue(SYNC_VISIBILITY_SECONDS, dead_letters, MAX_RECEIVES),
            "dead letters": dead_letters,
            "parked": SimulatedQueue(RETRY_VISIBILITY_SECONDS),
        }
        for name, queue in self._queues.items():
            self._sqs.queues[name] = queue
        self._ingest = Queue(self._sqs.client, "sync")
        self._changed = threading.Condition(threading.RLock())
        self._busy = 0
        self._planned: list[tuple[float, Outage]] = []
        self._outages: list[tuple[float, Outage]] = []
        """The present outages, each with the time of its end."""
        self._arrive_while_away = 0
        self._is_changing = False
        self._sends_before_death: int | None = None
        """The number of sends left before the retry function is killed; None: no kill is planned."""
        self.batches = self.deliveries = self.redelivered_batches = 0
        self.outages = self.sent_back = self.retries_killed = 0
        self.wrong: list[str] = []
        """Violations seen on the way."""

    # For workers

    def take(self) -> Job | None:
        """The next job; None after the last. Waits while another worker may still cause a job."""
        with self._changed:
            while True:
                if self._is_changing:
                    self._changed.wait()
                elif job := self._next():
                    self._busy += 1
                    return job
                elif self._busy:
                    self._changed.wait()
                elif not self._let_time_pass():
                    return None

    def acknowledge(self, job: Job, staying: Collection[str]) -> None:
        """Deletes the messages of an answered job, except *staying*. Raises Killed if the function dies first."""
        with self._changed:
            done = [
                (entry, message)
                for entry, message in zip(job.entries, job.messages, strict=True)
                if message.message_id not in staying
            ]
            if job.queue != "sync" and done:
                if job.outage is not None and job.outage is self._database_outage:
                    self.wrong += [
                        f"{message.envelope.svix_id}: not left in the queue during the outage" for _, message in done
                    ]
                if self._sends_before_death == 0:
                    self._die()
            self._queues[job.queue].delete({entry for entry, _ in done})

    def end(self) -> None:
        """Ends a job, with any result: its worker is free again."""
        with self._changed:
            self._busy -= 1
            self._changed.notify_all()

    @property
    def client(self) -> SQSClient:
        """The client for the queues of the functions."""
        return cast("SQSClient", self)

    def send_message(self, **given: Any) -> None:
        """Sends as boto3 does, for a single function at a time. Raises Killed."""
        with self._changed:
            is_sent_back = given["QueueUrl"] == "sync"
            if is_sent_back and self._sends_before_death == 0:
                self._die()
            self._sqs.send_message(**given)
            if is_sent_back:
                self.sent_back += 1
                if self._sends_before_death is not None:
                    self._sends_before_death -= 1

    def send_message_batch(self, **given: Any) -> dict[str, Any]:
        """Sends as boto3 does. A function killed meanwhile has sent only some of its messages. Raises Killed."""
        for entry in given["Entries"]:
            self.send_message(QueueUrl=given["QueueUrl"], **entry)
        return {"Successful": [{"Id": entry["Id"]} for entry in given["Entries"]], "Failed": []}

    # The next job

    def _next(self) -> Job | None:
        self._end_outages()
        for name, queue in self._queues.items():
            if entries := queue.receive(self._now, BATCH_SIZE):
                return self._job(name, entries)
        if self._arriving and self._may_arrive():
            return self._arrive(self._arriving.popleft())
        return None

    def _job(self, name: QueueName, entries: Sequence[SimulatedMessage], fate: Fate = Fate.acknowledged) -> Job:
        if name == "sync":
            self.batches += 1
            self.deliveries += len(entries)
            self.redelivered_batches += any(entry.receives > 1 for entry in entries)
        messages = messages_of({"Records": [entry.record for entry in entries]})
        return Job(name, entries, messages, fate, self._database_outage)

    def _arrive(self, batch: Batch) -> Job:
        """Sends a batch through ingest, and receives all of its messages in a single job."""
        self._now += self._seconds_between_batches
        queue = self._queues["sync"]
        entries = []
        for message in batch.messages:
            self._ingest.send(message.envelope)
            entries.append(queue.messages[-1])
        for entry in entries:
            entry.receives = 1
            # Already visible again: a second worker receives the message while the first is at work.
            entry.visible_at += 0 if batch.fate is Fate.received_twice else SYNC_VISIBILITY_SECONDS
        if batch.retry_sends is not None:
            self._sends_before_death = batch.retry_sends
        self._planned += [(self._now + outage.after, outage) for outage in batch.outages]
        self._begin_outages()
        return self._job("sync", entries, batch.fate)

    def _may_arrive(self) -> bool:
        if self._queues["sync"].is_refusing:
            return False
        if self._database_outage is None:
            return True
        self._arrive_while_away -= 1
        return self._arrive_while_away >= 0

    # The clock

    def _let_time_pass(self) -> bool:
        """Moves the clock to the next due moment, while no worker is at work; False if nothing is left to happen."""
        if not self._arriving and not any(queue.messages for queue in self._queues.values()):
            self._end_outages(all_of_them=True)
            return False
        if self._now > _LONGEST_SECONDS:
            self.wrong += self._stuck()
            return False
        moments = [self._sqs.next_due(), *(moment for moment, _ in (*self._planned, *self._outages))]
        self._now = max(self._now, min(moments))
        self._begin_outages()
        return True

    def _stuck(self) -> list[str]:
        records = [each.record for queue in self._queues.values() for each in queue.messages]
        for queue in self._queues.values():
            queue.messages.clear()
        return [f"{each.envelope.svix_id}: neither applied nor parked" for each in messages_of({"Records": records})]

    # Accidents

    @property
    def _database_outage(self) -> Outage | None:
        return next((outage for _, outage in self._outages if outage.what != "SQS refuses"), None)

    def _begin_outages(self) -> None:
        for planned in [each for each in self._planned if each[0] <= self._now]:
            self._planned.remove(planned)
            self._begin(planned[1])

    def _begin(self, outage: Outage) -> None:
        is_of_database = outage.what != "SQS refuses"
        if is_of_database and self._database_outage is not None:
            return
        self.outages += 1
        if is_of_database:
            self._take_database_away(outage)
        self._outages.append((self._now + outage.seconds, outage))
        self._tell_sqs()

    def _take_database_away(self, outage: Outage) -> None:
        """Makes the database unavailable and cuts off its workers; on return, no worker is at work or connected."""
        self._database.interrupt(outage.what)
        with self._nobody_at_work():
            self._database.end_sessions()
        self._arrive_while_away = _ARRIVE_WHILE_AWAY

    @contextmanager
    def _nobody_at_work(self) -> Iterator[None]:
        """Stops all workers for the `with` block: no connection begins while the settings of connections change."""
        self._is_changing = True
        while self._busy:
            self._changed.wait()
        yield
        self._is_changing = False
        self._changed.notify_all()

    def _end_outages(self, *, all_of_them: bool = False) -> None:
        over = [each for each in self._outages if all_of_them or each[0] <= self._now]
        if not over:
            return
        was_away = self._database_outage
        self._outages = [each for each in self._outages if each not in over]
        if was_away is not None and self._database_outage is None:
            with self._nobody_at_work():
                self._database.restore()
        self._tell_sqs()

    def _tell_sqs(self) -> None:
        is_refusing = any(outage.what == "SQS refuses" for _, outage in self._outages)
        for queue in self._queues.values():
            queue.is_refusing = is_refusing

    def _die(self) -> None:
        self._sends_before_death = None
        self.retries_killed += 1
        raise Killed
