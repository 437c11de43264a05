"""The handlers as Lambda runs them: a module, an environment, an event, an answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from clerk_supabase.aws.queue import messages_of
from clerk_supabase.errors import SecretUnavailable
from clerk_supabase.settings import SettingsError
from clerk_supabase_cli.standin import samples
from clerk_supabase_cli.standin.deliveries import api_gateway_event, generate_secret, sign
from tests.kit.aws import Account
from tests.kit.aws_http import served
from tests.kit.handlers import started

Handler = Callable[[dict[str, Any], object], dict[str, Any]]

FUNCTIONS = ["ingest", "sync", "retry", "reconcile", "session"]
CREATED = samples.event("user.created", samples.user("user_1", created_at=1, updated_at=2), timestamp=3)


def load(root: Path, function: str, **given: str) -> Handler:
    handler: Handler = started(root, function, **given)["lambda_handler"]
    return handler


@pytest.fixture
def secret() -> str:
    return generate_secret()


@pytest.fixture
def ingest(account: Account, secret: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Handler]:
    with served(account) as url:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "made-up")
        yield load(
            root,
            "ingest",
            AWS_ENDPOINT_URL=url,
            WEBHOOK_SECRET_ARN=account.put_secret("webhook", secret),
            SYNC_QUEUE_URL=account.sync_queue_url,
            PARKED_QUEUE_URL=account.parked_queue_url,
        )


def test_ingest_answers_api_gateway(ingest: Handler, account: Account, secret: str) -> None:
    answer = ingest(api_gateway_event(sign(CREATED, secret)), None)
    assert (answer["statusCode"], answer["body"]) == (202, "accepted")
    assert len(account.received(account.sync_queue_url)) == 1


def test_the_secret_is_read_before_the_first_event(ingest: Handler, account: Account, secret: str) -> None:
    account.take_secret_away("webhook")
    assert ingest(api_gateway_event(sign(CREATED, secret)), None)["statusCode"] == 202


def test_ingest_writes_its_counts_as_metrics_when_it_ends(
    ingest: Handler, secret: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ingest(api_gateway_event(sign(CREATED, secret)), None)
    written = [json.loads(line) for line in capsys.readouterr().out.splitlines() if '"_aws"' in line]
    assert [each["Accepted"] for each in written] == [[1.0]]


def test_ingest_dates_what_it_accepts_by_its_own_clock_in_milliseconds(
    ingest: Handler, account: Account, secret: str
) -> None:
    ingest(api_gateway_event(sign(CREATED, secret)), None)
    [record] = account.received(account.sync_queue_url)
    received_at = int(record["messageAttributes"]["received_at"]["stringValue"])
    assert abs(received_at - int(record["attributes"]["SentTimestamp"])) < 60_000


def test_sync_answers_with_the_messages_that_must_come_again(
    account: Account, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # There is no database behind this address, so nothing can be applied.
    nowhere = "postgresql://clerk_sync_worker:secret@127.0.0.1:1/postgres"
    arn = account.put_secret("database", nowhere)
    account.sqs.send_message(QueueUrl=account.sync_queue_url, MessageBody=json.dumps(CREATED))
    event = account.lambda_event(account.sync_queue_url)

    sync = load(root, "sync", DATABASE_SECRET_ARN=arn, PARKED_QUEUE_URL=account.parked_queue_url)
    answer = sync(event, None)

    failed = [{"itemIdentifier": record["messageId"]} for record in event["Records"]]
    assert answer == {"batchItemFailures": failed}
    assert len(failed) == 1
    [logged] = [vars(record) for record in caplog.records if record.message.startswith("not applied")]
    svix_ids = [record["messageId"] for record in event["Records"]]
    assert (logged["failure"], logged["svix_ids"]) == ("DatabaseUnavailable", svix_ids)
    assert "connection refused" in logged["reason"]


def test_sync_parks_an_event_in_the_queue_while_the_database_is_unavailable(account: Account, root: Path) -> None:
    nowhere = "postgresql://clerk_sync_worker:secret@127.0.0.1:1/postgres"
    arn = account.put_secret("database", nowhere)
    account.sqs.send_message(QueueUrl=account.sync_queue_url, MessageBody="no event")
    event = account.lambda_event(account.sync_queue_url)

    sync = load(root, "sync", DATABASE_SECRET_ARN=arn, PARKED_QUEUE_URL=account.parked_queue_url)

    assert sync(event, None) == {"batchItemFailures": []}
    [message] = messages_of(account.lambda_event(account.parked_queue_url))
    assert message.parked is not None
    assert (message.envelope.body, message.parked.reason_class) == (b"no event", "unusable")


@pytest.mark.parametrize(("function", "variable"), [("sync", "DATABASE"), ("session", "SESSION_DATABASE")])
def test_the_connection_string_is_read_while_the_environment_starts(
    function: str, variable: str, account: Account, root: Path
) -> None:
    given = {
        f"{variable}_SECRET_ARN": account.put_secret("database", "postgresql://"),
        "PARKED_QUEUE_URL": account.parked_queue_url,
        "CLERK_SECRET_KEY_ARN": account.put_secret("clerk", "sk_test_1"),
        "CLERK_PUBLISHABLE_KEY": "pk_test_Y2xlcmsuZXhhbXBsZS50ZXN0JA==",
    }
    environment = started(root, function, **given)
    account.take_secret_away("database")
    assert environment["secret"].value() == "postgresql://"
    # An unavailable secret does not keep the environment from starting.
    with pytest.raises(SecretUnavailable):
        started(root, function, **given)["secret"].value()


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_without_its_settings_does_not_start(function: str, account: Account, root: Path) -> None:
    with pytest.raises(SettingsError, match=r"(_ARN|_KEY) is not set"):
        load(root, function)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_handler_has_at_most_sixty_lines(function: str, root: Path) -> None:
    lines = (root / "functions" / function / "handler.py").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 60
