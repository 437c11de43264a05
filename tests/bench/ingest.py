"""The processor time of one request, without SQS."""

from __future__ import annotations

import base64
import hashlib
import hmac
import io
import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from clerk_supabase.aws.queue import Queue
from clerk_supabase.aws.secrets import Secret
from clerk_supabase.ingest import Ingest
from clerk_supabase.settings import IngestSettings
from clerk_supabase.telemetry import logger, metrics
from clerk_supabase_cli.simulator.silence import silent_telemetry
from clerk_supabase_cli.standin import samples
from clerk_supabase_cli.standin.deliveries import api_gateway_event, generate_secret, sign
from tests.bench.results import Result
from tests.bench.turns import cost, in_turns

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient
    from mypy_boto3_sqs import SQSClient

_REQUESTS: Final = 100
_TURNS: Final = 200


class _Aws:
    """A stand-in for the clients: SQS takes everything at once, Secrets Manager knows one secret."""

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def send_message(self, **_: object) -> None:
        pass

    def get_secret_value(self, **_: object) -> dict[str, str]:
        return {"SecretString": self._secret}


def measure(root: Path) -> Iterator[Result]:
    """Compares with the smallest possible job: a hash over the body, and a check that the body is text."""
    secret = generate_secret()
    body, event = _signed_event(secret)
    ingest = _ingest(secret, signed_ms=time.time_ns() // 1_000_000)
    key = base64.b64decode(secret.removeprefix("whsec_"))

    def bare(_: object) -> None:
        for _ in range(_REQUESTS):
            hmac.digest(key, b"msg_1.1750000000." + body, hashlib.sha256)
            body.decode()

    def ours(_: object) -> None:
        for _ in range(_REQUESTS):
            ingest.answer(event)

    def ours_told(_: object) -> None:
        for _ in range(_REQUESTS):
            ingest.answer(event)
            metrics.clear_metrics()

    size = f"{len(body):,} bytes"
    with silent_telemetry():
        assert ingest.answer(event).status == 202
        take = in_turns(bare, ours, range(_TURNS), time.process_time)
        yield cost(f"ingest, CPU of a request of {size}", "HMAC and UTF-8", take, at_most=4, of=_REQUESTS)
    with _log_to_memory():
        take = in_turns(bare, ours_told, range(_TURNS), time.process_time)
        yield cost("the same with its log line and metric", "HMAC and UTF-8", take, of=_REQUESTS)
        assert ingest.answer(event).status == 202


def google_accounts() -> list[dict[str, Any]]:
    """Six, which make a user as long as Clerk's often are."""
    return [
        {
            "object": "google_account",
            "id": f"idn_2Account{number}",
            "provider": "oauth_google",
            "provider_user_id": "100000000000000000000",
            "email_address": "ada@example.test",
            "approved_scopes": "email https://www.googleapis.com/auth/userinfo.email openid profile",
            "first_name": "Ada",
            "last_name": "Example",
            "public_metadata": {},
            "verification": {"object": "verification_oauth", "status": "verified", "strategy": "oauth_google"},
        }
        for number in range(6)
    ]


def _signed_event(secret: str) -> tuple[bytes, dict[str, Any]]:
    now = time.time_ns() // 1_000_000
    user = samples.user("user_2Bench", created_at=now, updated_at=now, external_accounts=google_accounts())
    request = sign(samples.event("user.updated", user, timestamp=now), secret)
    event = api_gateway_event(request)
    # As Lambda's runtime makes it: no string is shared with ours.
    return request.body, json.loads(json.dumps(event))


def _ingest(secret: str, signed_ms: int) -> Ingest:
    """Ingest with a clock that stops a second after the signature: a long measurement does not make it too old."""
    aws = _Aws(secret)
    queue = Queue(cast("SQSClient", aws), "https://sqs.example.test/sync")
    return Ingest(
        IngestSettings("arn", "https://sqs.example.test/sync", "https://sqs.example.test/parked", "", 1_040_000),
        Secret(cast("SecretsManagerClient", aws), "arn"),
        sync_queue=queue,
        parked_queue=queue,
        clock_ms=lambda: min(time.time_ns() // 1_000_000, signed_ms + 1_000),
    )


@contextmanager
def _log_to_memory() -> Iterator[None]:
    handler = logger.registered_handler
    assert isinstance(handler, logging.StreamHandler)
    before = handler.setStream(io.StringIO())
    yield
    handler.setStream(before)
