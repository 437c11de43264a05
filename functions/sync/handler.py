"""Applies the events on the sync queue to Postgres, a batch at a time."""

import os
from typing import Any

from clerk_supabase.aws import cold_start  # isort: split

from clerk_supabase.aws import clients as aws
from clerk_supabase.aws.queue import Queue, messages_of
from clerk_supabase.aws.secrets import RETRY_SECONDS_OF_QUEUES, Secret
from clerk_supabase.parking import Parking
from clerk_supabase.postgres.connection import WORKER_PATIENCE_SECONDS
from clerk_supabase.postgres.store import Store
from clerk_supabase.settings import SyncSettings
from clerk_supabase.sync import Sync
from clerk_supabase.telemetry import measured

settings = SyncSettings.from_environment(os.environ)
secret = Secret(aws.secrets_manager(), settings.database_secret_arn, retry_seconds=RETRY_SECONDS_OF_QUEUES)
secret.read_ahead()
store = Store(secret, settings.database_ca_file, WORKER_PATIENCE_SECONDS)
sync = Sync(
    store,
    Parking(store, Queue(aws.sqs, settings.parked_queue_url)),
    keep_private_metadata=settings.keep_private_metadata,
)
cold_start.ended()


@measured
def lambda_handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    failures = sync.process(messages_of(event))
    return {"batchItemFailures": [{"itemIdentifier": failure.message_id} for failure in failures]}
