"""Versions and aliases: every change of template.yaml's functions goes live, at once or as a canary."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.infrastructure.conditions import chosen, mentioned
from tests.infrastructure.template import (
    FUNCTIONS,
    WITH_A_REVISION,
    Resource,
    Template,
    parameters,
    properties,
    schedules,
)


@pytest.fixture(scope="module")
def gradual(root: Path) -> Template:
    """The template with the canary that samconfig.toml asks for in prod."""
    return Template(root, {"GradualDeployment": "true"})


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_change_of_the_layer_alone_publishes_a_new_version_of_a_function(
    function: str, template: Template, root: Path
) -> None:
    changed = Template(root, built={"SharedLayer": "second"})
    assert version_of(changed, function) != version_of(template, function)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_change_of_the_code_publishes_a_new_version_of_its_function_only(
    function: str, template: Template, root: Path
) -> None:
    changed = Template(root, built={function: "second"})
    assert [each for each in FUNCTIONS if version_of(changed, each) != version_of(template, each)] == [function]


def test_without_a_change_no_version_is_published(template: Template, root: Path) -> None:
    again = Template(root)
    assert [version_of(again, each) for each in FUNCTIONS] == [version_of(template, each) for each in FUNCTIONS]


def version_of(template: Template, function: str) -> str:
    """The logical id of the version to which the alias points."""
    return str(template[f"{function}Aliaslive"]["FunctionVersion"]["Fn::GetAtt"][0])


@pytest.mark.parametrize("function", FUNCTIONS)
def test_both_flags_that_publish_a_layers_change_are_set(function: str, template: Template) -> None:
    assert template.source["Resources"]["SharedLayer"]["Properties"]["PublishLambdaVersion"] is True
    assert template.source["Resources"][function]["Properties"]["AutoPublishAliasAllProperties"] is True


@pytest.mark.parametrize("function", FUNCTIONS)
def test_another_value_of_a_parameter_goes_live(function: str, template: Template, root: Path) -> None:
    version = template[version_of(template, function)]
    named = re.findall(r"\$\{(\w+)\}", version["Description"]["Fn::Sub"])
    named_there = ("Environment", "TracingConfig", "Architectures", "SnapStart")
    read = [value for name, value in template[function].items() if name in named_there]
    given = set(mentioned(read)) & set(parameters(template))
    assert named[0] == "Revision"
    # A version whose description changes and whose function does not cannot be published.
    assert set(named[1:]) <= given
    assert given - set(named) <= WITH_A_REVISION
    assert template[function]["Description"]["Fn::Sub"].endswith("${Revision}")
    longest = [longest_value(parameters(template)[name]) for name in named]
    assert sum(longest) + len(longest) <= 256


def longest_value(parameter: Resource) -> int:
    """The greatest length of a parameter's value; numbers of a sensible size."""
    if "AllowedValues" in parameter:
        return max(map(len, parameter["AllowedValues"]))
    if parameter["Type"] != "Number":
        return int(parameter["MaxLength"])
    # Whole numbers: what has a smaller maximum may have decimals.
    return len(str(parameter["MaxValue"])) if parameter.get("MaxValue", 0) >= 1_000 else 12


def test_every_event_reaches_the_alias_never_the_latest_code(template: Template) -> None:
    mappings = template.of_type("AWS::Lambda::EventSourceMapping").values()
    permissions = template.of_type("AWS::Lambda::Permission").values()
    targets = [properties(each)["FunctionName"] for each in (*mappings, *permissions)]
    targets += [each["Target"]["Arn"] for each in schedules(template).values()]
    assert sorted(target["Ref"] for target in targets) == [
        "IngestFunctionAliaslive",
        "ReconcileFunctionAliaslive",
        "ReconcileFunctionAliaslive",
        "RetryFunctionAliaslive",
        "RetryFunctionAliaslive",
        "SessionFunctionAliaslive",
        "SessionFunctionAliaslive",
        "SyncFunctionAliaslive",
    ]
    for function in ("IngestFunction", "SessionFunction"):
        assert f"${{{function}Aliaslive}}" in json.dumps(template.only("AWS::ApiGateway::RestApi"))


def test_without_a_gradual_deployment_there_is_nothing_of_codedeploys(template: Template) -> None:
    assert not [each for each in template.transformed["Resources"].values() if "CodeDeploy" in each["Type"]]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_gradual_deployment_is_a_canary_that_its_functions_errors_roll_back(function: str, gradual: Template) -> None:
    group = gradual[f"{function}DeploymentGroup"]
    assert group["DeploymentConfigName"]["Fn::Sub"][1] == {"ConfigName": "Canary10Percent5Minutes"}
    [alarm, *more] = [each["Name"]["Ref"] for each in chosen(gradual, group["AlarmConfiguration"]["Alarms"], {})]
    assert gradual[alarm]["MetricName"] == "Errors"
    assert gradual[alarm]["Dimensions"][0]["Value"] == gradual[function]["FunctionName"]
    assert more == {"IngestFunction": ["WebhookApiErrorsAlarm"], "SyncFunction": ["ParkedAlarm"]}.get(function, [])
    assert group["AutoRollbackConfiguration"]["Enabled"] is True


def test_where_there_is_no_alarm_on_parked_events_no_deployment_waits_for_it(gradual: Template) -> None:
    alarms = gradual["SyncFunctionDeploymentGroup"]["AlarmConfiguration"]["Alarms"]
    emulated = chosen(gradual, alarms, {"AwsEndpointUrl": "http://127.0.0.1:4566"})
    assert emulated == [{"Name": {"Ref": "SyncErrorsAlarm"}}, {"Name": {"Ref": "AWS::NoValue"}}]


def test_functions_start_from_a_snapshot_only_if_asked(template: Template, root: Path) -> None:
    asked = Template(root, {"SnapStart": "PublishedVersions"})
    with_a_snapshot = {each for each in FUNCTIONS if "SnapStart" in asked[each]}
    assert with_a_snapshot == {"IngestFunction", "SyncFunction", "SessionFunction"}
    for function in with_a_snapshot:
        assert asked[function]["SnapStart"] == {"ApplyOn": {"Ref": "SnapStart"}}
    assert template.source["Parameters"]["SnapStart"]["Default"] == "None"


def test_a_function_with_a_snapshot_reads_its_secret_after_it_was_restored(template: Template, root: Path) -> None:
    for function in FUNCTIONS:
        handler = root / template.source["Resources"][function]["Properties"]["CodeUri"] / "handler.py"
        has_a_snapshot = "SnapStart" in template.source["Resources"][function]["Properties"]
        # `read_ahead` waits for the restore, and then seeds the random numbers, too.
        assert has_a_snapshot == (".read_ahead()" in handler.read_text(encoding="utf-8"))


def test_what_a_snapshot_excludes_is_not_there(template: Template) -> None:
    for function in FUNCTIONS:
        resource = template[function]
        assert not {"FileSystemConfigs", "EphemeralStorage", "ProvisionedConcurrencyConfig"} & resource.keys()
