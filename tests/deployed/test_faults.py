"""Failures on the deployed template: the answers to Clerk and the user, and the one outcome of every event."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from clerk_supabase_cli.local.stack import LocalStack
from clerk_supabase_cli.operate.setup.role_urls import WORKER_ROLE
from clerk_supabase_cli.standin.deliveries import sign
from clerk_supabase_cli.standin.samples import new_user_id
from tests.kit.deployed_webhooks import created, now, policy_taken_away, post, redeliver_quickly
from tests.kit.polling import eventually

PATIENCE_SECONDS = 120.0


@pytest.fixture(scope="session", autouse=True)
def _redeliver_quickly(stack: LocalStack) -> None:
    redeliver_quickly(stack)


class Sent:
    """Accepted events, and their outcomes."""

    def __init__(self, stack: LocalStack) -> None:
        self._stack = stack
        self.poison: list[str] = []
        self.healthy: list[str] = []

    def send(self, count: int = 10, *, poison_every: int = 0) -> None:
        """Lets Clerk send events about users of their own, and checks that every event is accepted."""
        for number in range(count):
            is_poison = poison_every and number % poison_every == 0
            fields: dict[str, Any] = {"external_id": secrets.token_hex(5_000)} if is_poison else {}
            request = sign(created(new_user_id(), now(), **fields), self._stack.webhook_secret)
            assert post(self._stack, request).status_code == 202
            (self.poison if is_poison else self.healthy).append(request.headers["svix-id"])

    def ends(self) -> dict[str, list[str]]:
        """The outcomes of each event: `insert` for each row made, `parked` for each time the event is parked."""
        ids = [*self.healthy, *self.poison]
        with psycopg.connect(self._stack.database_url) as database:
            found = database.execute(
                """
                select svix_id, operation from clerk_sync.audit_log where svix_id = any(%(ids)s)
                union all select svix_id, 'parked' from clerk_sync.parked_events where svix_id = any(%(ids)s)
                """,
                {"ids": ids},
            ).fetchall()
        ends: dict[str, list[str]] = {svix_id: [] for svix_id in ids}
        for svix_id, end in found:
            ends[svix_id].append(end)
        return ends

    def all_end_well(self) -> None:
        """Waits until every healthy event is applied once, and every other event is parked once."""
        wanted = {svix_id: ["insert"] for svix_id in self.healthy} | {svix_id: ["parked"] for svix_id in self.poison}
        assert eventually(self.ends, lambda ends: ends == wanted, seconds=PATIENCE_SECONDS) == wanted


@pytest.fixture
def sent(stack: LocalStack) -> Sent:
    return Sent(stack)


def depth(stack: LocalStack, queue: str) -> int:
    """The number of messages in a queue, receivable now or later."""
    names = [f"ApproximateNumberOfMessages{which}" for which in ("", "NotVisible", "Delayed")]
    answer = stack.ministack.client("sqs").get_queue_attributes(QueueUrl=stack.outputs[queue], AttributeNames=names)
    return sum(int(answer["Attributes"][name]) for name in names)


def run(stack: LocalStack, *statements: str) -> None:
    """Runs a statement as superuser, and ends the role's sessions: a change takes effect with the next session."""
    with psycopg.connect(stack.database_url, autocommit=True) as database:
        for statement in statements:
            database.execute(statement.encode())
        database.execute("select pg_terminate_backend(pid) from pg_stat_activity where usename = %s", [WORKER_ROLE])


def retry_said(stack: LocalStack, what: str) -> int:
    """The number of matching lines in the log of the retry function."""
    return sum(f'"{what}' in line for line in stack.function_log("RetryFunction"))


@contextmanager
def changed(stack: LocalStack, begin: str, end: str) -> Iterator[None]:
    run(stack, begin)
    try:
        yield
    finally:
        run(stack, end)


@contextmanager
def postgres_away(stack: LocalStack) -> Iterator[None]:
    stack.postgres.stop()
    try:
        yield
    finally:
        stack.postgres.start()


@dataclass
class Outage:
    """An outage long enough for dead letters, and observations during it."""

    sent: Sent
    unusable: str
    """The id in an unreadable event."""
    left_while_away: int
    """Dead letters after the retry function had them several times."""
    left_without_the_right: int
    """The same once Postgres was back, while the function was not allowed to send."""


