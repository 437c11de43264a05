"""Thousands of events at once, of which nobody wants to read a log line each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from aws_lambda_powertools.metrics.provider.cloudwatch_emf.cloudwatch import AmazonCloudWatchEMFProvider

from clerk_supabase.telemetry import logger, metrics


@contextmanager
def silent_telemetry() -> Iterator[None]:
    """Nothing is logged or counted while the `with` block lasts."""
    level, provider = logger.log_level, metrics.provider
    logger.setLevel("CRITICAL")
    metrics.provider = _NoCounters()
    try:
        yield
    finally:
        logger.setLevel(level)
        metrics.provider = provider


class _NoCounters(AmazonCloudWatchEMFProvider):
    """Counters belong to a process, which in Lambda has one thread."""

    def add_metric(self, name: str, *_: object, **__: object) -> None:
        pass
