"""template.yaml as CloudFormation sees it: transformed by AWS's own translator, without an account."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from samtranslator.translator.transform import transform  # type: ignore[import-untyped]
from samtranslator.yaml_helper import yaml_parse  # type: ignore[import-untyped]

Resource = dict[str, Any]

ACCOUNT = "123456789012"


class Template:
    """What CloudFormation would create."""

    def __init__(
        self, root: Path, parameters: Mapping[str, str] | None = None, built: Mapping[str, str] | None = None
    ) -> None:
        """*built*: the hash of what was uploaded for a resource, for those that differ from the rest."""
        self.source: dict[str, Any] = yaml_parse((root / "template.yaml").read_text(encoding="utf-8"))
        packaged = copy.deepcopy(self.source)
        for name, resource in packaged["Resources"].items():
            for place in ("CodeUri", "ContentUri"):
                if place in resource["Properties"]:
                    resource["Properties"][place] = f"s3://artifacts/{(built or {}).get(name, 'first')}-{name}"
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
        """What a function may do: actions, and on which resources."""
        policies = self[self._role(function)]["Policies"]
        return [
            (set(_listed(statement["Action"])), _listed(statement["Resource"]))
            for policy in policies
            for statement in _listed(policy["PolicyDocument"]["Statement"])
        ]

    def _role(self, function: str) -> str:
        role: str = self[function]["Role"]["Fn::GetAtt"][0]
        return role


class _NoManagedPolicies:
    """The translator asks AWS for the names of its policies, which this template does not use."""

    def load(self) -> dict[str, str]:
        return {}


def properties(resource: Resource) -> Resource:
    found: Resource = resource["Properties"]
    return found


def arn(logical_id: str) -> dict[str, list[str]]:
    """How a template says the ARN of a resource."""
    return {"Fn::GetAtt": [logical_id, "Arn"]}


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
