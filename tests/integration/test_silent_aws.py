"""Services of AWS that accept requests and never answer: each function ends within its time, and loses nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from samtranslator.yaml_helper import yaml_parse  # type: ignore[import-untyped]

from clerk_supabase.aws.secrets import RETRY_SECONDS_OF_QUEUES
from clerk_supabase.postgres.store import Store
from clerk_supabase_cli.standin.deliveries import api_gateway_event, generate_secret, sign
from tests.kit.aws import Account
from tests.kit.aws_http import served
from tests.kit.databases import Connection, Database, rows
from tests.kit.handlers import started
from tests.kit.ingesting import CREATED

SQS = "AmazonSQS"
SECRETS = "secretsmanager"
NOWHERE = "postgresql://clerk_sync_worker:secret@127.0.0.1:1/postgres"


@dataclass
class Silence:
    """Functions of the bundle in an account whose services can fall silent."""

    account: Account
    root: Path
    silent: set[str] = field(default_factory=set)

    stores: list[Store] = field(default_factory=list)

    def handler(self, function: str, **given: str) -> Any:
        """The handler after a cold start."""
        urls = {"SYNC_QUEUE_URL": self.account.sync_queue_url, "PARKED_QUEUE_URL": self.account.parked_queue_url}
        module = started(self.root, function, **urls, **given)
        self.stores += [module["store"]] if "store" in module else []
        return module["lambda_handler"]

    @contextmanager
    def in_time(self, function: str) -> Iterator[None]:
        """Fails when the block takes longer than the template lets the function run."""
        template = yaml_parse((self.root / "template.yaml").read_text(encoding="utf-8"))
        limit: int = template["Resources"][f"{function.title()}Function"]["Properties"]["Timeout"]
        began = time.monotonic()
        yield
        assert time.monotonic() - began < limit

    def events(self, *bodies: str) -> dict[str, Any]:
        """The event of Lambda for these messages."""
        for body in bodies:
            self.account.sqs.send_message(QueueUrl=self.account.sync_queue_url, MessageBody=body)
        return self.account.lambda_event(self.account.sync_queue_url)


@pytest.fixture
def silence(account: Account, root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Silence]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "made-up")
    silent: set[str] = set()
    with served(account, silent) as url:
        # For the whole test: sync makes its client for SQS for the first event that needs it.
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        silence = Silence(account, root, silent)
        yield silence
        for store in silence.stores:
            store.close()


@pytest.mark.parametrize("services", [{SQS}, {SQS, SECRETS}], ids=["SQS", "SQS and Secrets Manager"])
def test_ingest_answers_503_in_time_and_takes_the_event_when_it_comes_again(
    services: set[str], silence: Silence
) -> None:
    secret = generate_secret()
    arn = silence.account.put_secret("webhook", secret)
    silence.silent |= services & {SECRETS}
    ingest = silence.handler("ingest", WEBHOOK_SECRET_ARN=arn)
    silence.silent |= services
    with silence.in_time("ingest"):
        answer = ingest(api_gateway_event(sign(CREATED, secret)), None)
    assert (answer["statusCode"], answer["body"]) == (503, "try again later")
    assert silence.account.received(silence.account.sync_queue_url) == []

    silence.silent.clear()
    # The attempt to read the secret at the start has failed: the next attempt is a few seconds later.
    deadline = time.monotonic() + 60
    while ingest(api_gateway_event(sign(CREATED, secret)), None)["statusCode"] != 202:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert len(silence.account.received(silence.account.sync_queue_url)) == 1


def test_sync_leaves_in_the_queue_what_neither_the_database_nor_sqs_takes(silence: Silence) -> None:
    arn = silence.account.put_secret("database", NOWHERE)
    sync = silence.handler("sync", DATABASE_SECRET_ARN=arn)
    event = silence.events(json.dumps(CREATED), *["no event"] * 9)
    silence.silent.add(SQS)
    with silence.in_time("sync"):
        answer = sync(event, None)
    failed = {each["itemIdentifier"] for each in answer["batchItemFailures"]}
    assert failed == {record["messageId"] for record in event["Records"]}

    silence.silent.clear()
    [staying] = sync(event, None)["batchItemFailures"]
    assert len(silence.account.received(silence.account.parked_queue_url)) == 9
    assert staying["itemIdentifier"] in failed


def test_sync_starts_without_an_answer_of_secrets_manager_and_leaves_all_messages(silence: Silence) -> None:
    arn = silence.account.put_secret("database", NOWHERE)
    event = silence.events(json.dumps(CREATED), "no event")
    silence.silent |= {SQS, SECRETS}
    with silence.in_time("sync"):
        answer = silence.handler("sync", DATABASE_SECRET_ARN=arn)(event, None)
    assert len(answer["batchItemFailures"]) == 2


def test_sync_applies_an_event_as_soon_as_its_empty_secret_is_filled(silence: Silence, database: Database) -> None:
    """Because the queue delivers an event that meets a kept failure again only minutes later."""
    arn = silence.account.put_secret("database", " ")
    sync = silence.handler("sync", DATABASE_SECRET_ARN=arn)
    event = silence.events(json.dumps(CREATED))
    assert len(sync(event, None)["batchItemFailures"]) == 1

    silence.account.put_secret("database", database.worker_url)
    time.sleep(RETRY_SECONDS_OF_QUEUES)
    assert sync(event, None) == {"batchItemFailures": []}


def test_retry_leaves_dead_letters_that_sqs_does_not_take_back(
    silence: Silence, database: Database, admin: Connection
) -> None:
    arn = silence.account.put_secret("database", database.worker_url)
    retry = silence.handler("retry", DATABASE_SECRET_ARN=arn)
    event = silence.events(*[json.dumps(CREATED)] * 10)
    silence.silent.add(SQS)
    with silence.in_time("retry"):
        answer = retry(event, None)
    assert len(answer["batchItemFailures"]) == 10
    assert rows(admin, "select from clerk_sync.parked_events") == []

    silence.silent.clear()
    assert retry(event, None) == {"batchItemFailures": []}
    # Most of them wait for a moment of their own.
    asked = silence.account.sqs.get_queue_attributes(QueueUrl=silence.account.sync_queue_url, AttributeNames=["All"])
    waiting = asked["Attributes"]
    visible, delayed = waiting["ApproximateNumberOfMessages"], waiting["ApproximateNumberOfMessagesDelayed"]
    assert int(visible) + int(delayed) == 10
