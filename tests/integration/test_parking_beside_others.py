"""A refusal of Postgres concerns one event only, and a database that is unavailable is asked once."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from clerk_supabase.aws.queue import Message, Queue
from clerk_supabase.model.envelope import Envelope
from clerk_supabase.parking import Parking
from clerk_supabase.postgres.store import Store
from clerk_supabase.retry import MAX_ATTEMPTS, Retry
from clerk_supabase.sync import Sync
from clerk_supabase.telemetry import metrics
from clerk_supabase_cli.doctor.canary import canary
from clerk_supabase_cli.standin import samples
from tests.kit.aws import Account
from tests.kit.credentials import NOWHERE, Sometimes
from tests.kit.databases import Connection, Database, outcomes, rows
from tests.kit.histories import CREATED_AT
from tests.kit.parked import created
from tests.kit.pipeline import Pipeline


@pytest.fixture
def pipeline(account: Account, store: Store) -> Pipeline:
    return Pipeline(account, store, received_at=time.time_ns() // 1_000_000)


def message(number: int, body: bytes | None = None, **envelope: Any) -> Message:
    """The event of the user with this number, or another body."""
    return Message(
        f"message-{number}", Envelope(f"msg_{number}", body or updated(f"user_{number}"), CREATED_AT, **envelope)
    )


def updated(user_id: str, *, at: int = 1, version: int = 1) -> bytes:
    """An event of this moment about a user of this version, in milliseconds after the beginning."""
    user = samples.user(user_id, created_at=CREATED_AT, updated_at=CREATED_AT + version)
    return json.dumps(samples.event("user.updated", user, timestamp=CREATED_AT + at)).encode()


# Refusals of Postgres


def test_an_event_that_the_table_of_parked_events_refuses_goes_to_the_parked_queue_alone(
    pipeline: Pipeline, account: Account, admin: Connection
) -> None:
    admin.execute("alter table clerk_sync.parked_events add constraint picky check (svix_id <> 'msg_2')")
    assert pipeline.sync.process([message(1), message(2, b"{}"), message(3)]) == []
    assert outcomes(admin) == {"msg_1": "created", "msg_3": "created"}
    assert rows(admin, "select svix_id from clerk_sync.parked_events") == []
    [overflowed] = account.received(account.parked_queue_url)
    assert overflowed["messageAttributes"]["svix_id"]["stringValue"] == "msg_2"


def test_a_canary_that_postgres_refuses_is_parked_and_the_events_beside_it_are_applied(
    pipeline: Pipeline, admin: Connection
) -> None:
    admin.execute("alter table clerk_sync.deliveries add constraint no_birds check (svix_id <> 'msg_canary')")
    pipeline.post(json.dumps(canary()), "msg_canary")
    pipeline.post(json.dumps(created("user_1")), "msg_1")
    assert pipeline.drain() == []
    assert outcomes(admin) == {"msg_1": "created"}
    [(svix_id, reason)] = pipeline.parked(admin).items()
    assert svix_id == "msg_canary"
    assert "no_birds" in reason


# A database that is not there


@pytest.fixture
def nowhere() -> Iterator[tuple[Store, Sometimes]]:
    looked = Sometimes(NOWHERE, lambda _: False)
    with closing(Store(looked)) as store:
        yield store, looked


def test_during_an_outage_an_event_to_park_does_not_lengthen_the_wait_for_the_database(
    nowhere: tuple[Store, Sometimes], account: Account
) -> None:
    store, looked = nowhere
    sync = Sync(store, Parking(store, Queue(account.sqs, account.parked_queue_url)))
    sync.process([message(1)])
    once, looked.connections = looked.connections, 0
    sync.process([message(1), message(2, b"{}")])
    assert looked.connections == once
    assert len(account.received(account.parked_queue_url)) == 1


def test_a_message_applied_by_a_last_try_does_not_stay_a_dead_letter(
    database: Database, admin: Connection, account: Account
) -> None:
    admin.execute(
        """
        create function public.crash() returns trigger language plpgsql security definer as
        $$ begin perform pg_terminate_backend(pg_backend_pid()); return new; end $$;
        create trigger crash before insert on clerk.users for each row
        when (new.clerk_id = 'user_2') execute function public.crash();
        """
    )
    looked = Sometimes(database.worker_url, lambda connection: connection == 1)
    with closing(Store(looked)) as store:
        retry = Retry(store, Sync(store, Parking(store)), Queue(account.sqs, account.sync_queue_url))
        old = [message(number, attempts=MAX_ATTEMPTS) for number in (1, 2, 3)]
        assert retry.process(old) == ["message-2", "message-3"]
    assert outcomes(admin) == {"msg_1": "created"}
    assert metrics.metric_set["RetryPostponed"]["Value"] == [2]


# Lag


def test_only_events_that_made_a_row_newer_count_for_the_lag(store: Store) -> None:
    sync = Sync(store, Parking(store), clock_ms=lambda: CREATED_AT + 1_000)
    first = message(1, updated("user_1", at=100, version=100))
    sync.process([first])
    assert lags() == [900]
    overtaken = message(2, updated("user_1", at=50, version=50))
    sync.process([first, overtaken])
    assert lags() == [900]
    unchanged = message(3, updated("user_1", at=400, version=100))
    sync.process([unchanged])
    assert lags() == [900, 600]


def test_the_lag_ends_at_the_present_moment_of_this_machine(store: Store) -> None:
    now = time.time_ns() // 1_000_000
    envelope = Envelope("msg_1", updated("user_1", at=now - CREATED_AT), now)
    Sync(store, Parking(store)).process([Message("message-1", envelope)])
    [lag] = lags()
    assert 0 <= lag < 600_000


def lags() -> list[float]:
    measured: list[float] = metrics.metric_set["Lag"]["Value"]
    return measured
