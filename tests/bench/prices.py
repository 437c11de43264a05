"""Prices of AWS, and the assumptions where no measurement was possible."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Price:
    """Dollars for a number of units, in us-east-1, in the first tier; and the source of the price."""

    name: str
    dollars: float
    unit: str
    source: str
    as_of: str


@dataclass(frozen=True)
class Assumed:
    """An assumed value, with the reason."""

    value: float
    text: str


_API: Final = (
    "https://docs.aws.amazon.com/whitepapers/latest/best-practices-api-gateway-private-apis-integration/"
    "cost-optimization.html"
)
_LAMBDA: Final = "https://cloudchipr.com/blog/aws-lambda-pricing"
_SQS: Final = "https://cloudburn.io/blog/amazon-sqs-pricing"
_LOGS: Final = "https://www.factualminds.com/blog/amazon-cloudwatch-pricing-metrics-logs-alarms-dashboards/"
_METRICS: Final = "https://signoz.io/guides/cloudwatch-pricing"
_ALARMS: Final = "https://c3x.dev/resources/aws/aws_cloudwatch_metric_alarm"
_XRAY: Final = "https://aws.amazon.com/xray/pricing/"
_SECRETS: Final = "https://hivebook.wiki/wiki/aws-secrets-manager-rotated-secrets-dynamic-db-credentials-kms"
_DATA: Final = "https://unanswered.io/guide/aws-sqs-pricing-and-cost-optimization"
_READ: Final = "read in November 2026"

PRICES: Final = {
    "api": Price("API Gateway, REST API", 3.50, "million requests", _API, _READ),
    "lambda requests": Price("Lambda, requests", 0.20, "million", _LAMBDA, "2024"),
    "lambda time": Price("Lambda, arm64", 0.0000133334, "GB-second", _LAMBDA, "2024"),
    "sqs": Price("SQS, standard queue", 0.40, "million requests of up to 64 KB", _SQS, "March 2026"),
    "logs": Price("CloudWatch Logs, taken in", 0.50, "GB", _LOGS, "June 2026"),
    "metric": Price("CloudWatch, a metric of one's own", 0.30, "month", _METRICS, "February 2026"),
    "alarm": Price("CloudWatch, a metric that an alarm looks at", 0.10, "month", _ALARMS, _READ),
    "dashboard": Price("CloudWatch, a dashboard", 3.00, "month", _LOGS, "June 2026"),
    "trace": Price("X-Ray, traces recorded", 5.00, "million", _XRAY, _READ),
    "secret": Price("Secrets Manager, a secret", 0.40, "month", _SECRETS, _READ),
    "secret calls": Price("Secrets Manager, requests", 0.05, "10,000", _SECRETS, _READ),
    "out": Price("Data out of AWS", 0.09, "GB", _DATA, _READ),
}

ASSUMED: Final = {
    # https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html
    "vcpu": Assumed(
        1769,
        "MB of memory come with one whole processor, and less with a part of it: a function with 512 MB takes three "
        "and a half times the processor time that was measured",
    ),
    "architecture": Assumed(1, "times as much processor time on arm64 as on x86-64: not scaled"),
    "send": Assumed(10, "ms is how long ingest waits for SQS"),
    "round trip": Assumed(
        5, "ms is how long sync waits for Postgres besides what was measured: a round trip within a region, and a flush"
    ),
    "page": Assumed(500, "ms is how long reconcile waits for a page of Clerk's, 500 users"),
    "platform": Assumed(700, "bytes is what Lambda itself logs of an invocation"),
    # https://docs.aws.amazon.com/xray/latest/devguide/xray-console-sampling.html
    "slow": Assumed(
        0.4,
        "events a second are slow traffic, a million a month: each travels alone, and X-Ray records all, for it "
        "records one a second and 5 % of the rest",
    ),
    "busy": Assumed(50, "events a second are busy traffic: sync gets them in whole batches"),
    "overhead": Assumed(1.2, "bytes leave AWS for each byte of an event: TLS, and the protocol of Postgres"),
    # https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html
    "pollers": Assumed(5, "pollers ask each queue, three times a minute while it is empty"),
    "environments": Assumed(
        3, "environments of each function are warm all month, and read their secrets every five minutes"
    ),
    "detailed": Assumed(5, "detailed metrics has each method of the API"),
    "quick": Assumed(5, "seconds is what a quick comparison takes when little changed"),
}
