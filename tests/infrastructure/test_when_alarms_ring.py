"""The condition of each alarm in template.yaml: the metric, the period and the limit."""

from __future__ import annotations

from typing import Any, NamedTuple

from tests.infrastructure.template import Resource, Template, alarms


class Rule(NamedTuple):
    """The condition under which an alarm rings."""

    statistic: str = "Sum"
    period: int = 60
    evaluation_periods: Any = 1
    threshold: Any = 0
    comparison: str = "GreaterThanThreshold"
    without_data: str = "notBreaching"


AT_ONCE = Rule()
OTHERS = {
    # The retry function empties its queues every five minutes: what it had three chances to move is stuck.
    "DeadLettersAlarm": Rule("Maximum", evaluation_periods=15),
    "ParkedQueueAlarm": Rule("Maximum", evaluation_periods=15),
    "SyncBacklogAlarm": Rule("Maximum", threshold=600),
    "FailedRunsAlarm": Rule("Maximum"),
    "DriftAlarm": Rule("Maximum", threshold={"Ref": "DriftThreshold"}),
    "DeletedHereAlarm": Rule("Maximum"),
    "SilenceAlarm": Rule("Maximum"),
    "UnfedRowsAlarm": Rule("Maximum"),
    "FullReconcileOverdueAlarm": Rule(
        period=3_600,
        evaluation_periods={"Ref": "FullReconcileOverdueHours"},
        threshold=1,
        comparison="LessThanThreshold",
        without_data="breaching",
    ),
    "QuickReconcileOverdueAlarm": Rule(
        evaluation_periods={"Ref": "QuickReconcileOverdueMinutes"},
        threshold=1,
        comparison="LessThanThreshold",
        without_data="breaching",
    ),
}
"""The alarms that do not ring at the first count within a minute."""


def rules_of(alarm: Resource) -> list[Rule]:
    """The condition of an alarm, once for each of its metrics."""
    measured = [each["MetricStat"] for each in alarm.get("Metrics", ()) if "MetricStat" in each]
    counted = [(each["Stat"], each["Period"]) for each in measured] or [(alarm["Statistic"], alarm["Period"])]
    rest = [alarm[name] for name in ("EvaluationPeriods", "Threshold", "ComparisonOperator", "TreatMissingData")]
    return [Rule(statistic, period, *rest) for statistic, period in counted]


def test_an_alarm_rings_at_the_first_one_within_a_minute_unless_it_says_otherwise(template: Template) -> None:
    assert OTHERS.keys() <= alarms(template).keys()
    for name, alarm in alarms(template).items():
        rules = rules_of(alarm)
        assert rules == [OTHERS.get(name, AT_ONCE)] * len(rules), name


def test_no_alarm_waits_for_some_of_its_periods_only_nor_is_switched_off(template: Template) -> None:
    for name, alarm in alarms(template).items():
        assert not alarm.keys() & {"DatapointsToAlarm", "ActionsEnabled", "ExtendedStatistic", "Unit"}, name
