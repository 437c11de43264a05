"""Telemetry without output: a search handles thousands of events, each worth a log line in Lambda."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from aws_lambda_powertools.metrics.provider.cloudwatch_emf.cloudwatch import AmazonCloudWatchEMFProvider

from clerk_supabase.telemetry import logger, metrics


@contextmanager
def silent_telemetry() -> Iterator[None]:
    """Switches off logs and metrics for the `with` block."""
    level, provider = logger.log_level, metrics.provider
    logger.setLevel("CRITICAL")
    metrics.provider = _NoCounters()
    try:
        yield
    finally:
        logger.setLevel(level)
        metrics.provider = provider


class _NoCounters(AmazonCloudWatchEMFProvider):
    """Counts nothing: the real counters belong to a process, and are made for Lambda's single thread."""

    def add_metric(self, name: str, *_: object, **__: object) -> None:
        pass
