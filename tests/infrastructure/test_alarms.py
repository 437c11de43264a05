"""Logs, traces and alarms of template.yaml."""

from __future__ import annotations

import json

import pytest

from tests.infrastructure.conditions import SESSION, TOPIC, chosen, names_that_exist
from tests.infrastructure.template import FUNCTIONS, Resource, Template, alarms, parameters, properties


@pytest.mark.parametrize("function", FUNCTIONS)
def test_the_log_group_of_a_function_has_a_retention(function: str, template: Template) -> None:
    name = template[function]["FunctionName"]["Fn::Sub"]
    groups = [properties(each) for each in template.of_type("AWS::Logs::LogGroup").values()]
    [group] = [each for each in groups if each["LogGroupName"] == {"Fn::Sub": f"/aws/lambda/{name}"}]
    assert group["RetentionInDays"] == {"Ref": "LogRetentionDays"}


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_is_traced_and_logs_json(function: str, template: Template) -> None:
    assert template[function]["TracingConfig"] == {"Mode": {"Ref": "Tracing"}}
    assert template[function]["LoggingConfig"] == {"LogFormat": "JSON"}


@pytest.mark.parametrize(("tracing", "is_traced"), [("Active", True), ("PassThrough", False)])
def test_the_api_is_traced_unless_nothing_is(tracing: str, is_traced: bool, template: Template) -> None:
    assert parameters(template)["Tracing"]["Default"] == "Active"
    stage = template.only("AWS::ApiGateway::Stage")
    assert chosen(template, stage["TracingEnabled"], {"Tracing": tracing}) is is_traced


def test_the_api_is_measured(template: Template) -> None:
    stage = template.only("AWS::ApiGateway::Stage")
    settings = chosen(template, stage["MethodSettings"], SESSION)
    assert [each["MetricsEnabled"] for each in settings] == [True, True]


def test_every_alarm_describes_the_failure_and_notifies_the_topic(template: Template) -> None:
    assert alarms(template)
    for name, alarm in alarms(template).items():
        assert len(alarm["AlarmDescription"].split()) > 4, name
        for given, told in (
            ({}, "AWS::NoValue"),
            ({"AlarmTopicArn": TOPIC}, "AlarmTopicArn"),
            ({"AlarmEmail": "ops@example.test"}, "AlarmTopic"),
            ({"AlarmEmail": "ops@example.test", "AlarmTopicArn": TOPIC}, "AlarmTopicArn"),
        ):
            assert chosen(template, alarm["AlarmActions"], given) == [{"Ref": told}], name


WITHOUT_CLERKS_API = {
    *(f"{function}{what}Alarm" for function in ("Ingest", "Sync", "Retry") for what in ("Errors", "Throttles")),
    *("WebhookApiErrorsAlarm", "WrongInstanceAlarm", "TooLargeAlarm", "SyncBacklogAlarm"),
    *("DeadLettersAlarm", "ParkedQueueAlarm", "ParkedAlarm", "SetUpWrongAlarm", "LoopStoppedAlarm"),
}
OF_RUNS = {
    *("ReconcileErrorsAlarm", "ReconcileThrottlesAlarm", "FailedRunsAlarm"),
    *("DriftAlarm", "BrakeAlarm", "DeletedHereAlarm", "HousekeepingAlarm", "SilenceAlarm", "UnfedRowsAlarm"),
}
OVERDUE = {"FullReconcileOverdueAlarm", "QuickReconcileOverdueAlarm"}
OF_SESSION = {"SessionErrorsAlarm", "SessionThrottlesAlarm", "SessionApiErrorsAlarm", "SessionStubsAlarm"}


@pytest.mark.parametrize(
    ("given", "there"),
    [
        ({"UseClerkApi": "false"}, WITHOUT_CLERKS_API),
        ({}, WITHOUT_CLERKS_API | OF_RUNS | OVERDUE),
        ({"FullReconcileState": "DISABLED"}, WITHOUT_CLERKS_API | OF_RUNS | {"QuickReconcileOverdueAlarm"}),
        ({"QuickReconcileState": "DISABLED"}, WITHOUT_CLERKS_API | OF_RUNS | {"FullReconcileOverdueAlarm"}),
        (SESSION, WITHOUT_CLERKS_API | OF_RUNS | OVERDUE | OF_SESSION),
    ],
)
def test_there_is_an_alarm_for_each_part_of_the_stack_and_no_other(
    given: dict[str, str], there: set[str], template: Template
) -> None:
    assert names_that_exist(template, given) & alarms(template).keys() == there


def test_an_address_makes_a_topic_that_sends_to_it(template: Template) -> None:
    assert template["AlarmTopic"] == {"Subscription": [{"Protocol": "email", "Endpoint": {"Ref": "AlarmEmail"}}]}
    assert "AlarmTopic" in names_that_exist(template, {"AlarmEmail": "ops@example.test"})
    assert "AlarmTopic" not in names_that_exist(template, {"AlarmEmail": "ops@example.test", "AlarmTopicArn": TOPIC})
    assert "AlarmTopic" not in names_that_exist(template, {})


def test_an_alarm_without_data_is_quiet_unless_it_waits_for_something(template: Template) -> None:
    for name, alarm in alarms(template).items():
        assert alarm["TreatMissingData"] == ("breaching" if name.endswith("OverdueAlarm") else "notBreaching"), name


