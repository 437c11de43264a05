"""The rights of each function in template.yaml, and of nobody else."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.infrastructure.changes import KEY
from tests.infrastructure.conditions import chosen, secret_of
from tests.infrastructure.template import FUNCTIONS, Template, arn, properties, schedules

LOGS = {"logs:CreateLogStream", "logs:PutLogEvents"}
TRACES = {"xray:PutTraceSegments", "xray:PutTelemetryRecords"}

RIGHTS: dict[str, list[tuple[set[str], list[Any]]]] = {
    "IngestFunction": [
        (LOGS, [arn("IngestLogGroup")]),
        (TRACES, ["*"]),
        ({"secretsmanager:GetSecretValue"}, [secret_of("WebhookSecretArn")]),
        ({"sqs:SendMessage"}, [arn("SyncQueue"), arn("ParkedQueue")]),
    ],
    "ReconcileFunction": [
        (LOGS, [arn("ReconcileLogGroup")]),
        (TRACES, ["*"]),
        ({"secretsmanager:GetSecretValue"}, [secret_of("ClerkSecretKeyArn"), secret_of("DatabaseSecretArn")]),
        ({"sqs:SendMessage"}, [arn("SyncQueue")]),
        ({"sqs:SendMessage"}, [arn("FailedRunsQueue")]),
    ],
    "RetryFunction": [
        (LOGS, [arn("RetryLogGroup")]),
        (TRACES, ["*"]),
        ({"secretsmanager:GetSecretValue"}, [secret_of("DatabaseSecretArn")]),
        (
            {"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"},
            [arn("SyncDeadLetterQueue"), arn("ParkedQueue")],
        ),
        ({"sqs:SendMessage", "sqs:SendMessageBatch"}, [arn("SyncQueue")]),
    ],
    "SessionFunction": [
        (LOGS, [arn("SessionLogGroup")]),
        (TRACES, ["*"]),
        ({"secretsmanager:GetSecretValue"}, [secret_of("ClerkSecretKeyArn"), secret_of("SessionDatabaseSecretArn")]),
    ],
    "SyncFunction": [
        (LOGS, [arn("SyncLogGroup")]),
        (TRACES, ["*"]),
        ({"secretsmanager:GetSecretValue"}, [secret_of("DatabaseSecretArn")]),
        ({"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"}, [arn("SyncQueue")]),
        ({"sqs:SendMessage"}, [arn("ParkedQueue")]),
    ],
}


# Of the parameter SecretsKeyArn, in each role.
DECRYPTS = ({"kms:Decrypt"}, [{"Ref": "SecretsKeyArn"}])


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_may_do_its_own_work_and_nothing_else(function: str, template: Template) -> None:
    def in_order(statements: list[tuple[set[str], list[Any]]]) -> list[str]:
        return sorted(f"{sorted(actions)} {json.dumps(resources)}" for actions, resources in statements)

    assert in_order(template.statements(function)) == in_order([*RIGHTS[function], DECRYPTS])


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_may_decrypt_with_the_key_of_your_own_secrets_and_with_no_key_without_one(
    function: str, template: Template
) -> None:
    policies = template[f"{function.removesuffix('Function')}Role"]["Policies"]
    assert "kms:" not in json.dumps(chosen(template, policies, {}))
    decrypts = {"Effect": "Allow", "Action": "kms:Decrypt", "Resource": {"Ref": "SecretsKeyArn"}}
    assert json.dumps(decrypts) in json.dumps(chosen(template, policies, {"SecretsKeyArn": KEY}))


def test_only_traces_are_allowed_on_everything_because_they_know_no_resources(template: Template) -> None:
    for function in FUNCTIONS:
        for actions, resources in template.statements(function):
            assert not any("*" in action for action in actions)
            assert "*" not in resources or actions <= TRACES


def test_nobody_has_a_managed_policy(template: Template) -> None:
    roles = template.of_type("AWS::IAM::Role")
    assert len(roles) == len(FUNCTIONS) + len(schedules(template)) + len(
        template.of_type("AWS::CloudWatch::MetricStream")
    )
    for role in roles.values():
        assert "ManagedPolicyArns" not in properties(role)


def test_every_function_has_a_role_of_its_own_that_only_lambda_can_take(template: Template) -> None:
    roles = [template[function]["Role"]["Fn::GetAtt"][0] for function in FUNCTIONS]
    assert len(set(roles)) == len(FUNCTIONS)
    for role in roles:
        [statement] = template[role]["AssumeRolePolicyDocument"]["Statement"]
        assert statement["Principal"] == {"Service": "lambda.amazonaws.com"}


def test_no_other_principal_has_rights_on_a_queue(template: Template) -> None:
    assert template.of_type("AWS::SQS::QueuePolicy") == {}
