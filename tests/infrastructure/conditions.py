"""Resources and outputs of a stack with some parameters: the choices that template.yaml leaves to CloudFormation."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from tests.infrastructure.template import Template, parameters

ACCOUNT = "123456789012"
KEPT = f"arn:aws:secretsmanager:eu-central-1:{ACCOUNT}:secret:kept-AbCdEf"
TOPIC = f"arn:aws:sns:eu-central-1:{ACCOUNT}:alarms"
SESSION = {"ClerkPublishableKey": "pk_test_Y2xlcmsuZXhhbXBsZS50ZXN0JA"}
# The parameter that names a secret, and the secret of the stack that is used without it.
SECRETS = {
    "WebhookSecretArn": "WebhookSecret",
    "DatabaseSecretArn": "DatabaseSecret",
    "ClerkSecretKeyArn": "ClerkSecretKey",
    "SessionDatabaseSecretArn": "SessionDatabaseSecret",
}


def secret_of(parameter: str) -> dict[str, Any]:
    """The reference in the template to a secret, named by a parameter or else of the stack."""
    logical_id = SECRETS[parameter]
    return {"Fn::If": [f"NamesNo{logical_id}", {"Fn::GetAtt": [logical_id, "Id"]}, {"Ref": parameter}]}


def names_that_exist(template: Template, given: Mapping[str, str]) -> set[str]:
    """The logical ids of the resources that CloudFormation creates with these parameters."""
    resources = template.transformed["Resources"]
    return {name for name, each in resources.items() if holds(template, each.get("Condition"), given)}


def holds(template: Template, condition: Any, given: Mapping[str, str]) -> bool:
    """Tells whether a condition is true; None always is."""
    match condition:
        case None:
            return True
        case str():
            return holds(template, template.transformed["Conditions"][condition], given)
        case {"Condition": name}:
            return holds(template, name, given)
        case {"Fn::Not": [inner]}:
            return not holds(template, inner, given)
        case {"Fn::And": parts}:
            return all(holds(template, part, given) for part in parts)
        case {"Fn::Or": parts}:
            return any(holds(template, part, given) for part in parts)
        case {"Fn::Equals": [{"Ref": "AWS::Partition"}, value]}:
            return given.get("AWS::Partition", "aws") == str(value)
        case {"Fn::Equals": [{"Ref": name}, value]}:
            return str(given.get(name, parameters(template)[name].get("Default"))) == str(value)
    raise AssertionError(f"not a condition this test can read: {condition}")


def chosen(template: Template, value: Any, given: Mapping[str, str]) -> Any:
    """A part of a template, with the branch of each choice for these parameters."""
    match value:
        case list():
            return [chosen(template, each, given) for each in value]
        case {"Fn::If": [condition, yes, no]}:
            return chosen(template, yes if holds(template, condition, given) else no, given)
        case dict():
            return {key: chosen(template, each, given) for key, each in value.items()}
        case _:
            return value


def mentioned(value: Any) -> Iterator[str]:
    """Every name to which a part of a template refers."""
    if isinstance(value, list):
        for each in value:
            yield from mentioned(each)
    elif isinstance(value, dict):
        for key, each in value.items():
            if key == "Ref":
                yield each
            elif key == "Fn::GetAtt":
                yield each[0]
            elif key == "DependsOn":
                yield from [each] if isinstance(each, str) else each
            elif key == "Fn::Sub":
                text = each if isinstance(each, str) else each[0]
                yield from re.findall(r"\$\{([A-Za-z0-9]+)", text)
                yield from mentioned([] if isinstance(each, str) else each[1:])
            else:
                yield from mentioned(each)
