"""Failures around the functions, for an hour: every event is applied once in the end, and none is parked.

The handlers and Postgres are real; the queues have a clock that tests move. Other failures are in test_sync,
test_retry, test_connections and tests/deployed.
"""

from __future__ import annotations

import json
import random
import runpy
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from samtranslator.yaml_helper import yaml_parse  # type: ignore[import-untyped]

from clerk_supabase.aws import clients as aws
from clerk_supabase.aws import lean_client
from clerk_supabase.aws.queue import messages_of
from clerk_supabase.credentials import Fixed
from clerk_supabase.parking import Parking
from clerk_supabase.postgres.store import Store
from clerk_supabase.retry import MAX_ATTEMPTS
from clerk_supabase.sync import Sync
from clerk_supabase_cli.simulator.sqs import Handler, SimulatedQueue, SimulatedSqs, record
from clerk_supabase_cli.standin import samples
from clerk_supabase_cli.standin.deliveries import api_gateway_event, generate_secret, sign
from tests.kit.aws import Account
from tests.kit.clock import Clock
from tests.kit.databases import WORKER, Connection, Database, Databases, outcomes, rows, value
from tests.kit.environments import environment_of
from tests.kit.histories import CREATED_AT, RECEIVED_AT
from tests.kit.polling import eventually

HOUR = 3600.0
EVENTS = 60


