"""The dashboard of template.yaml. tests/integration/test_telemetry.py shows that our own metrics are measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

from clerk_supabase.postgres.store import Outcome
from tests.infrastructure.dashboard import watched, widgets
from tests.infrastructure.template import Template

# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-available-cloudwatch-metrics.html
# https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html
# https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-metrics-and-dimensions.html
AWS_METRICS = {
    "AWS/SQS": {
        "ApproximateNumberOfMessagesVisible",
        "ApproximateNumberOfMessagesNotVisible",
        "ApproximateAgeOfOldestMessage",
    },
    "AWS/Lambda": {"Errors", "Throttles", "RecursiveInvocationsDropped"},
    "AWS/ApiGateway": {"Count", "4XXError", "5XXError", "Latency"},
}
AWS_MEASURES: dict[str, Callable[[Template], set[tuple[str, str]]]] = {
    "AWS/SQS": lambda template: named(template, "AWS::SQS::Queue", "QueueName", "QueueName"),
    "AWS/Lambda": lambda template: named(template, "AWS::Lambda::Function", "FunctionName", "FunctionName"),
    "AWS/ApiGateway": lambda template: named(template, "AWS::ApiGateway::RestApi", "Name", "ApiName"),
}


def named(template: Template, kind: str, key: str, dimension: str) -> set[tuple[str, str]]:
    names = [each["Properties"][key]["Fn::Sub"] for each in template.of_type(kind).values()]
    return {(dimension, name.replace("${AWS::StackName}", "stack")) for name in names}


def test_the_dashboard_shows_what_aws_measures_of_what_the_stack_has(template: Template) -> None:
    for namespace, name, dimensions in watched(template):
        if namespace != "ClerkSupabaseSync":
            assert len(dimensions.items() & AWS_MEASURES[namespace](template)) == 1, (name, dimensions)
            assert name in AWS_METRICS[namespace], name


def test_the_dashboard_shows_unfed_rows_among_what_is_stuck(template: Template) -> None:
    [stuck] = [each["properties"] for each in widgets(template) if each["properties"]["title"] == "What is stuck?"]
    shown = [(name, dimension, service) for _, name, dimension, service, *_ in stuck["metrics"]]
    assert ("UnfedRows", "service", "stack-reconcile") in shown


def test_the_dashboard_shows_every_outcome_of_an_event(template: Template) -> None:
    [results] = [each["properties"] for each in widgets(template) if each["properties"]["title"] == "Events: results"]
    # `unfinished` is no answer of the database: the delete goes on until it is `deleted`.
    outcomes = set(get_args(Outcome)) - {"unfinished"}
    shown = [name for _, name, _, service, *_ in results["metrics"] if service == "stack-sync"]
    assert sorted(shown) == sorted(each.title().replace("_", "") for each in outcomes)


def test_the_dashboard_has_at_most_ten_widgets_that_do_not_overlap(template: Template) -> None:
    found = widgets(template)
    assert len(found) <= 10
    places = [(x, y) for each in found for x in range(each["x"], each["x"] + each["width"]) for y in [each["y"]]]
    assert len(set(places)) == len(places)
    assert all(x < 24 for x, _ in places)
    for each in found:
        assert each["properties"]["title"]
