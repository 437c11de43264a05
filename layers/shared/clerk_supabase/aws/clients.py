"""AWS clients with shorter timeouts than the caller of the function."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any


@contextmanager
def _hidden(name: str) -> Iterator[None]:
    """Hides a module that was not imported yet from imports in the `with` block."""
    modules: dict[str, Any] = sys.modules
    is_new = modules.setdefault(name, None) is None
    yield
    if is_new:
        del modules[name]


# botocore imports awscrt where it finds it, for signatures that nobody asks for here: a seventh of the import of boto3.
with _hidden("awscrt"):
    import boto3
    from botocore.config import Config

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient
    from mypy_boto3_sqs import SQSClient

# Svix waits 15 s for an answer, and ingest may take 14 s: two services that hang, each asked twice with a pause of at
# most a second between, leave time to answer 503. AWS checks the parameters, and mypy has checked their types: a check
# by boto3, too, would take a fifth of the processor time of a request.
_CONFIG = Config(
    connect_timeout=1,
    read_timeout=2,
    retries={"mode": "standard", "total_max_attempts": 2},
    parameter_validation=False,
)


def sqs() -> SQSClient:
    """A client for SQS."""
    return boto3.client("sqs", config=_CONFIG)


def secrets_manager() -> SecretsManagerClient:
    """A client for Secrets Manager."""
    return boto3.client("secretsmanager", config=_CONFIG)