@pytest.mark.parametrize(
    ("namespace", "metric", "about"),
    [
        ("AWS/SQS", "ApproximateNumberOfMessagesVisible", "SyncDeadLetterQueue"),
        ("AWS/SQS", "ApproximateNumberOfMessagesNotVisible", "SyncDeadLetterQueue"),
        ("AWS/SQS", "ApproximateNumberOfMessagesVisible", "ParkedQueue"),
        ("AWS/SQS", "ApproximateNumberOfMessagesNotVisible", "ParkedQueue"),
        ("ClerkSupabaseSync", "Parked", "-ingest"),
        ("ClerkSupabaseSync", "Parked", "-sync"),
        ("ClerkSupabaseSync", "Parked", "-retry"),
        *(("ClerkSupabaseSync", "SetUpWrong", f"-{name}") for name in ("sync", "retry", "reconcile", "session")),
        ("AWS/SQS", "ApproximateAgeOfOldestMessage", "SyncQueue"),
        ("AWS/Lambda", "Errors", "-ingest"),
        ("AWS/Lambda", "Errors", "-sync"),
        ("AWS/Lambda", "Errors", "-retry"),
        ("AWS/Lambda", "Throttles", "-ingest"),
        ("AWS/Lambda", "Throttles", "-retry"),
        ("AWS/Lambda", "Throttles", "-sync"),
        ("AWS/Lambda", "RecursiveInvocationsDropped", "-sync"),
        ("AWS/Lambda", "RecursiveInvocationsDropped", "-retry"),
        ("AWS/ApiGateway", "5XXError", "/webhooks/clerk"),
        ("AWS/ApiGateway", "5XXError", "/session"),
        ("ClerkSupabaseSync", "WrongInstance", "-ingest"),
        ("ClerkSupabaseSync", "WrongInstance", "-sync"),
        ("ClerkSupabaseSync", "TooLarge", "-ingest"),
        ("AWS/Lambda", "Errors", "-reconcile"),
        ("AWS/Lambda", "Throttles", "-reconcile"),
        ("AWS/SQS", "ApproximateNumberOfMessagesVisible", "FailedRunsQueue"),
        ("ClerkSupabaseSync", "FullRunsComplete", "-reconcile"),
        ("ClerkSupabaseSync", "QuickRunsComplete", "-reconcile"),
        ("ClerkSupabaseSync", "Drift", "-reconcile"),
        ("ClerkSupabaseSync", "BrakePulled", "-reconcile"),
        ("ClerkSupabaseSync", "DeletedHere", "-reconcile"),
        ("ClerkSupabaseSync", "HousekeepingFailed", "-reconcile"),
        ("ClerkSupabaseSync", "UnfedRows", "-reconcile"),
        ("ClerkSupabaseSync", "Silence", "-reconcile"),
        ("AWS/Lambda", "Errors", "-session"),
        ("AWS/Lambda", "Throttles", "-session"),
        ("ClerkSupabaseSync", "Stubs", "-session"),
    ],
)
def test_each_of_these_failures_has_one_alarm(namespace: str, metric: str, about: str, template: Template) -> None:
    watching = [
        watched
        for alarm in alarms(template).values()
        for watched in watched_by(alarm)
        if (watched["Namespace"], watched["MetricName"]) == (namespace, metric)
        and about in json.dumps(watched["Dimensions"])
    ]
    assert len(watching) == 1


@pytest.mark.parametrize(
    ("alarm", "path"), [("WebhookApiErrorsAlarm", "/webhooks/clerk"), ("SessionApiErrorsAlarm", "/session")]
)
def test_errors_of_one_method_of_the_api_ring_no_alarm_of_the_other(alarm: str, path: str, template: Template) -> None:
    # https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-metrics-and-dimensions.html
    assert {each["Name"]: each["Value"] for each in alarms(template)[alarm]["Dimensions"]} == {
        "ApiName": template["WebhookApi"]["Name"],
        "Stage": {"Ref": "Stage"},
        "Resource": path,
        "Method": "POST",
    }


def watched_by(alarm: Resource) -> list[Resource]:
    """The metrics of an alarm: a single metric, or the metrics of an expression."""
    if "Metrics" not in alarm:
        return [alarm]
    return [each["MetricStat"]["Metric"] for each in alarm["Metrics"] if "MetricStat" in each]


def test_an_alarm_on_several_metrics_looks_at_their_sum(template: Template) -> None:
    for alarm in alarms(template).values():
        if "Metrics" in alarm:
            *parts, total = alarm["Metrics"]
            assert all(part["ReturnData"] is False for part in parts)
            assert total["Expression"] in ("SUM(METRICS())", " + ".join(part["Id"] for part in parts))


def test_only_what_the_emulator_does_not_know_is_left_out_there(template: Template) -> None:
    assert template.source["Conditions"]["IsOnAws"] == {"Fn::Not": [{"Condition": "HasAwsEndpointUrl"}]}
    for name, resource in template.transformed["Resources"].items():
        assert (resource.get("Condition") == "IsOnAws") is ("Metrics" in properties(resource)), name


def test_dead_letters_alarm_only_when_the_retry_function_had_time_to_send_them_back(template: Template) -> None:
    for name, queue in (("DeadLettersAlarm", "SyncDeadLetterQueue"), ("ParkedQueueAlarm", "ParkedQueue")):
        alarm = alarms(template)[name]
        period = alarm["Metrics"][0]["MetricStat"]["Period"]
        assert alarm["EvaluationPeriods"] * period > 2 * template[queue]["VisibilityTimeout"]
        assert alarm["Threshold"] == 0
