"""The retry function: the outcome of a dead letter, and of a parked event that waits for its table."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from io import StringIO
from typing import Any, LiteralString

import pytest

from clerk_supabase.aws.queue import Message, Queue, messages_of
from clerk_supabase.credentials import Fixed
from clerk_supabase.model.envelope import Envelope, ParkedEvent
from clerk_supabase.parking import Parking
from clerk_supabase.postgres.store import Store
from clerk_supabase.retry import MAX_ATTEMPTS, Retry
from clerk_supabase.sync import Sync
from clerk_supabase.telemetry import metrics
from clerk_supabase_cli.simulator.sqs import SimulatedQueue, SimulatedSqs
from clerk_supabase_cli.standin import samples
from tests.kit.clock import Clock
from tests.kit.credentials import NOWHERE, Sometimes
from tests.kit.databases import Connection, Database, outcomes, rows, value
from tests.kit.histories import CREATED_AT, RECEIVED_AT

PRIVATE = "ada@private.example"


def body(user_id: str, **fields: Any) -> bytes:
    data = samples.user(user_id, created_at=CREATED_AT, updated_at=CREATED_AT + 1) | fields
    return json.dumps(samples.event("user.updated", data, timestamp=CREATED_AT + 1)).encode()


def dead(number: int = 1, *, attempts: int = 0, **fields: Any) -> Message:
    """A dead letter."""
    sent = body(f"user_{number}", **fields)
    return Message(f"message-{number}", Envelope(f"msg_{number}", sent, RECEIVED_AT, attempts))


def waiting(number: int = 1, *, reason: str = "why") -> Message:
    """A parked event that waits for its table."""
    envelope = Envelope(f"msg_{number}", body(f"user_{number}"), RECEIVED_AT)
    return Message(f"message-{number}", envelope, ParkedEvent(envelope, "unusable", reason))


Made = Callable[[Store], Retry]


@pytest.fixture
def sync_queue(sqs: SimulatedSqs) -> SimulatedQueue:
    return sqs.queues["sync"]


@pytest.fixture
def sqs() -> SimulatedSqs:
    simulated = SimulatedSqs(Clock())
    simulated.queues["sync"] = SimulatedQueue(180)
    return simulated


@pytest.fixture
def made(sqs: SimulatedSqs) -> Made:
    """The retry function's logic with a store."""
    return lambda store: Retry(store, Sync(store, Parking(store)), Queue(sqs.client, "sync"))


@pytest.fixture
def retry(made: Made, store: Store) -> Retry:
    return made(store)


@pytest.fixture
def away(made: Made) -> Iterator[Retry]:
    """A connection string without a database behind it."""
    with closing(Store(Fixed(NOWHERE))) as store:
        yield made(store)


def parked(admin: Connection) -> list[tuple[Any, ...]]:
    return rows(admin, "select svix_id, reason_class, reason, attempts from clerk_sync.parked_events order by svix_id")


def counted(name: str) -> int:
    return int(sum(metrics.metric_set.get(name, {"Value": []})["Value"]))


# Sent back


def test_a_dead_letter_goes_back_to_the_sync_queue_as_it_was_with_one_more_attempt(
    retry: Retry, sync_queue: SimulatedQueue
) -> None:
    message = dead(attempts=3)
    assert retry.process([message]) == []
    [envelope] = [each.envelope for each in messages_of({"Records": sync_queue.take_all()})]
    assert envelope == replace(message.envelope, attempts=4)
    assert counted("Retried") == 1


def test_a_message_sent_back_is_delayed(retry: Retry, sync_queue: SimulatedQueue) -> None:
    retry.process([dead(number, attempts=7) for number in range(20)])
    delays = [each["delaySeconds"] for each in sync_queue.take_all()]
    assert max(delays) > 0
    assert len(set(delays)) > 1
    assert all(0 <= delay <= 900 for delay in delays)


def test_an_event_is_sent_back_eight_times_and_then_tried_and_parked(
    retry: Retry, sync_queue: SimulatedQueue, admin: Connection, database: Database
) -> None:
    admin.execute(TOO_SLOW)
    message = dead()
    for attempt in range(1, MAX_ATTEMPTS + 1):
        assert retry.process([message]) == []
        [message] = messages_of({"Records": sync_queue.take_all()})
        assert message.envelope.attempts == attempt
    assert retry.process([message]) == []
    assert sync_queue.take_all() == []
    [(svix_id, reason_class, reason, attempts)] = parked(admin)
    assert (svix_id, reason_class, attempts) == ("msg_1", "exhausted", MAX_ATTEMPTS)
    assert "QueryCanceled" in reason
    assert counted("Parked") == 1