@pytest.fixture(scope="module")
def outage(stack: LocalStack) -> Outage:
    """An outage that is over; its dead letters wait for up to half a minute, while other tests run."""
    sent, user_id = Sent(stack), new_user_id()
    sent.send(2)
    sent.all_end_well()
    with policy_taken_away(stack, role="RetryRole", policy="send-events-back"):
        with postgres_away(stack):
            sent.send(5)
            unusable = json.dumps({"type": "user.updated", "data": {"id": user_id}})
            stack.ministack.client("sqs").send_message(QueueUrl=stack.outputs["SyncQueueUrl"], MessageBody=unusable)
            eventually(lambda: depth(stack, "ParkedQueueUrl"), bool, seconds=PATIENCE_SECONDS)
            eventually(
                lambda: depth(stack, "SyncDeadLetterQueueUrl"), lambda found: found == 5, seconds=PATIENCE_SECONDS
            )
            # The retry function gets them again and again, and leaves them where they are.
            before = retry_said(stack, "nothing is sent back, all messages stay")
            eventually(
                lambda: retry_said(stack, "nothing is sent back, all messages stay"),
                lambda passes: passes >= before + 2,
                seconds=PATIENCE_SECONDS,
            )
            left_while_away = depth(stack, "SyncDeadLetterQueueUrl")
        before = retry_said(stack, "not sent back")
        eventually(lambda: retry_said(stack, "not sent back"), lambda passes: passes > before, seconds=PATIENCE_SECONDS)
        left_without_the_right = depth(stack, "SyncDeadLetterQueueUrl")
    return Outage(sent, user_id, left_while_away, left_without_the_right)


def test_while_postgres_is_unavailable_dead_letters_wait(outage: Outage) -> None:
    assert outage.left_while_away == 5


def test_without_the_right_to_send_dead_letters_stay(outage: Outage) -> None:
    assert outage.left_without_the_right == 5


def test_poison_of_an_outage_waits_in_the_parked_queue_and_moves_to_its_table(
    stack: LocalStack, outage: Outage
) -> None:
    query = "select reason_class from clerk_sync.parked_events where entity_id = %s"

    def parked() -> list[tuple[Any, ...]]:
        with psycopg.connect(stack.database_url) as database:
            return database.execute(query, [outage.unusable]).fetchall()

    assert eventually(parked, bool, seconds=PATIENCE_SECONDS) == [("unusable",)]
    eventually(lambda: depth(stack, "ParkedQueueUrl"), lambda found: found == 0)


def test_postgres_that_is_killed_again_and_again_loses_nothing(stack: LocalStack, sent: Sent) -> None:
    for _ in range(3):
        sent.send(5)
        stack.postgres.kill()
        sent.send(5)
        stack.postgres.start()
    sent.all_end_well()


def test_poison_among_others_is_parked_alone(stack: LocalStack, sent: Sent) -> None:
    sent.send(20, poison_every=4)
    sent.all_end_well()


def test_batches_of_nothing_but_poison_are_parked(stack: LocalStack, sent: Sent) -> None:
    sent.send(10, poison_every=1)
    sent.all_end_well()


@pytest.mark.parametrize(
    ("begin", "end"),
    [
        (
            "alter function clerk_sync.apply(jsonb) rename to apply_later",
            "alter function clerk_sync.apply_later(jsonb) rename to apply",
        ),
        (f"alter role {WORKER_ROLE} connection limit 0", f"alter role {WORKER_ROLE} connection limit -1"),
        (
            f"alter role {WORKER_ROLE} set default_transaction_read_only = on",
            f"alter role {WORKER_ROLE} reset default_transaction_read_only",
        ),
    ],
    ids=["a migration is missing", "all connections are taken", "read-only after a failover"],
)
def test_while_the_database_takes_nothing_events_wait(begin: str, end: str, stack: LocalStack, sent: Sent) -> None:
    sent.send(1)
    sent.all_end_well()
    before = "\n".join(stack.function_log("SyncFunction")).count("not applied, SQS delivers again")
    with changed(stack, begin, end):
        sent.send(3)
        refused = "not applied, SQS delivers again"
        eventually(lambda: "\n".join(stack.function_log("SyncFunction")).count(refused), lambda found: found > before)
    sent.all_end_well()


def test_dead_letters_of_an_outage_are_sent_back_without_an_operator_and_nothing_is_lost(
    stack: LocalStack, outage: Outage
) -> None:
    outage.sent.all_end_well()
    assert retry_said(stack, "sent back") > 0


# The last one: for a minute, nothing is applied.


def test_a_rotated_password_of_the_role_is_found_without_a_deploy(stack: LocalStack, sent: Sent) -> None:
    password = "rotated-" + new_user_id()
    sent.send(2)
    sent.all_end_well()
    run(stack, f"alter role {WORKER_ROLE} password '{password}'")
    sent.send(2)
    stack.ministack.client("secretsmanager").put_secret_value(
        SecretId=stack.database_secret_arn,
        SecretString=f"{stack.postgres.url(user=WORKER_ROLE, password=password)}?sslmode=disable",
    )
    # A function looks for a newer secret at most once a minute.
    sent.all_end_well()
