"""The metrics on the dashboard and in the alarms of template.yaml, in a stack named `stack`."""

from __future__ import annotations

import json
from collections.abc import Iterator

from tests.infrastructure.template import Resource, Template


def widgets(template: Template) -> list[Resource]:
    """The widgets of the dashboard."""
    body = template.only("AWS::CloudWatch::Dashboard")["DashboardBody"]["Fn::Sub"]
    text = body.replace("${AWS::StackName}", "stack").replace("${AWS::Region}", "eu-central-1")
    assert "${" not in text
    found: list[Resource] = json.loads(text)["widgets"]
    return found


def watched(template: Template) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Namespace, name and dimensions of every metric of the dashboard and the alarms."""
    for widget in widgets(template):
        for namespace, name, *rest in widget["properties"]["metrics"]:
            pairs = [each for each in rest if isinstance(each, str)]
            yield namespace, name, dict(zip(pairs[::2], pairs[1::2], strict=True))
    for alarm in template.of_type("AWS::CloudWatch::Alarm").values():
        properties = alarm["Properties"]
        parts = [each["MetricStat"]["Metric"] for each in properties.get("Metrics", []) if "MetricStat" in each]
        for metric in parts or [properties]:
            yield (
                metric["Namespace"],
                metric["MetricName"],
                {each["Name"]: _name_in(template, each["Value"]) for each in metric["Dimensions"]},
            )


def _name_in(template: Template, value: Resource | str) -> str:
    match value:
        case {"Fn::GetAtt": [queue, _]}:
            return _name_in(template, template[queue]["QueueName"])
        case {"Fn::Sub": text}:
            return str(text).replace("${AWS::StackName}", "stack")
        case {"Ref": parameter}:
            return str(template.source["Parameters"][parameter]["Default"])
    return str(value)
