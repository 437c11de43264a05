"""Logger and metrics. Ids and reasons are logged, never bodies, because personal data has no place in a log.

A metric costs money for each set of values of its dimensions. All metrics have `service`, the function of one stack;
some are repeated by `reason` or `kind`, whose values are few and never taken from a request.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from functools import wraps
from typing import Any, Literal, TypeVar

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit, single_metric

from clerk_supabase.version import VERSION

Dimension = Literal["reason", "kind"]

Event = TypeVar("Event")
Context = TypeVar("Context")

# At DEBUG, libraries log whole requests and answers: bodies, secrets, tokens.
_LIBRARIES = ("aws_lambda_powertools", "boto3", "botocore", "psycopg", "urllib3")

# Service name and namespace come from the environment, see template.yaml.
logger = Logger(version=VERSION)
metrics = Metrics()
_named: Counter[tuple[str, Dimension, str]] = Counter()

for _name in _LIBRARIES:
    logging.getLogger(_name).setLevel(logging.WARNING)


def count(name: str, value: int = 1) -> None:
    """Adds to a counter, for example `Accepted` or `Rejected`."""
    counted = metrics.metric_set.get(name)
    if counted is None:
        metrics.add_metric(name, MetricUnit.Count, value)
    else:
        # One value for each counter: Powertools writes at the hundredth value, and a command has no place to write to.
        counted["Value"][0] += value


def count_by(name: str, dimension: Dimension, named: str, value: int = 1) -> None:
    """Adds to the counter of one reason or kind; `count()` adds to the total."""
    _named[name, dimension, named] += value


def took(name: str, milliseconds: int) -> None:
    """Adds a duration, for percentiles."""
    metrics.add_metric(name, MetricUnit.Milliseconds, max(milliseconds, 0))


def measured(handler: Callable[[Event, Context], dict[str, Any]]) -> Callable[[Event, Context], dict[str, Any]]:
    """Writes the counters whenever the handler ends, with or without an error. Commands never write counters."""

    @wraps(handler)
    def writing(event: Event, context: Context) -> dict[str, Any]:
        try:
            return handler(event, context)
        finally:
            _write_named()
            # Powertools warns, on standard error, of an invocation that counted nothing.
            if metrics.metric_set:
                metrics.add_metadata("version", VERSION)
                metrics.flush_metrics()

    return writing


def forget() -> None:
    """Drops the counters that were not written."""
    metrics.clear_metrics()
    _named.clear()


def _write_named() -> None:
    """Write each value as a line of its own: the values of one line share their dimensions."""
    for (name, dimension, named), value in _named.items():
        with single_metric(name, MetricUnit.Count, value, namespace=metrics.namespace) as metric:
            metric.add_dimension("service", metrics.service or "service_undefined")
            metric.add_dimension(dimension, named)
            metric.add_metadata("version", VERSION)
    _named.clear()