# A statement that never ends in time, for one event only: it looks like an outage, and is none.
TOO_SLOW: LiteralString = """
    create function public.dawdle() returns trigger language plpgsql as $$
    begin
        if new.clerk_id = 'user_1' then
            raise exception 'canceling statement due to statement timeout' using errcode = 'query_canceled';
        end if;
        return new;
    end $$;
    create trigger dawdle before insert on clerk.users for each row execute function public.dawdle();
"""


def test_the_last_try_applies_what_can_be_applied_by_now(
    retry: Retry, sync_queue: SimulatedQueue, admin: Connection
) -> None:
    assert retry.process([dead(attempts=MAX_ATTEMPTS)]) == []
    assert outcomes(admin) == {"msg_1": "created"}
    assert parked(admin) == []
    assert sync_queue.take_all() == []


def test_the_last_try_parks_what_turns_out_to_be_refused(retry: Retry, admin: Connection) -> None:
    admin.execute("alter table clerk.users add constraint no_robots check (first_name <> 'Robot')")
    assert retry.process([dead(attempts=MAX_ATTEMPTS, first_name="Robot")]) == []
    assert [row[:2] for row in parked(admin)] == [("msg_1", "refused")]


def test_one_event_that_is_always_too_slow_does_not_park_its_neighbours(retry: Retry, admin: Connection) -> None:
    admin.execute(TOO_SLOW)
    batch = [dead(number, attempts=MAX_ATTEMPTS) for number in range(5)]
    retry._monotonic = itertools.count(0, 6).__next__
    # Messages long after the first one wait for the next pass, so that the function ends in time.
    assert retry.process(batch) == ["message-2", "message-3", "message-4"]
    assert retry.process(batch[2:4]) == []
    assert [row[0] for row in parked(admin)] == ["msg_1"]
    assert sorted(outcomes(admin)) == ["msg_0", "msg_2", "msg_3"]


# The database is unavailable


def test_while_the_database_is_unavailable_all_messages_stay_and_no_attempt_is_counted(
    away: Retry, sync_queue: SimulatedQueue
) -> None:
    batch = [dead(1), dead(2, attempts=MAX_ATTEMPTS), waiting(3)]
    assert away.process(batch) == ["message-1", "message-2", "message-3"]
    assert sync_queue.take_all() == []
    assert counted("RetryPostponed") == 3
    assert counted("Parked") == 0


def test_with_a_broken_connection_string_all_messages_stay_and_no_attempt_is_counted(made: Made) -> None:
    with closing(Store(Fixed("postgresql://clerk_sync_worker:S3cret%Pw@host/postgres"))) as store:
        assert made(store).process([dead(1), dead(2, attempts=MAX_ATTEMPTS)]) == ["message-1", "message-2"]
    assert (counted("SetUpWrong"), counted("RetryPostponed"), counted("Parked")) == (1, 0, 0)


@pytest.mark.parametrize(
    "statement",
    [
        "drop function clerk_sync.apply(jsonb)",
        "drop function clerk_sync.takes_writes()",
        "revoke execute on function clerk_sync.apply(jsonb) from clerk_sync_worker",
        "drop schema clerk_sync cascade",
    ],
)
def test_while_a_migration_or_a_right_is_missing_all_messages_stay(
    statement: LiteralString, retry: Retry, sync_queue: SimulatedQueue, admin: Connection
) -> None:
    admin.execute(statement)
    batch = [dead(1), dead(2, attempts=MAX_ATTEMPTS), waiting(3)]
    assert len(retry.process(batch)) == 3
    assert sync_queue.take_all() == []


def test_after_a_failover_to_a_read_only_server_all_messages_stay(
    made: Made, database: Database, sync_queue: SimulatedQueue
) -> None:
    with closing(Store(Fixed(database.worker_url_with(default_transaction_read_only="on")))) as store:
        assert len(made(store).process([dead(1), dead(2, attempts=MAX_ATTEMPTS), waiting(3)])) == 3
    assert sync_queue.take_all() == []


def test_with_all_connections_taken_all_messages_stay(
    retry: Retry, database: Database, sync_queue: SimulatedQueue, admin: Connection
) -> None:
    admin.execute(f"alter database {database.name} connection limit 0")
    assert len(retry.process([dead(1), dead(2, attempts=MAX_ATTEMPTS), waiting(3)])) == 3
    assert sync_queue.take_all() == []


