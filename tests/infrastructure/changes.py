"""Sets of parameters, and what CloudFormation does to a stack when the parameters change from one set to another."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.infrastructure.conditions import ACCOUNT, KEPT, SECRETS, SESSION, chosen, names_that_exist
from tests.infrastructure.template import Resource, Template, parameters

KEY = f"arn:aws:kms:eu-central-1:{ACCOUNT}:key/1234abcd-12ab-34cd-56ef-1234567890ab"
SETS: dict[str, dict[str, str]] = {
    "defaults": {},
    "prod": {"Stage": "prod", "LogRetentionDays": "90", "GradualDeployment": "true"},  # as in samconfig.toml
    "no Clerk API": {"UseClerkApi": "false"},
    "session": SESSION,
    "web ACL": {"RequestsPerAddress": "2000"},
    "addresses": {"WebhookSourceAddresses": "192.0.2.0/24"},
    "gradual": {"GradualDeployment": "true"},
    # With a Revision, as docs/deploy.md says.
    "own secrets": {**SESSION, **dict.fromkeys(SECRETS, KEPT), "SecretsKeyArn": KEY, "Revision": "2"},
    "x86_64": {"Architecture": "x86_64"},
}
# Properties whose change makes CloudFormation replace the resource, of the types in this template: createOnlyProperties
# of CloudFormation's own schemas, which cfn-lint 1.58 brings along (cfnlint/data/schemas/resources).
IMMUTABLE = {
    "AWS::ApiGateway::Deployment": {"RestApiId"},
    "AWS::ApiGateway::RestApi": set[str](),
    "AWS::ApiGateway::Stage": {"RestApiId", "StageName"},
    "AWS::CloudWatch::Alarm": {"AlarmName"},
    "AWS::CloudWatch::Dashboard": {"DashboardName"},
    "AWS::CodeDeploy::Application": {"ApplicationName", "ComputePlatform"},
    "AWS::CodeDeploy::DeploymentGroup": {"ApplicationName", "DeploymentGroupName"},
    "AWS::IAM::Role": {"Path", "RoleName"},
    "AWS::Lambda::Alias": {"FunctionName", "Name"},
    "AWS::Lambda::EventInvokeConfig": {"FunctionName", "Qualifier"},
    "AWS::Lambda::EventSourceMapping": {"EventSourceArn"},
    "AWS::Lambda::Function": {"FunctionName"},
    "AWS::Lambda::LayerVersion": {
        *("CompatibleArchitectures", "CompatibleRuntimes", "Content", "Description", "LayerName"),
    },
    "AWS::Lambda::Permission": {"Action", "FunctionName", "Principal", "SourceArn"},
    "AWS::Lambda::Version": {"Description", "FunctionName"},
    "AWS::Logs::LogGroup": {"LogGroupName"},
    "AWS::SQS::Queue": {"QueueName"},
    "AWS::Scheduler::Schedule": {"Name"},
    "AWS::SecretsManager::Secret": {"Name"},
    "AWS::WAFv2::WebACL": {"Name", "Scope"},
    "AWS::WAFv2::WebACLAssociation": {"ResourceArn", "WebACLArn"},
}
# SAM puts a hash into these logical ids; another hash is another resource.
_HASHED = re.compile(r"(Version|Deployment|SharedLayer)[0-9a-f]{10}$")
_NOTHING = {"Ref": "AWS::NoValue"}


@dataclass(frozen=True)
class Change:
    """The names of resources, without SAM's hashes, by what becomes of them."""

    added: set[str]
    removed: set[str]
    replaced: set[str]
    updated: set[str]


def resources_of(root: Path, given: Mapping[str, str]) -> dict[str, Resource]:
    """The resources of a stack with these parameters, by their names without SAM's hashes, with all values in place."""
    template = Template(root, given)
    values = {name: str(given.get(name, each["Default"])) for name, each in parameters(template).items()}
    found = {}
    for logical_id in names_that_exist(template, given):
        resource = chosen(template, template.transformed["Resources"][logical_id], given)
        found[_HASHED.sub(r"\1", logical_id)] = {**_with_values(resource, values), "LogicalId": logical_id}
    return found


def _with_values(part: Any, values: Mapping[str, str]) -> Any:
    match part:
        case list():
            return [_with_values(each, values) for each in part if each != _NOTHING]
        case {"Ref": name} if name in values:
            return values[name]
        case {"Fn::Sub": str(text)}:
            return {"Fn::Sub": re.sub(r"\$\{(\w+)\}", lambda found: values.get(found[1], found[0]), text)}
        case dict():
            return {key: _with_values(each, values) for key, each in part.items() if each != _NOTHING}
        case _:
            return part


def change(before: Mapping[str, Resource], after: Mapping[str, Resource]) -> Change:
    """Tells from the resources of a stack *before* and *after* what CloudFormation does to each."""
    common = before.keys() & after.keys()
    replaced = {name for name in common if _is_another(before[name], after[name])}
    return Change(
        added=after.keys() - before.keys(),
        removed=before.keys() - after.keys(),
        replaced=replaced,
        updated={name for name in common - replaced if before[name] != after[name]},
    )


def _is_another(before: Resource, after: Resource) -> bool:
    first, second = before.get("Properties", {}), after.get("Properties", {})
    fixed = IMMUTABLE[before["Type"]]
    return before["LogicalId"] != after["LogicalId"] or any(first.get(name) != second.get(name) for name in fixed)