class Bundle:
    """The three functions between Clerk and Postgres."""

    def __init__(self, root: Path, account: Account, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
        resources = yaml_parse((root / "template.yaml").read_text(encoding="utf-8"))["Resources"]

        def visibility(queue: str) -> float:
            return float(resources[queue]["Properties"]["VisibilityTimeout"])

        self.clock = clock
        self.sqs = SimulatedSqs(clock)
        self.dead_letters = SimulatedQueue(visibility("SyncDeadLetterQueue"))
        redrive = resources["SyncQueue"]["Properties"]["RedrivePolicy"]
        self.sync_queue = SimulatedQueue(visibility("SyncQueue"), self.dead_letters, redrive["maxReceiveCount"])
        self.parked_queue = SimulatedQueue(visibility("ParkedQueue"))
        self.sqs.queues |= {"sync": self.sync_queue, "dead": self.dead_letters, "parked": self.parked_queue}
        self.account = account
        self.secret = generate_secret()
        functions = ("ingest", "sync", "retry")
        environment = environment_of(
            *functions,
            WEBHOOK_SECRET_ARN=account.put_secret("webhook", self.secret),
            DATABASE_SECRET_ARN=account.put_secret("database", "set later"),
            SYNC_QUEUE_URL="sync",
            PARKED_QUEUE_URL="parked",
        )
        for name, setting in environment.items():
            monkeypatch.setenv(name, setting)
        for clients in (aws, lean_client):
            monkeypatch.setattr(clients, "sqs", lambda: self.sqs.client)
        monkeypatch.setattr(lean_client, "secrets_manager", lambda: account.secrets_manager)
        self._modules = {name: runpy.run_path(str(root / "functions" / name / "handler.py")) for name in functions}

    def close(self) -> None:
        for name in ("sync", "retry"):
            self._modules[name]["store"].close()

    def handler(self, name: str) -> Handler:
        handler: Handler = self._modules[name]["lambda_handler"]
        return handler

    def post(self, number: int) -> None:
        """Posts an event about a new user as Clerk does; the event must be accepted."""
        data = samples.user(f"user_{number}", created_at=CREATED_AT, updated_at=CREATED_AT + 1)
        event = samples.event("user.created", data, timestamp=CREATED_AT + 1)
        request = sign(event, self.secret, svix_id=f"msg_{number}")
        assert self.handler("ingest")(api_gateway_event(request), None)["statusCode"] == 202

    def work(self, seconds: float) -> None:
        """Lets the time pass: whenever a message can be received, its function gets it."""
        end = self.clock.now + seconds
        while True:
            self.sqs.hand_over("sync", self.handler("sync"))
            self.sqs.hand_over("dead", self.handler("retry"))
            self.sqs.hand_over("parked", self.handler("retry"))
            due = self.sqs.next_due()
            if due > end:
                self.clock.now = end
                return
            self.clock.now = max(due, self.clock.now)

    def attempts(self) -> list[int]:
        """The number of times that each waiting event was sent back."""
        waiting = [each.record for queue in self.sqs.queues.values() for each in queue.messages]
        return [message.envelope.attempts for message in messages_of({"Records": waiting})]


@pytest.fixture
def bundle(root: Path, account: Account, database: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bundle]:
    random.seed(1)
    with closing(Bundle(root, account, Clock(), monkeypatch)) as bundle:
        account.put_secret("database", database.worker_url)
        yield bundle


@dataclass
class Surroundings:
    """The parts of the surroundings that a fault can change."""

    databases: Databases
    database: Database
    account: Account

    def run(self, statement: str) -> None:
        with self.database.connect() as connection:
            connection.execute(statement)

    def end_sessions(self) -> None:
        """Ends the sessions, because a change of a database concerns new sessions only."""
        self.run(f"select pg_terminate_backend(pid) from pg_stat_activity where usename = '{WORKER}'")  # noqa: S608 - a constant


Fault = Callable[[Surroundings], Iterator[None]]


def postgres_is_stopped(around: Surroundings) -> Iterator[None]:
    around.database.server.stop()
    yield
    around.database.server.start()


def postgres_crashed(around: Surroundings) -> Iterator[None]:
    around.database.server.kill()
    yield
    around.database.server.start()


def the_password_was_rotated_and_the_secret_was_not(around: Surroundings) -> Iterator[None]:
    around.databases.set_worker_password("another")
    around.end_sessions()
    yield
    around.account.put_secret(
        "database", around.database.worker_url.replace(around.database.worker_password, "another")
    )


def all_connections_are_taken(around: Surroundings) -> Iterator[None]:
    around.run(f"alter database {around.database.name} connection limit 0")
    around.end_sessions()
    yield
    around.run(f"alter database {around.database.name} connection limit -1")


def the_server_is_a_read_only_replica(around: Surroundings) -> Iterator[None]:
    around.run(f"alter database {around.database.name} set default_transaction_read_only = on")
    around.end_sessions()
    yield
    with around.database.connect() as connection:
        connection.execute("set default_transaction_read_only = off")
        connection.execute(f"alter database {around.database.name} reset default_transaction_read_only")
    around.end_sessions()


def the_migration_that_applies_is_missing(around: Surroundings) -> Iterator[None]:
    around.run("alter function clerk_sync.apply(jsonb) rename to apply_later")
    yield
    around.run("alter function clerk_sync.apply_later(jsonb) rename to apply")


def all_migrations_are_missing(around: Surroundings) -> Iterator[None]:
    around.run("alter schema clerk_sync rename to clerk_sync_later")
    yield
    around.run("alter schema clerk_sync_later rename to clerk_sync")


def the_migration_of_a_column_is_missing(around: Surroundings) -> Iterator[None]:
    # Nothing but a real event finds out.
    around.run("alter table clerk.users rename column username to username_later")
    yield
    around.run("alter table clerk.users rename column username_later to username")


def statements_take_too_long(around: Surroundings) -> Iterator[None]:
    around.run(f"alter role {WORKER} in database {around.database.name} set statement_timeout = '10ms'")
    around.end_sessions()
    with around.database.connect() as other, other.transaction():
        other.execute("lock table clerk.users in exclusive mode")
        yield
    around.run(f"alter role {WORKER} in database {around.database.name} reset statement_timeout")
    around.end_sessions()


FAULTS: list[Fault] = [
    postgres_is_stopped,
    postgres_crashed,
    the_password_was_rotated_and_the_secret_was_not,
    all_connections_are_taken,
    the_server_is_a_read_only_replica,
    the_migration_that_applies_is_missing,
    all_migrations_are_missing,
    the_migration_of_a_column_is_missing,
    statements_take_too_long,
]


@pytest.fixture
def around(databases: Databases, database: Database, account: Account) -> Iterator[Surroundings]:
    yield Surroundings(databases, database, account)
    databases.set_worker_password(databases.worker_password)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_an_hour_of_a_fault_loses_and_parks_no_event(fault: Fault, bundle: Bundle, around: Surroundings) -> None:
    bundle.post(0)
    bundle.work(1)
    with contextmanager(fault)(around):
        for number in range(1, EVENTS):
            bundle.post(number)
            bundle.work(HOUR / EVENTS)
        # The user sees the rows as they were: nothing new arrived, nothing is gone.
        assert len(bundle.attempts()) == EVENTS - 1
    forget_failures(bundle)

    bundle.work(HOUR / 2)

    with around.database.connect() as admin:
        assert outcomes(admin) == {f"msg_{number}": "created" for number in range(EVENTS)}
        assert value(admin, "select count(*) from clerk_sync.audit_log") == EVENTS
        assert rows(admin, "select * from clerk_sync.parked_events") == []
    assert bundle.attempts() == []


def forget_failures(bundle: Bundle) -> None:
    """A function looks for a newer secret at most once a minute of real time."""
    for name in ("sync", "retry"):
        bundle._modules[name]["store"]._kept._url._recheck_after = 0


@pytest.mark.parametrize("fault", [postgres_is_stopped, all_migrations_are_missing], ids=lambda fault: fault.__name__)
def test_an_outage_counts_no_attempt_however_long_it_lasts(fault: Fault, bundle: Bundle, around: Surroundings) -> None:
    bundle.post(1)
    with contextmanager(fault)(around):
        bundle.work(24 * HOUR)
        assert bundle.attempts() == [0]
    bundle.work(HOUR)
    with around.database.connect() as admin:
        assert outcomes(admin) == {"msg_1": "created"}


def test_a_column_that_is_missing_for_a_day_parks_nothing(bundle: Bundle, around: Surroundings) -> None:
    bundle.post(1)
    with contextmanager(the_migration_of_a_column_is_missing)(around):
        bundle.work(24 * HOUR)
        # Only a real event finds out, so its attempts are counted; the last one says that it is not the event's fault.
        assert bundle.attempts() == [MAX_ATTEMPTS]
    bundle.work(HOUR)
    with around.database.connect() as admin:
        assert outcomes(admin) == {"msg_1": "created"}
        assert rows(admin, "select * from clerk_sync.parked_events") == []


def test_an_unusable_event_of_an_outage_is_parked_once_the_database_is_back(
    bundle: Bundle, around: Surroundings
) -> None:
    unusable = json.dumps(samples.event("user.updated", {"id": "user_1"}, timestamp=CREATED_AT))
    with contextmanager(postgres_is_stopped)(around):
        bundle.sqs.send_message(
            QueueUrl="sync", MessageBody=unusable, MessageAttributes={"svix_id": {"StringValue": "msg_1"}}
        )
        bundle.work(HOUR)
        assert len(bundle.parked_queue.messages) == 1
    bundle.work(HOUR)
    with around.database.connect() as admin:
        assert rows(admin, "select svix_id, reason_class, body from clerk_sync.parked_events") == [
            ("msg_1", "unusable", unusable.encode())
        ]
    assert bundle.attempts() == []


# Crashes between two steps


def test_killed_after_the_commit_and_before_the_acknowledgement_applies_once(bundle: Bundle, admin: Connection) -> None:
    for number in range(10):
        bundle.post(number)
    bundle.sqs.hand_over("sync", bundle.handler("sync"), forget=True)
    assert len(outcomes(admin)) == len(bundle.sync_queue.messages) == 10
    bundle.work(HOUR)
    assert value(admin, "select count(*) from clerk_sync.audit_log") == 10
    assert bundle.attempts() == []


def test_retry_killed_between_sending_and_deleting_applies_once(bundle: Bundle, around: Surroundings) -> None:
    bundle.post(1)
    with contextmanager(postgres_is_stopped)(around):
        bundle.work(HOUR)
    bundle.clock.now += 360
    bundle.sqs.hand_over("dead", bundle.handler("retry"), forget=True)
    assert (len(bundle.sync_queue.messages), len(bundle.dead_letters.messages)) == (1, 1)
    bundle.work(HOUR)
    with around.database.connect() as admin:
        assert value(admin, "select count(*) from clerk_sync.audit_log") == 1
    assert bundle.attempts() == []


def test_while_sqs_takes_nothing_dead_letters_stay_where_they_are(bundle: Bundle, around: Surroundings) -> None:
    bundle.post(1)
    with contextmanager(postgres_is_stopped)(around):
        bundle.work(HOUR)
    bundle.sync_queue.is_refusing = True
    bundle.work(HOUR)
    assert (len(bundle.dead_letters.messages), bundle.attempts()) == (1, [0])
    bundle.sync_queue.is_refusing = False
    bundle.work(HOUR)
    with around.database.connect() as admin:
        assert outcomes(admin) == {"msg_1": "created"}


def test_postgres_killed_in_the_middle_of_a_batch_applies_all_of_it_or_nothing(
    bundle: Bundle, database: Database
) -> None:
    for number in range(10):
        bundle.post(number)
    bundle.work(0)
    for number in range(10, 20):
        bundle.post(number)
    with closing(database.connect()) as blocker, ThreadPoolExecutor(1) as pool:
        blocker.execute("begin")
        blocker.execute("lock table clerk.users in exclusive mode")
        at_work = pool.submit(bundle.sqs.hand_over, "sync", bundle.handler("sync"))
        with database.connect() as admin:
            eventually(lambda: rows(admin, "select 1 from pg_locks where not granted"), bool)
        database.server.kill()
        try:
            assert at_work.result() == 10
        finally:
            database.server.start()
    with database.connect() as admin:
        assert len(outcomes(admin)) == 10
        bundle.work(HOUR)
        assert sorted(outcomes(admin)) == sorted(f"msg_{number}" for number in range(20))
        assert value(admin, "select count(*) from clerk_sync.audit_log") == 20


def test_a_message_that_two_workers_received_is_applied_once(database: Database, admin: Connection) -> None:
    data = samples.user("user_1", created_at=CREATED_AT, updated_at=CREATED_AT + 1)
    event = json.dumps(samples.event("user.created", data, timestamp=RECEIVED_AT))
    twice = messages_of({"Records": [record("message-1", event, svix_id="msg_1", received_at=str(RECEIVED_AT))]})

    def work(_: int) -> list[Any]:
        with closing(Store(Fixed(database.worker_url))) as store:
            return list(Sync(store, Parking(store)).process(twice))

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(work, range(6))) == [[]] * 6
    assert outcomes(admin) == {"msg_1": "created"}
    assert value(admin, "select count(*) from clerk_sync.audit_log where kind = 'user'") == 1
