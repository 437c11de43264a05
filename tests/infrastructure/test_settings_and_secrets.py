"""The environment that template.yaml gives each function, and the secrets it names there."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest

from clerk_supabase.reconcile.pages import ReconcileSettings
from clerk_supabase.settings import (
    IngestSettings,
    ReconcileFunctionSettings,
    RetrySettings,
    SessionSettings,
    Settings,
    SyncSettings,
)
from tests.infrastructure.conditions import KEPT, SECRETS, chosen, secret_of
from tests.infrastructure.template import CONSUMERS, FUNCTIONS, Template, properties


def variables(template: Template, function: str) -> dict[str, Any]:
    found: dict[str, Any] = template[function]["Environment"]["Variables"]
    return found


class Watched(dict[str, str]):
    """An environment that records the variables that are read."""

    def __init__(self, values: Mapping[str, str]) -> None:
        super().__init__(values)
        self.asked: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        self.asked.add(name)
        return super().get(name, default)


@pytest.mark.parametrize(
    ("function", "settings"),
    [
        ("IngestFunction", [IngestSettings]),
        ("SyncFunction", [SyncSettings]),
        ("RetryFunction", [RetrySettings]),
        ("ReconcileFunction", [ReconcileFunctionSettings, ReconcileSettings]),
        ("SessionFunction", [SessionSettings]),
    ],
)
def test_a_function_is_given_every_variable_it_reads_and_no_other(
    function: str, settings: list[type[Settings]], template: Template
) -> None:
    addresses = {"CLERK_FRONTEND_API_URL", "AUTHORIZED_PARTIES", "ALLOWED_ORIGINS"}
    given = Watched({name: "https://a.test" if name in addresses else "1" for name in variables(template, function)})
    for each in settings:
        each.from_environment(given)
    ours = {name for name in given if not name.startswith(("POWERTOOLS_", "AWS_"))}
    assert given.asked == ours


@pytest.mark.parametrize("function", FUNCTIONS)
def test_no_secret_is_in_an_environment_variable(function: str, template: Template) -> None:
    for name, value in variables(template, function).items():
        text = json.dumps(value)
        assert "{{resolve:" not in text
        if re.search("SECRET|PASSWORD|KEY|TOKEN", name) and name != "CLERK_PUBLISHABLE_KEY":
            assert name.endswith("_ARN")
            assert value == secret_of("".join(word.title() for word in name.split("_")))


@pytest.mark.parametrize("parameter", SECRETS)
def test_a_secret_that_no_parameter_names_is_the_stacks_own(parameter: str, template: Template) -> None:
    logical_id = SECRETS[parameter]
    # Also when a parameter names another: else the value would be gone when the parameter is given, or given no more.
    assert "Condition" not in template.transformed["Resources"][logical_id]
    output = template.transformed["Outputs"][parameter]["Value"]
    assert output == secret_of(parameter)
    assert chosen(template, output, {}) == {"Fn::GetAtt": [logical_id, "Id"]}
    assert chosen(template, output, {parameter: KEPT}) == {"Ref": parameter}


def test_an_update_of_the_stack_can_never_write_over_the_value_of_a_secret(template: Template) -> None:
    secrets = template.of_type("AWS::SecretsManager::Secret")
    assert sorted(secrets) == sorted(SECRETS.values())
    for secret in secrets.values():
        assert properties(secret).keys() == {"Description"}


def test_accepted_events_outlive_the_stack_and_the_secrets_do_not(template: Template) -> None:
    for queue in CONSUMERS:
        kept = template.transformed["Resources"][queue]
        # A first deployment that fails leaves nothing behind that the second one would fall over.
        assert kept["DeletionPolicy"] == "RetainExceptOnCreate"
        assert kept["UpdateReplacePolicy"] == "Retain"
    for secret in template.of_type("AWS::SecretsManager::Secret").values():
        assert (secret["DeletionPolicy"], secret["UpdateReplacePolicy"]) == ("Delete", "Delete")


def test_each_function_knows_only_its_own_secret(template: Template) -> None:
    assert "DatabaseSecretArn" not in json.dumps(template["IngestFunction"])
    for function in ("SyncFunction", "RetryFunction", "ReconcileFunction"):
        assert "WebhookSecretArn" not in json.dumps(template[function])
    for function in ("IngestFunction", "SyncFunction", "RetryFunction"):
        assert "ClerkSecretKeyArn" not in json.dumps(template[function])
        assert "SessionDatabaseSecretArn" not in json.dumps(template[function])
    assert "SessionDatabaseSecretArn" not in json.dumps(template["ReconcileFunction"])
    assert "WebhookSecretArn" not in json.dumps(template["SessionFunction"])
    assert '"DatabaseSecretArn"' not in json.dumps(template["SessionFunction"])


@pytest.mark.parametrize("function", FUNCTIONS)
def test_metrics_and_log_lines_name_their_function(function: str, template: Template) -> None:
    given = variables(template, function)
    assert given["POWERTOOLS_METRICS_NAMESPACE"] == "ClerkSupabaseSync"
    # The stack's name in it, because two stacks of one account must not share their metrics.
    name = function.removesuffix("Function").lower()
    assert given["POWERTOOLS_SERVICE_NAME"] == {"Fn::Sub": f"${{AWS::StackName}}-{name}"}


def test_on_aws_the_functions_talk_to_aws(template: Template) -> None:
    assert template.source["Parameters"]["AwsEndpointUrl"]["Default"] == ""
    for function in FUNCTIONS:
        endpoint = variables(template, function)["AWS_ENDPOINT_URL"]
        assert endpoint["Fn::If"][2] == {"Ref": "AWS::NoValue"}
