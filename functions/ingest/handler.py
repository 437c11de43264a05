"""Answers Clerk's webhooks: verifies each event and puts the event on the sync queue before the answer."""

import os
import time
from typing import Any

from clerk_supabase.aws import cold_start  # isort: split

from clerk_supabase.aws import lean_client as aws
from clerk_supabase.aws.queue import Queue
from clerk_supabase.aws.secrets import Secret
from clerk_supabase.ingest import Ingest
from clerk_supabase.settings import IngestSettings
from clerk_supabase.telemetry import measured

settings = IngestSettings.from_environment(os.environ)
sqs = aws.sqs()
secret = Secret(aws.secrets_manager(), settings.webhook_secret_arn)
secret.read_ahead()
ingest = Ingest(
    settings,
    secret,
    sync_queue=Queue(sqs, settings.sync_queue_url),
    parked_queue=Queue(sqs, settings.parked_queue_url),
    clock_ms=lambda: time.time_ns() // 1_000_000,
)
cold_start.ended()


@measured
def lambda_handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    return ingest.answer(event).to_api_gateway()
