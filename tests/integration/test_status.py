"""`clerk-supabase status`: stuck events, and the place where they are stuck."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest

from clerk_supabase.postgres.store import Store
from clerk_supabase_cli.local.processes import free_port
from tests.kit import webhooks
from tests.kit.aws import Account
from tests.kit.databases import Connection, Database
from tests.kit.histories import delivered, upsert
from tests.kit.parked import Command, park


@pytest.fixture
def command(database: Database, account: Account) -> Command:
    return Command({"DATABASE_URL": database.url})


@pytest.fixture
def dead_letter_queue_url(account: Account) -> str:
    return account.sqs.create_queue(QueueName=f"dead-letters-{account.number}")["QueueUrl"]


@pytest.fixture
def to_queues(account: Account, dead_letter_queue_url: str) -> list[str]:
    return [
        *("--sync-queue-url", account.sync_queue_url),
        *("--dead-letter-queue-url", dead_letter_queue_url),
        *("--parked-queue-url", account.parked_queue_url),
    ]


def deliver(admin: Connection, number: int, *, outcome: str, applied: str, accepted: float, happened: float) -> None:
    """A delivery applied some time ago, this number of seconds after it was accepted and after its event happened."""
    admin.execute(
        """
        insert into clerk_sync.deliveries (
            svix_id, event_type, entity_id, outcome, applied_at, received_at, occurred_at
        )
        select
            %(svix_id)s, 'user.updated', 'user_1', %(outcome)s::clerk_sync.outcome, at,
            at - make_interval(secs => %(accepted)s), at - make_interval(secs => %(happened)s)
        from (select now() - %(applied)s::interval as at) as applied
        """,
        {
            "svix_id": f"msg_{number}",
            "outcome": outcome,
            "applied": applied,
            "accepted": accepted,
            "happened": happened,
        },
    )


def age(account: Account, url: str, seconds: float, *, minutes_ago: float = 1) -> None:
    """The age of the oldest message of a queue, as SQS reports it to CloudWatch."""
    cloudwatch: Any = boto3.client("cloudwatch")
    cloudwatch.put_metric_data(
        Namespace="AWS/SQS",
        MetricData=[
            {
                "MetricName": "ApproximateAgeOfOldestMessage",
                "Dimensions": [{"Name": "QueueName", "Value": url.rpartition("/")[2]}],
                "Timestamp": datetime.now(UTC) - timedelta(minutes=minutes_ago),
                "Value": seconds,
            }
        ],
    )


def test_when_all_is_well_the_status_is_healthy(
    command: Command, store: Store, to_queues: list[str], account: Account
) -> None:
    store.apply([delivered(upsert(), "msg_1")])

    assert "nothing is stuck" in command.run("status", *to_queues).stdout
    report = command.json("status", *to_queues)

    assert report["healthy"] is True
    assert report["problems"] == []
    assert report["database"]["last_delivery"].endswith("+00:00")
    empty = {"waiting": 0, "in_flight": 0, "delayed": 0, "oldest_seconds": 0.0}
    assert report["queues"] == {"sync": empty, "dead_letters": empty, "parked": empty}


def test_parked_events_are_counted_by_reason_and_type(command: Command, store: Store, admin: Connection) -> None:
    park(store, "msg_1")
    park(store, "msg_2")
    park(store, "msg_3", b"[]", reason_class="unusable")
    command.run("parked", "discard", "msg_2", "--yes")

    report = command.json("status", status=1)

    assert report["problems"] == ["2 events parked; see: clerk-supabase parked list"]
    assert report["database"]["events"] == {"parked": 2, "replayed": 0, "settled": 0, "discarded": 1}
    reasons = [(each["reason_class"], each["event_type"], each["count"]) for each in report["database"]["reasons"]]
    assert sorted(reasons, key=str) == [("refused", "user.created", 1), ("unusable", None, 1)]


def test_fields_that_were_left_out_are_reported_and_are_no_problem(command: Command, store: Store) -> None:
    told = "without values that cannot be stored: 2; see: clerk-supabase explain user_2"
    assert "cannot be stored" not in command.run("status").stdout
    for user_id in ("user_1", "user_2"):
        store.apply([webhooks.user(user_id, at=1, svix_id=f"msg_{user_id}", first_name="\x00")])
        store.apply([webhooks.user(user_id, at=2, svix_id=f"msg_{user_id}_2", first_name="\x00")])
    assert told in command.run("status").stdout
    report = command.json("status")
    assert (report["healthy"], report["database"]["left_out"]) == (True, {"objects": 2, "newest": "user_2"})


def test_objects_that_differ_from_the_migrations_are_said_in_one_line_and_are_not_stuck(
    command: Command, admin: Connection
) -> None:
    line = "objects of the database not as the migrations of this version make them: 2; see: clerk-supabase migrate"
    assert "objects of the database" not in command.run("status").stdout
    admin.execute("drop index clerk.users_email_idx; alter table clerk.users disable row level security")
    assert line in command.run("status").stdout
    report = command.json("status")
    assert (report["healthy"], report["database"]["differing_objects"]) == (True, 2)


def test_the_status_says_by_kind_until_when_everything_was_compared(command: Command, admin: Connection) -> None:
    assert command.json("status")["database"]["compared"]["membership"]["compared_until"] is None
    admin.execute("""
        insert into clerk_sync.sweeps (kind, ends_at, visited_at, compared_at, is_switched_off) values
        ('membership', 1700000000000, 0, 1750000000000, false),
        ('membership', 253402300799999, 0, 1750000001000, false),
        ('domain', 253402300799999, 0, null, true)
    """)
    compared = command.json("status")["database"]["compared"]
    assert compared["membership"]["compared_until"] == "2025-06-15T15:06:40+00:00"
    assert (compared["domain"]["is_switched_off"], compared["domain"]["compared_until"]) == (True, None)
    printed = command.run("status").stdout
    assert "2025-06-15 15:06:40" in printed
    assert "switched off in Clerk" in printed


def test_replayed_events_without_a_result_are_stuck(command: Command, store: Store, admin: Connection) -> None:
    park(store, "msg_1")
    admin.execute("update clerk_sync.parked_events set replayed_at = now()")
    assert command.json("status")["problems"] == []

    admin.execute("update clerk_sync.parked_events set replayed_at = now() - interval '4 hours'")
    [problem] = command.json("status", status=1)["problems"]
    assert "1 event replayed" in problem


def test_the_status_shows_the_lag_of_the_last_hour_and_the_last_day(command: Command, admin: Connection) -> None:
    for number in range(1, 101):
        deliver(admin, number, outcome="updated", applied="5 minutes", accepted=number / 10, happened=number)
    deliver(admin, 200, outcome="stale", applied="5 hours", accepted=1000, happened=2000)
    deliver(admin, 300, outcome="stale", applied="2 days", accepted=9999, happened=9999)

    recent = command.json("status")["database"]["recent"]

    assert recent["hour"]["outcomes"] == {"updated": 100}
    assert recent["hour"]["from_accepted"] == pytest.approx({"p50": 5.05, "p95": 9.505, "p99": 9.901})
    assert recent["hour"]["from_happened"] == pytest.approx({"p50": 50.5, "p95": 95.05, "p99": 99.01})
    assert recent["day"]["outcomes"] == {"updated": 100, "stale": 1}
    assert recent["day"]["from_accepted"]["p50"] == pytest.approx(5.1)
    printed = command.run("status").stdout
    assert "last hour, since accepted" in printed
    assert "applied in the last day: 100 updated, 1 stale" in printed


def test_before_the_first_event_there_is_no_lag(command: Command) -> None:
    report = command.json("status")
    assert report["database"]["last_delivery"] is None
    assert report["database"]["recent"]["hour"] == {"outcomes": {}, "from_accepted": None, "from_happened": None}
    assert "none yet" in command.run("status").stdout


def test_the_status_shows_the_depths_of_the_queues(
    command: Command, account: Account, to_queues: list[str], dead_letter_queue_url: str
) -> None:
    account.sqs.send_message(QueueUrl=account.sync_queue_url, MessageBody="waits")
    account.sqs.send_message(QueueUrl=account.sync_queue_url, MessageBody="is in flight")
    account.sqs.send_message(QueueUrl=account.sync_queue_url, MessageBody="is delayed", DelaySeconds=900)
    account.sqs.receive_message(QueueUrl=account.sync_queue_url, MaxNumberOfMessages=1)
    account.sqs.send_message(QueueUrl=dead_letter_queue_url, MessageBody="{}")
    account.sqs.send_message(QueueUrl=account.parked_queue_url, MessageBody="{}")

    report = command.json("status", *to_queues, status=1)

    assert report["queues"]["sync"] == {"waiting": 1, "in_flight": 1, "delayed": 1, "oldest_seconds": None}
    assert report["problems"] == [
        "1 event in the dead-letter queue, failed five times",
        "1 event in the parked queue, waiting for the database",
    ]
    assert "unknown" in command.run("status", *to_queues, status=1).stdout


def test_the_age_of_the_oldest_event_comes_from_cloudwatch(
    command: Command, account: Account, to_queues: list[str]
) -> None:
    account.sqs.send_message(QueueUrl=account.sync_queue_url, MessageBody="{}")
    age(account, account.sync_queue_url, 50, minutes_ago=5)
    age(account, account.sync_queue_url, 599, minutes_ago=2)
    assert command.json("status", *to_queues)["queues"]["sync"]["oldest_seconds"] == 599

    age(account, account.sync_queue_url, 7200, minutes_ago=1)

    assert command.json("status", *to_queues, status=1)["problems"] == [
        "the oldest event on the sync queue has waited 2 h"
    ]


def test_with_the_database_alone_the_status_says_that_the_queues_were_not_read(command: Command) -> None:
    assert "queues: not looked at; name them by --stack-name" in command.run("status").stdout
    assert list(command.json("status")["not_looked_at"]) == ["queues"]


def test_with_the_queues_alone_the_status_says_that_the_database_was_not_read(
    account: Account, to_queues: list[str]
) -> None:
    alone = Command()
    assert "database: not looked at; name it by --database-url" in alone.run("status", *to_queues).stdout
    assert alone.json("status", *to_queues)["database"] is None


def test_while_the_database_is_unavailable_the_status_shows_the_queues_and_is_stuck(
    account: Account, to_queues: list[str]
) -> None:
    away = Command({"DATABASE_URL": f"postgresql://nobody@127.0.0.1:{free_port()}/x"})

    report = away.json("status", *to_queues, status=1)

    assert report["queues"]["sync"]["waiting"] == 0
    [problem] = report["problems"]
    assert problem.startswith("the database is unavailable since 20")
    assert "; 0 events wait; connection refused: nothing listens at this host and port; start the server" in problem


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({"AWS_DEFAULT_REGION": None, "AWS_REGION": None}, "no AWS region: set AWS_REGION"),
        ({"AWS_REGION": "eu-central-1"}, "no AWS credentials: set AWS_PROFILE"),
    ],
)
def test_named_queues_that_cannot_be_reached_are_a_problem_and_the_rest_is_shown(
    environment: dict[str, str | None], reason: str, database: Database
) -> None:
    nobody = {
        "AWS_ACCESS_KEY_ID": None,
        "AWS_SECRET_ACCESS_KEY": None,
        "AWS_SESSION_TOKEN": None,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    stranger = Command({"DATABASE_URL": database.url, **nobody, **environment})

    report = stranger.json("status", "--stack-name", "clerk-supabase-sync", status=1)

    assert report["database"] is not None
    assert report["queues"] is None
    [problem] = report["problems"]
    assert reason in problem


def test_with_nothing_named_the_command_says_what_to_name() -> None:
    refused = Command().run("status", status=2).stderr
    assert "--database-url" in refused
    assert "--stack-name" in refused
