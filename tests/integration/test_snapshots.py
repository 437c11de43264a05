"""SnapStart: what a function keeps of its start is the same in every restored environment, and may be days old."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from clerk_supabase_cli.standin.deliveries import api_gateway_event, generate_secret, sign
from tests.kit.aws import Account
from tests.kit.aws_http import served
from tests.kit.databases import Connection, Database, rows
from tests.kit.environments import environment_of
from tests.kit.ingesting import CREATED
from tests.kit.polling import eventually
from tests.kit.restored import RESTORED

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
WRONG = "postgresql://clerk_sync_worker:of-the-start@127.0.0.1:1/postgres"


class Keys:
    """The address from which a restored environment gets its credentials."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    @contextmanager
    def served(self) -> Iterator[str]:
        keys = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                keys.asked.append(self.headers["Authorization"])
                told = {"AccessKeyId": "AKID", "SecretAccessKey": "made-up", "Token": "made-up"}
                content = json.dumps(told | {"Expiration": "2100-01-01T00:00:00Z"}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - the base class calls it so
                """Says nothing."""

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            Thread(target=server.serve_forever, daemon=True).start()
            yield f"http://127.0.0.1:{server.server_port}/credentials"
            server.shutdown()


class Snapshot:
    """A function that has started, and waits to be restored."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self._process = process
        self._folder = folder
        eventually(lambda: (folder / "started.json").exists() or process.poll() is not None, bool)
        self.started = json.loads((folder / "started.json").read_text(encoding="utf-8"))

    def restored(self, event: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The draw and the answer of two environments."""
        (self._folder / "event.json").write_text(json.dumps(event), encoding="utf-8")
        _, errors = self._process.communicate("go\n", timeout=120)
        assert self._process.returncode == 0, errors
        told = [json.loads((self._folder / f"{name}.json").read_text(encoding="utf-8")) for name in RESTORED]
        assert told[0]["drew"] != told[1]["drew"]
        return told


@contextmanager
def snapshot(root: Path, folder: Path, function: str, account: Account, **given: str) -> Iterator[Snapshot]:
    """A function that starts as Lambda starts it for a snapshot."""
    keys = Keys()
    with served(account) as url, keys.served() as address:
        environment = environment_of(
            function,
            AWS_ENDPOINT_URL=url,
            AWS_DEFAULT_REGION="eu-central-1",
            AWS_LAMBDA_INITIALIZATION_TYPE="snap-start",
            POWERTOOLS_METRICS_NAMESPACE="Test",
            AWS_CONTAINER_CREDENTIALS_FULL_URI=address,
            AWS_CONTAINER_AUTHORIZATION_TOKEN="of-lambda",
            SYNC_QUEUE_URL=account.sync_queue_url,
            PARKED_QUEUE_URL=account.parked_queue_url,
            CLERK_PUBLISHABLE_KEY="pk_test_Y2xlcmsuZXhhbXBsZS50ZXN0JA==",
            PYTHONPATH=str(root),
            PATH=os.environ["PATH"],
            **given,
        )
        handler = str(root / "functions" / function / "handler.py")
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.kit.restored", handler, str(folder)],
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            yield Snapshot(process, folder)
        finally:
            process.kill()
            process.communicate()
    assert set(keys.asked) == {"of-lambda"}


def test_a_restored_ingest_knows_the_secret_and_the_credentials_of_now(
    account: Account, root: Path, tmp_path: Path
) -> None:
    old, new = generate_secret(), generate_secret()
    arn = account.put_secret("webhook", old)
    with snapshot(root, tmp_path, "ingest", account, WEBHOOK_SECRET_ARN=arn) as kept:
        assert kept.started == {"connections": []}
        assert account.secret_reads == []
        account.put_secret("webhook", new)
        answers = kept.restored(api_gateway_event(sign(CREATED, new)))
    assert [each["answer"]["statusCode"] for each in answers] == [202, 202]
    # Each environment has read the secret once: the old value was nowhere.
    assert account.secret_reads == [arn, arn]
    assert len(account.received(account.sync_queue_url)) == 2


def test_a_restored_sync_connects_to_the_database_of_now(
    account: Account, root: Path, tmp_path: Path, database: Database, admin: Connection
) -> None:
    arn = account.put_secret("database", WRONG)
    account.sqs.send_message(QueueUrl=account.sync_queue_url, MessageBody=json.dumps(CREATED))
    event = account.lambda_event(account.sync_queue_url)
    with snapshot(root, tmp_path, "sync", account, DATABASE_SECRET_ARN=arn) as kept:
        assert kept.started == {"connections": []}
        assert account.secret_reads == []
        account.put_secret("database", database.worker_url)
        answers = kept.restored(event)
    assert [each["answer"] for each in answers] == [{"batchItemFailures": []}] * 2
    assert account.secret_reads == [arn, arn]
    assert rows(admin, "select clerk_id from clerk.users") == [("user_1",)]


def test_a_snapshot_of_session_has_read_nothing(account: Account, root: Path, tmp_path: Path) -> None:
    given = {
        "SESSION_DATABASE_SECRET_ARN": account.put_secret("session", WRONG),
        "CLERK_SECRET_KEY_ARN": account.put_secret("clerk", "sk_test_1"),
    }
    with snapshot(root, tmp_path, "session", account, **given) as kept:
        assert kept.started == {"connections": []}
        assert account.secret_reads == []
        answers = kept.restored({"httpMethod": "POST", "path": "/session", "headers": {}, "body": None})
    assert [each["answer"]["statusCode"] for each in answers] == [401, 401]
    assert account.secret_reads == [given["SESSION_DATABASE_SECRET_ARN"]] * 2
