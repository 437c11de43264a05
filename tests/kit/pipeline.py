"""The way of an event without a deployment: the real ingest, queues in memory, the real sync, a real Postgres."""

from __future__ import annotations

from dataclasses import dataclass, field

from clerk_supabase.answer import Answer
from clerk_supabase.aws.queue import Queue, messages_of
from clerk_supabase.aws.secrets import Secret
from clerk_supabase.ingest import Ingest
from clerk_supabase.parking import Parking
from clerk_supabase.postgres.store import Store
from clerk_supabase.settings import IngestSettings
from clerk_supabase.sync import Sync
from clerk_supabase_cli.standin.deliveries import api_gateway_event, generate_secret, sign_body
from tests.kit.aws import Account
from tests.kit.databases import Connection, rows

# Of the template.
MAX_BODY_BYTES = 1_040_000


@dataclass
class Pipeline:
    """The way of an event: ingest answers a post of Clerk, and a test decides when sync gets the queued messages."""

    account: Account
    store: Store
    received_at: int
    """The clock of ingest, milliseconds."""
    keep_private_metadata: bool = False
    secret: str = field(default_factory=generate_secret)

    def __post_init__(self) -> None:
        arn = self.account.put_secret("webhook", self.secret)
        parked_queue = Queue(self.account.sqs, self.account.parked_queue_url)
        self.ingest = Ingest(
            IngestSettings(
                arn, self.account.sync_queue_url, self.account.parked_queue_url, "", MAX_BODY_BYTES, sessions_days=1
            ),
            Secret(self.account.secrets_manager, arn),
            sync_queue=Queue(self.account.sqs, self.account.sync_queue_url),
            parked_queue=parked_queue,
            clock_ms=lambda: self.received_at,
        )
        self.sync = Sync(
            self.store, Parking(self.store, parked_queue), keep_private_metadata=self.keep_private_metadata
        )

    def post(self, body: str, svix_id: str) -> Answer:
        """The answer to Clerk."""
        return self.ingest.answer(api_gateway_event(sign_body(body, self.secret, svix_id=svix_id)))

    def drain(self) -> list[str]:
        """Gives all waiting messages to sync, as one batch; returns the messages that sync wants again."""
        messages = messages_of(self.account.lambda_event(self.account.sync_queue_url))
        return [failure.message_id for failure in self.sync.process(messages)]

    def parked(self, admin: Connection) -> dict[str, str]:
        """The reason of every event parked since the last look, by its delivery."""
        in_queue = {
            each["messageAttributes"]["svix_id"]["stringValue"]: each["messageAttributes"]["reason"]["stringValue"]
            for each in self.account.received(self.account.parked_queue_url)
        }
        return in_queue | dict(rows(admin, "delete from clerk_sync.parked_events returning svix_id, reason"))
