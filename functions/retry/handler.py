"""Sends dead letters back to the sync queue, and parks an event after too many failures."""

import os
from typing import Any

from clerk_supabase.aws import cold_start  # isort: split

from clerk_supabase.aws import clients as aws
from clerk_supabase.aws.queue import Queue, messages_of
from clerk_supabase.aws.secrets import RETRY_SECONDS_OF_QUEUES, Secret
from clerk_supabase.parking import Parking
from clerk_supabase.postgres.connection import WORKER_PATIENCE_SECONDS
from clerk_supabase.postgres.store import Store
from clerk_supabase.retry import Retry
from clerk_supabase.settings import RetrySettings
from clerk_supabase.sync import Sync
from clerk_supabase.telemetry import measured

settings = RetrySettings.from_environment(os.environ)
secret = Secret(aws.secrets_manager(), settings.database_secret_arn, retry_seconds=RETRY_SECONDS_OF_QUEUES)
store = Store(secret, settings.database_ca_file, WORKER_PATIENCE_SECONDS)
retry = Retry(
    store,
    Sync(store, Parking(store), keep_private_metadata=settings.keep_private_metadata),
    Queue(aws.sqs(), settings.sync_queue_url),
)
cold_start.ended()


@measured
def lambda_handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    staying = retry.process(messages_of(event))
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in staying]}
