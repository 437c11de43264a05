"""The baseline: the same job with the libraries of most examples, all of them imported at the top.

Tracer is left out, because Tracer needs the X-Ray SDK, which is in maintenance: with Tracer, the start would take even
longer.
"""

from __future__ import annotations

import os
from typing import Any

import boto3
from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from aws_lambda_powertools.metrics import MetricUnit
from pydantic import BaseModel
from svix.webhooks import Webhook, WebhookVerificationError

logger = Logger()
metrics = Metrics()
app = APIGatewayRestResolver()
sqs = boto3.client("sqs")
secrets = boto3.client("secretsmanager")


class EmailAddress(BaseModel):
    id: str
    email_address: str


class User(BaseModel):
    id: str
    first_name: str | None = None
    last_name: str | None = None
    username: str | None = None
    image_url: str | None = None
    primary_email_address_id: str | None = None
    email_addresses: list[EmailAddress] = []
    public_metadata: dict[str, Any] = {}
    created_at: int
    updated_at: int


class Event(BaseModel):
    type: str
    timestamp: int
    data: User


@app.post("/webhooks/clerk")
def receive() -> Response[str]:
    secret = secrets.get_secret_value(SecretId=os.environ["WEBHOOK_SECRET_ARN"])["SecretString"]
    body = app.current_event.body or ""
    try:
        Webhook(secret).verify(body, dict(app.current_event.headers))
    except WebhookVerificationError:
        return Response(401)
    event = Event.model_validate_json(body)
    sqs.send_message(QueueUrl=os.environ["SYNC_QUEUE_URL"], MessageBody=event.model_dump_json())
    metrics.add_metric("Accepted", MetricUnit.Count, 1)
    return Response(202)


@metrics.log_metrics
def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    return app.resolve(event, context)