def test_while_a_table_is_missing_a_last_try_parks_nothing(retry: Retry, admin: Connection) -> None:
    admin.execute("alter table clerk.users drop column username")
    assert retry.process([dead(1, attempts=MAX_ATTEMPTS), dead(2, attempts=MAX_ATTEMPTS)]) == ["message-1", "message-2"]
    assert parked(admin) == []


def test_when_the_database_becomes_unavailable_during_the_last_try_nothing_is_parked(
    made: Made, admin: Connection, database: Database
) -> None:
    admin.execute(
        """
        create function public.crash() returns trigger language plpgsql security definer as
        $$ begin perform pg_terminate_backend(pg_backend_pid()); return new; end $$;
        create trigger crash before insert on clerk.users for each row when (new.clerk_id = 'user_2')
        execute function public.crash();
        """
    )
    url = Sometimes(database.worker_url, lambda connection: connection == 1)
    with closing(Store(url)) as store:
        # What was applied before does not stay.
        assert made(store).process([dead(number, attempts=MAX_ATTEMPTS) for number in (1, 2, 3)]) == [
            "message-2",
            "message-3",
        ]
    assert url.connections > 1
    assert parked(admin) == []
    assert outcomes(admin) == {"msg_1": "created"}


def test_a_last_try_that_only_met_an_outage_is_made_again_and_nothing_is_parked(
    made: Made, admin: Connection, database: Database
) -> None:
    admin.execute(
        """
        create sequence public.tries;
        create function public.crash_once() returns trigger language plpgsql security definer as
        $$ begin if nextval('public.tries') = 1 then perform pg_terminate_backend(pg_backend_pid()); end if; return new;
        end $$;
        create trigger crash before insert on clerk.users for each row execute function public.crash_once();
        """
    )
    url = Sometimes(database.worker_url, lambda connection: connection != 2)
    with closing(Store(url)) as store:
        assert made(store).process([dead(1, attempts=MAX_ATTEMPTS), dead(2, attempts=MAX_ATTEMPTS)]) == []
    assert url.connections == 3
    assert parked(admin) == []
    assert outcomes(admin) == {"msg_1": "created", "msg_2": "created"}


# Parked events that wait for their table


def test_parked_events_move_into_their_table_once_the_database_is_there(retry: Retry, admin: Connection) -> None:
    assert retry.process([waiting(1, reason="first"), waiting(2, reason="second")]) == []
    assert parked(admin) == [("msg_1", "unusable", "first", 0), ("msg_2", "unusable", "second", 0)]
    # They were counted when they were parked.
    assert counted("Parked") == 0


def test_a_parked_event_that_moves_twice_is_there_once(retry: Retry, admin: Connection) -> None:
    retry.process([waiting(1)])
    retry.process([waiting(1), waiting(1)])
    assert len(parked(admin)) == 1


def test_an_event_that_the_table_refuses_stays_in_the_parked_queue(retry: Retry, admin: Connection) -> None:
    admin.execute("drop table clerk_sync.parked_events cascade")
    assert retry.process([waiting(1), waiting(2)]) == ["message-1", "message-2"]


# Between sending and deleting


def test_a_message_that_sqs_does_not_take_back_stays_and_keeps_its_attempts(
    retry: Retry, sync_queue: SimulatedQueue
) -> None:
    sync_queue.is_refusing = True
    batch = [dead(1), dead(2), waiting(3)]
    assert retry.process(batch) == ["message-1", "message-2"]


def test_killed_between_sending_and_deleting_leaves_a_duplicate_that_changes_nothing(
    retry: Retry, store: Store, sync_queue: SimulatedQueue, admin: Connection
) -> None:
    retry.process([dead()])
    # Lambda was killed before it deleted the message, so it comes again.
    retry.process([dead()])
    twice = messages_of({"Records": sync_queue.take_all()})
    assert len(twice) == 2
    sync = Sync(store, Parking(store))
    assert sync.process(twice) == []
    assert outcomes(admin) == {"msg_1": "created"}
    assert value(admin, "select count(*) from clerk_sync.audit_log where kind = 'user'") == 1


# Log and metrics


def test_no_log_line_holds_personal_data(retry: Retry, admin: Connection, log: StringIO) -> None:
    retry.process([dead(1, last_name=PRIVATE), dead(2, last_name=PRIVATE, external_id="\x00", attempts=MAX_ATTEMPTS)])
    retry.process([waiting(3)])
    assert len(log.getvalue().splitlines()) == 3
    assert PRIVATE not in log.getvalue()
    for row in parked(admin):
        assert PRIVATE not in row[2]
