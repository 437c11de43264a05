"""The local stack translates template.yaml as AWS does."""

from __future__ import annotations

import copy
from pathlib import Path

from clerk_supabase_cli.local.emulator.translation import without_codedeploy
from clerk_supabase_cli.local.stack import LocalStack
from tests.infrastructure.template import Template


def test_the_values_of_the_parameters_decide_on_the_deployment_of_the_api(stack: LocalStack, root: Path) -> None:
    cloudformation = stack.ministack.client("cloudformation")
    [deployed] = cloudformation.describe_stacks(StackName=stack.name)["Stacks"]
    given = {each["ParameterKey"]: each["ParameterValue"] for each in deployed["Parameters"]}
    resources = cloudformation.describe_stack_resources(StackName=stack.name)["StackResources"]
    made = {each["LogicalResourceId"] for each in resources if each["ResourceType"] == "AWS::ApiGateway::Deployment"}
    assert given["ClerkPublishableKey"]
    assert made == Template(root, given).of_type("AWS::ApiGateway::Deployment").keys()
    assert made != Template(root).of_type("AWS::ApiGateway::Deployment").keys()


def test_a_gradual_deployment_is_one_at_once_because_the_emulator_has_no_codedeploy(root: Path) -> None:
    gradual = copy.deepcopy(Template(root, {"GradualDeployment": "true"}).transformed)
    at_once = Template(root).transformed
    here = without_codedeploy(gradual)["Resources"]
    assert here.keys() - at_once["Resources"].keys() == {"CodeDeployServiceRole"}
    assert {name: here[name] for name in at_once["Resources"]} == at_once["Resources"]
