"""`clerk-supabase explain` and `status` while events wait: the queues, and what the functions' logs say about them."""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import pytest

from clerk_supabase.aws.queue import Queue
from clerk_supabase.credentials import Fixed
from clerk_supabase.parking import Parking
from clerk_supabase.postgres.store import Store
from clerk_supabase.sync import Sync
from clerk_supabase.telemetry import logger
from clerk_supabase_cli.operate.monitor.function_logs import FunctionLogs
from clerk_supabase_cli.operate.monitor.queued import look_for
from clerk_supabase_cli.operate.monitor.status import Status, look
from clerk_supabase_cli.operate.queues import Queues
from clerk_supabase_cli.standin import samples
from tests.kit.aws import Account
from tests.kit.console import opened
from tests.kit.databases import Connection, Database
from tests.kit.ingesting import CREATED, Endpoint
from tests.kit.parked import Command

ADA = "user_2abcdefghijklmnopqrstuvwxyzA"
EVENT = samples.event(
    "user.created",
    samples.user(ADA, created_at=1_600_000_000_000, updated_at=1_600_000_000_000),
    timestamp=1_600_000_000_001,
    instance_id=CREATED["instance_id"],
)
NOWHERE = "postgresql://worker:secret@127.0.0.1:1/postgres?sslmode=disable"


@contextmanager
def logged(stack: str, function: str) -> Iterator[None]:
    """Brings the records of a block of code into the log of a function, as Lambda does."""
    handler, printed = logger.registered_handler, io.StringIO()
    assert isinstance(handler, logging.StreamHandler)
    before = handler.setStream(printed)
    try:
        yield
    finally:
        assert before is not None
        handler.setStream(before)
    logs: Any = boto3.client("logs")
    place = {"logGroupName": f"/aws/lambda/{stack}-{function}", "logStreamName": "1"}
    now = time.time_ns() // 1_000_000
    logs.put_log_events(
        **place, logEvents=[{"timestamp": now, "message": line} for line in printed.getvalue().splitlines()]
    )


@pytest.fixture
def stack(account: Account) -> str:
    """A stack with a log for each function."""
    name = f"stack-{account.number}"
    logs: Any = boto3.client("logs")
    for function in ("ingest", "sync", "retry"):
        group = f"/aws/lambda/{name}-{function}"
        logs.create_log_group(logGroupName=group)
        logs.create_log_stream(logGroupName=group, logStreamName="1")
    return name


@pytest.fixture
def endpoint(account: Account) -> Endpoint:
    return Endpoint(account)


def the_database_fails(stack: str, endpoint: Endpoint) -> None:
    """Lets sync fail to apply what ingest accepted; the events stay in the queue."""
    store = Store(Fixed(NOWHERE, "SYNC_DATABASE_URL"))
    sync, messages = Sync(store, Parking(store)), endpoint.accepted()
    with logged(stack, "sync"):
        assert sync.process(messages)
    for each in messages:
        Queue(endpoint.account.sqs, endpoint.account.sync_queue_url).send(each.envelope)


def status_of(stack: str, url: str, account: Account) -> Status:
    return look(url, lambda: Queues({"sync": account.sync_queue_url}), FunctionLogs(stack))


def test_explain_finds_an_event_in_the_queue_also_while_the_database_is_unavailable(
    stack: str, endpoint: Endpoint, database: Database, account: Account
) -> None:
    with logged(stack, "ingest"):
        endpoint.post_event(EVENT)
    queues = Queues({"sync": account.sync_queue_url})

    found = look_for(ADA, lambda: queues, FunctionLogs(stack), database.url)
    assert [(each.event_type, each.reason) for each in found.events] == [("user.created", None)]
    assert look_for("user_2other", lambda: queues, FunctionLogs(stack), database.url).events == []

    assert FunctionLogs(stack).object_of(found.events[0].svix_id) == ADA
    assert FunctionLogs(stack).object_of("msg_nobody") is None

    the_database_fails(stack, endpoint)
    [waiting] = look_for(ADA, lambda: queues, FunctionLogs(stack), None).events
    assert "connection refused" in str(waiting.reason)
    assert waiting.svix_id == found.events[0].svix_id


def test_explain_does_not_call_an_applied_event_waiting_because_another_waits(
    stack: str, endpoint: Endpoint, store: Store, database: Database, account: Account
) -> None:
    with logged(stack, "ingest"):
        endpoint.post_event(EVENT)
    with logged(stack, "sync"):
        assert Sync(store, Parking(store)).process(endpoint.accepted()) == []
    endpoint.post_event(CREATED)
    queues = Queues({"sync": account.sync_queue_url})
    for url in (database.url, None):
        assert look_for(ADA, lambda: queues, FunctionLogs(stack), url).events == []


def test_explain_of_an_unknown_id_says_what_was_not_looked_at(database: Database, account: Account) -> None:
    command = Command({"DATABASE_URL": database.url})
    said = str(command.run("explain", "user_2nobody", status=1).exception)
    assert "the database has nothing about user_2nobody" in said
    assert "were not looked at: name them by --stack-name" in said
    named = command.run("explain", "user_2nobody", "--sync-queue-url", account.sync_queue_url, status=1)
    assert str(named.exception).endswith("spelled right? (no event waits in the queues)")


def test_status_says_since_when_the_database_is_unavailable_and_how_many_events_wait(
    stack: str, endpoint: Endpoint, database: Database, account: Account, admin: Connection
) -> None:
    endpoint.post_event(EVENT)
    the_database_fails(stack, endpoint)

    [problem] = status_of(stack, NOWHERE, account).problems
    assert problem.startswith("the database is unavailable since 20")
    assert "; 1 event waits; connection refused" in problem
    # The database answers the operator, and not the functions.
    [problem] = status_of(stack, database.url, account).problems
    assert problem.startswith("the database is unavailable to the functions since 20")
    # An event was applied since.
    admin.execute(
        """
        insert into clerk_sync.deliveries
            (svix_id, event_type, entity_id, outcome, applied_at, received_at, occurred_at)
        select 'msg_1', 'user.updated', 'user_1', 'updated', at, at, at from (select now() + interval '1 h') as of (at)
        """
    )
    assert status_of(stack, database.url, account).problems == []


def test_the_console_says_that_the_functions_cannot_use_the_database_until_no_event_waits(
    stack: str, endpoint: Endpoint, database: Database, account: Account, store: Store
) -> None:
    endpoint.post_event(EVENT)
    the_database_fails(stack, endpoint)
    with opened(database.url, Queues({"sync": account.sync_queue_url}), stack_name=stack) as visitor:
        page = visitor.sees("The database is unavailable to the functions since", "1 event waits")
        assert "connection refused" in page
        assert Sync(store, Parking(store)).process(endpoint.accepted()) == []
        visitor.sees("as a whole")
