"""The schedules of reconcile in template.yaml, and the alarms for a run that fails or is missing."""

from __future__ import annotations

import pytest

from tests.infrastructure.conditions import names_that_exist
from tests.infrastructure.template import DAY_SECONDS, Template, alarms, arn, parameters, properties, schedules


def test_everything_is_compared_every_night_and_what_changed_every_quarter_of_an_hour(template: Template) -> None:
    asked = schedules(template)
    expressions = {
        mode: template.source["Parameters"][schedule["ScheduleExpression"]["Ref"]]["Default"]
        for mode, schedule in asked.items()
    }
    assert expressions == {"full": "cron(30 3 * * ? *)", "quick": "rate(15 minutes)"}


@pytest.mark.parametrize(("mode", "name"), [("full", "Full"), ("quick", "Quick")])
def test_each_schedule_can_be_switched_off_and_its_alarm_with_it(mode: str, name: str, template: Template) -> None:
    state = f"{name}ReconcileState"
    assert schedules(template)[mode]["State"] == {"Ref": state}
    assert parameters(template)[state]["AllowedValues"] == ["ENABLED", "DISABLED"]
    assert parameters(template)[state]["Default"] == "ENABLED"
    off = names_that_exist(template, {state: "DISABLED"})
    on = names_that_exist(template, {})
    assert on - off == {f"{name}ReconcileOverdueAlarm"}


def test_a_schedule_calls_the_reconcile_function_and_may_do_nothing_else(template: Template) -> None:
    for schedule in schedules(template).values():
        role = template[schedule["Target"]["RoleArn"]["Fn::GetAtt"][0]]
        allowed = [
            (statement["Action"], statement["Resource"])
            for policy in role["Policies"]
            for statement in policy["PolicyDocument"]["Statement"]
        ]
        assert allowed == [
            ("lambda:InvokeFunction", {"Ref": "ReconcileFunctionAliaslive"}),
            ("sqs:SendMessage", arn("FailedRunsQueue")),
        ]


def test_a_run_that_could_not_be_started_or_failed_twice_is_kept_for_an_operator(template: Template) -> None:
    for schedule in schedules(template).values():
        assert schedule["Target"]["DeadLetterConfig"] == {"Arn": arn("FailedRunsQueue")}
        assert schedule["Target"]["RetryPolicy"] == {"MaximumRetryAttempts": 2, "MaximumEventAgeInSeconds": 900}
    [invocation] = map(properties, template.of_type("AWS::Lambda::EventInvokeConfig").values())
    assert invocation["DestinationConfig"] == {"OnFailure": {"Destination": arn("FailedRunsQueue")}}
    assert (invocation["FunctionName"], invocation["Qualifier"]) == ({"Ref": "ReconcileFunction"}, "live")
    assert invocation["MaximumRetryAttempts"] == 1
    # A quick run that waits longer is done by the next one.
    assert invocation["MaximumEventAgeInSeconds"] <= 900


def test_a_run_may_take_as_long_as_lambda_allows_and_takes_no_concurrency_from_the_others(template: Template) -> None:
    assert template["ReconcileFunction"]["Timeout"] == 900
    # Two runs exclude each other in the database. Reserving would fail in an account with a low limit.
    assert "ReservedConcurrentExecutions" not in template["ReconcileFunction"]


@pytest.mark.parametrize(
    ("name", "limit", "unit"),
    [
        ("FullReconcileOverdueAlarm", "FullReconcileOverdueHours", 3600),
        ("QuickReconcileOverdueAlarm", "QuickReconcileOverdueMinutes", 60),
    ],
)
def test_an_alarm_rings_when_no_run_has_finished_for_two_periods(
    name: str, limit: str, unit: int, template: Template
) -> None:
    alarm, parameter = alarms(template)[name], parameters(template)[limit]
    assert alarm["EvaluationPeriods"] == {"Ref": limit}
    assert (alarm["Period"], alarm["Threshold"], alarm["ComparisonOperator"]) == (unit, 1, "LessThanThreshold")
    period_of_the_schedule = {"Full": 24 * 3600, "Quick": 15 * 60}[name.removesuffix("ReconcileOverdueAlarm")]
    assert parameter["Default"] * unit > 2 * period_of_the_schedule
    # CloudWatch looks back a week when the period is an hour, else a day.
    # https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricAlarm.html
    assert parameter["MaxValue"] * unit <= (7 if unit >= 3600 else 1) * DAY_SECONDS
