"""template.yaml as CloudFormation sees it: transformed by AWS's own translator, without an account."""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from samtranslator.yaml_helper import yaml_parse  # type: ignore[import-untyped]

Resource = dict[str, Any]

FUNCTIONS = ["IngestFunction", "ReconcileFunction", "RetryFunction", "SessionFunction", "SyncFunction"]
# Which function empties which queue. That of failed runs is an operator's to empty.
CONSUMERS = {"SyncQueue": "SyncFunction", "SyncDeadLetterQueue": "RetryFunction", "ParkedQueue": "RetryFunction"}
# Parameters too long for the description of a version, which has room for 256 characters: they go live with the next
# version, and docs/deploy.md says to give a Revision with them.
WITH_A_REVISION = {
    "WebhookSecretArn",
    "DatabaseSecretArn",
    "ClerkSecretKeyArn",
    "SessionDatabaseSecretArn",
    "ClerkPublishableKey",
    "ClerkApiUrl",
    "ClerkFrontendApiUrl",
    "AwsEndpointUrl",
    "Tracing",
    "SnapStart",
    # Names a file of the layer, which makes a new version anyway.
    "DatabaseCaFile",
}
DAY_SECONDS = 86_400


class Template:
    """The resources that CloudFormation would create."""

    def __init__(
        self,
        root: Path,
        parameters: Mapping[str, str] | None = None,
        built: Mapping[str, str] | None = None,
        region: str = "eu-central-1",
    ) -> None:
        """*built*: hashes of uploads, for resources whose code differs from the usual code."""
        # The import takes half a second, which a process without these tests need not spend.
        from samtranslator.translator.arn_generator import ArnGenerator  # type: ignore[import-untyped] # noqa: PLC0415
        from samtranslator.translator.transform import transform  # type: ignore[import-untyped] # noqa: PLC0415

        self.source = _parsed(root / "template.yaml")
        packaged = copy.deepcopy(self.source)
        for name, resource in packaged["Resources"].items():
            for place in ("CodeUri", "ContentUri"):
                if place in resource["Properties"]:
                    resource["Properties"][place] = f"s3://artifacts/{(built or {}).get(name, 'first')}-{name}"
        # The translator asks the environment for the region, and remembers the first answer unless it is told another.
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("AWS_DEFAULT_REGION", region)
            environment.setattr(ArnGenerator, "BOTO_SESSION_REGION_NAME", region)
            self.transformed: dict[str, Any] = transform(packaged, dict(parameters or {}), _NoManagedPolicies())

    def of_type(self, kind: str) -> dict[str, Resource]:
        """The resources of a type, by their logical ids."""
        return {name: each for name, each in self.transformed["Resources"].items() if each["Type"] == kind}

    def only(self, kind: str) -> Resource:
        """The properties of the only resource of a type."""
        [resource] = self.of_type(kind).values()
        return properties(resource)

    def __getitem__(self, logical_id: str) -> Resource:
        """The properties of a resource."""
        return properties(self.transformed["Resources"][logical_id])

    def statements(self, function: str) -> list[tuple[set[str], list[Any]]]:
        """All rights that a function may have, with any parameters: actions, and their resources."""
        policies = self[self._role(function)]["Policies"]
        statements = [each for policy in policies for each in _listed(policy["PolicyDocument"]["Statement"])]
        statements = [each["Fn::If"][1] if "Fn::If" in each else each for each in statements]
        for statement in statements:
            # A statement with a condition, or one that denies, is not told by its actions and resources.
            assert (statement.keys(), statement["Effect"]) == ({"Effect", "Action", "Resource"}, "Allow"), statement
        return [(set(_listed(each["Action"])), _listed(each["Resource"])) for each in statements]

    def _role(self, function: str) -> str:
        role: str = self[function]["Role"]["Fn::GetAtt"][0]
        return role


@functools.cache
def _parsed(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml_parse(file.read_text(encoding="utf-8"))
    return found


class _NoManagedPolicies:
    """The translator asks AWS for the names of its policies, which this template does not use."""

    def load(self) -> dict[str, str]:
        return {}


def properties(resource: Resource) -> Resource:
    found: Resource = resource["Properties"]
    return found


def arn(logical_id: str) -> dict[str, list[str]]:
    """The expression of the template for the ARN of a resource."""
    return {"Fn::GetAtt": [logical_id, "Arn"]}


def schedules(template: Template) -> dict[str, Resource]:
    """The schedules, by the mode in their event."""
    found = [properties(each) for each in template.of_type("AWS::Scheduler::Schedule").values()]
    return {json.loads(each["Target"]["Input"])["mode"]: each for each in found}


def alarms(template: Template) -> dict[str, Resource]:
    """The alarms, by their logical ids."""
    return {name: properties(each) for name, each in template.of_type("AWS::CloudWatch::Alarm").items()}


def parameters(template: Template) -> dict[str, Resource]:
    """The parameters of the template, by name."""
    found: dict[str, Resource] = template.source["Parameters"]
    return found


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
