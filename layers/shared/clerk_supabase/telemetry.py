"""Logger and metrics. Ids and reasons go in, never bodies: personal data has no business in a log."""

from __future__ import annotations

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit

# Service name and namespace come from the environment, see template.yaml.
logger = Logger()
metrics = Metrics()


def count(name: str, value: int = 1) -> None:
    """Adds to a counter, for example `Accepted` or `Refused`."""
    metrics.add_metric(name, MetricUnit.Count, value)
