"""The services of AWS that ingest asks, and their addresses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Service:
    """A service of AWS with a JSON protocol."""

    name: str
    """As in the names of its hosts and in signatures."""
    target: str
    """The part of the header X-Amz-Target before the operation."""
    content_type: str
    variable: str
    """The environment variable with another endpoint for this service alone."""


# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-making-api-requests-json.html
SQS: Final = Service("sqs", "AmazonSQS", "application/x-amz-json-1.0", "AWS_ENDPOINT_URL_SQS")
# https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetSecretValue.html
SECRETS_MANAGER: Final = Service(
    "secretsmanager", "secretsmanager", "application/x-amz-json-1.1", "AWS_ENDPOINT_URL_SECRETS_MANAGER"
)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The address of a service."""

    url: str
    is_encrypted: bool
    host: str
    port: int
    authority: str
    """The value of the header Host."""


def endpoint_of(service: Service, region: str, environment: Mapping[str, str]) -> Endpoint:
    """The endpoint of a service in a region, or the endpoint that the environment names, as boto3 finds it.

    https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html
    """
    suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    named = environment.get(service.variable) or environment.get("AWS_ENDPOINT_URL")
    url = named or f"https://{service.name}.{region}.{suffix}"
    parts = urlsplit(url)
    is_encrypted = parts.scheme == "https"
    usual = 443 if is_encrypted else 80
    host = parts.hostname or ""
    port = parts.port or usual
    name = f"[{host}]" if ":" in host else host
    return Endpoint(url, is_encrypted, host, port, name if port == usual else f"{name}:{port}")
