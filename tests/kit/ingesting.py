"""The ingest function with queues and secrets of an account in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from clerk_supabase.answer import Answer
from clerk_supabase.aws.queue import Message, Queue, messages_of
from clerk_supabase.aws.secrets import Secret
from clerk_supabase.ingest import Ingest
from clerk_supabase.settings import IngestSettings
from clerk_supabase.telemetry import metrics
from clerk_supabase_cli.standin import samples
from clerk_supabase_cli.standin.deliveries import SignedRequest, api_gateway_event, generate_secret, sign, sign_body
from tests.kit.aws import Account
from tests.kit.clock import Clock

RECEIVED_AT: Final = 1_700_000_000_123
OWN_INSTANCE: Final = "ins_2Own"
LIMIT: Final = 1_040_000

CREATED: Final = samples.event(
    "user.created",
    samples.user("user_1", created_at=1_600_000_000_000, updated_at=1_600_000_000_000),
    timestamp=1_600_000_000_001,
    instance_id=OWN_INSTANCE,
)


@dataclass
class Endpoint:
    """The ingest function with its surroundings."""

    account: Account
    secret: str = field(default_factory=generate_secret)
    instance_id: str = OWN_INSTANCE
    limit: int = LIMIT
    sessions_days: int = 1
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        arn = self.account.put_secret("webhook", self.secret)
        settings = IngestSettings(
            arn,
            self.account.sync_queue_url,
            self.account.parked_queue_url,
            self.instance_id,
            self.limit,
            self.sessions_days,
        )
        self.ingest = Ingest(
            settings,
            Secret(self.account.secrets_manager, arn, self.clock),
            sync_queue=Queue(self.account.sqs, self.account.sync_queue_url),
            parked_queue=Queue(self.account.sqs, self.account.parked_queue_url),
            clock_ms=lambda: RECEIVED_AT,
        )

    def post(self, request: SignedRequest, *, base64_encoded: bool = False) -> Answer:
        return self.ingest.answer(api_gateway_event(request, base64_encoded=base64_encoded))

    def post_event(self, event: Mapping[str, Any]) -> Answer:
        return self.post(sign(event, self.secret))

    def post_body(self, body: str) -> Answer:
        return self.post(sign_body(body, self.secret))

    def accepted(self) -> list[Message]:
        """The messages on the sync queue."""
        return messages_of(self.account.lambda_event(self.account.sync_queue_url))

    def parked(self) -> list[dict[str, Any]]:
        """The messages on the parked queue, with their reasons."""
        return self.account.received(self.account.parked_queue_url)

    def stored_nothing(self) -> bool:
        return not self.accepted() and not self.parked()


def counted(name: str) -> int:
    """The count of the metric of this name."""
    return int(sum(metrics.metric_set.get(name, {"Value": []})["Value"]))


def reason_of(record: Mapping[str, Any]) -> str:
    return str(record["messageAttributes"]["reason"]["stringValue"])
