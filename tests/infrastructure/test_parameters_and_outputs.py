"""Parameters and outputs of template.yaml."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
import yaml  # type: ignore[import-untyped]

from clerk_supabase.settings import ORIGIN
from tests.infrastructure.conditions import chosen
from tests.infrastructure.template import Template, parameters, properties


def test_no_line_of_the_template_is_written_twice_in_the_same_place(root: Path) -> None:
    # cfn-lint does not look where an anchor is merged, and of two lines every reader takes the last.
    document = yaml.compose((root / "template.yaml").read_text(encoding="utf-8"))
    assert isinstance(document, yaml.MappingNode)
    keys = [Counter(key.value for key, _ in mapping.value) for mapping in _mappings(document)]
    assert [key for each in keys for key, times in each.items() if times > 1] == []


def _mappings(node: yaml.Node) -> Iterator[yaml.MappingNode]:
    inner = node.value if isinstance(node, yaml.CollectionNode) else []
    if isinstance(node, yaml.MappingNode):
        yield node
        inner = [value for _, value in inner]
    for each in inner:
        yield from _mappings(each)


def test_every_parameter_is_described_and_constrained(template: Template) -> None:
    for name, parameter in parameters(template).items():
        assert len(parameter["Description"].split()) > 3, name
        constraints = {"AllowedValues", "AllowedPattern", "MinValue", "MaxValue"}
        assert constraints & parameter.keys(), name
        assert "AllowedPattern" not in parameter or parameter["ConstraintDescription"], name


def test_every_default_keeps_to_its_own_constraint(template: Template) -> None:
    for name, parameter in parameters(template).items():
        if "Default" not in parameter:
            continue
        default = parameter["Default"]
        assert default in parameter.get("AllowedValues", [default]), name
        assert re.fullmatch(parameter.get("AllowedPattern", ".*"), str(default)), name
        if parameter["Type"] == "Number":
            assert parameter.get("MinValue", default) <= default <= parameter.get("MaxValue", default), name


# Principals in policies.
SERVICES = {"apigateway", "codedeploy", "lambda", "scheduler", "streams"}
# Default, least and most of each number; None: no bound.
NUMBERS: Final[dict[str, tuple[float, float | None, float | None]]] = {
    # API Gateway lets nothing through at 0.
    "ThrottleRate": (200, 1, None),
    "ThrottleBurst": (400, 1, None),
    "SessionThrottleRate": (50, 1, None),
    "SessionThrottleBurst": (100, 1, None),
    # 0: none is reserved. A new account has 1,000 in a region.
    "IngestReservedConcurrency": (0, 0, 1_000),
    "SessionReservedConcurrency": (0, 0, 1_000),
    # The bounds of an event source mapping.
    "SyncMaximumConcurrency": (3, 2, 1_000),
    # A message of SQS has at most 1,048,576 bytes with its attributes; Clerk's usual bodies have less than 10,000.
    "MaxBodyBytes": (1_040_000, 10_000, 1_040_000),
    # An alarm looks back a week at most.
    "FullReconcileOverdueHours": (49, 1, 168),
    "QuickReconcileOverdueMinutes": (45, 1, 1_440),
    "ReconcileSweepMinutes": (120, 1, 10_080),
    # A share of 0 would never read anything.
    "ClerkRateLimitShare": (0.5, 0.01, 1),
    # 0: no delete at all goes without an operator.
    "BrakeRows": (10, 0, None),
    "BrakePercent": (1, 0, 100),
    "ReconcileDeleteMarginSeconds": (300, 0, 3_600),
    "DriftThreshold": (25, 0, None),
    "SilenceMinutes": (30, 1, 525_600),
    "SessionsDays": (0, 0, 36_500),
    # Days that PostgreSQL can subtract from today. Svix can replay a message for weeks.
    "HoldBackDays": (30, 0, 36_500),
    "DeliveriesDays": (100, 30, 36_500),
    "AuditDays": (365, 1, 36_500),
}


def test_each_number_has_the_bound_of_its_purpose(template: Template) -> None:
    numbers = {name: each for name, each in parameters(template).items() if each["Type"] == "Number"}
    assert numbers.pop("LogRetentionDays").keys() >= {"AllowedValues"}
    assert {
        name: (each["Default"], each.get("MinValue"), each.get("MaxValue")) for name, each in numbers.items()
    } == NUMBERS


def test_a_stack_without_parameters_reads_clerk_and_does_nothing_that_costs_or_deletes_more(template: Template) -> None:
    chosen = {
        name: each["Default"]
        for name, each in parameters(template).items()
        if each["Type"] == "String" and each["Default"]
    }
    assert chosen == {
        "Stage": "dev",
        "UseClerkApi": "true",
        "AcceptMissingParty": "false",
        "WebhookSourceAddresses": "0.0.0.0/0,::/0",
        "RequestsPerAddress": "0",
        "FullReconcileSchedule": "cron(30 3 * * ? *)",
        "FullReconcileState": "ENABLED",
        "QuickReconcileSchedule": "rate(15 minutes)",
        "QuickReconcileState": "ENABLED",
        "KeepPrivateMetadata": "false",
        "PurgeBy": "scrub",
        "AccessLogs": "false",
        "SnapStart": "None",
        "Tracing": "Active",
        "GradualDeployment": "false",
        "Architecture": "arm64",
    }


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("DatabaseCaFile", 64),
        ("ClerkInstanceId", 64),
        ("SessionAllowedOrigins", 107),
        ("AuthorizedParties", 107),
        ("Revision", 20),
    ],
)
def test_a_text_is_no_longer_than_what_it_is_put_into(name: str, most: int, template: Template) -> None:
    assert parameters(template)[name]["MaxLength"] == most


def test_every_parameter_has_a_default(template: Template) -> None:
    assert not [name for name, parameter in parameters(template).items() if "Default" not in parameter]


def test_the_console_shows_every_parameter_once_and_a_guided_deployment_asks_in_the_same_order(
    template: Template,
) -> None:
    groups = template.source["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    assert [name for group in groups for name in group["Parameters"]] == list(parameters(template))
    assert all(group["Label"]["default"] for group in groups)


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("WebhookSecretArn", "arn:aws:secretsmanager:eu-central-1:123456789012:secret:name-AbCdEf", True),
        ("WebhookSecretArn", "arn:aws-cn:secretsmanager:cn-north-1:123456789012:secret:folder/name-AbCdEf", True),
        ("WebhookSecretArn", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", False),
        ("DatabaseSecretArn", "postgresql://worker:password@db.example.test/postgres", False),
        ("DatabaseSecretArn", "", True),
        ("AlarmEmail", "", True),
        ("AlarmEmail", "ops@example.test", True),
        ("AlarmEmail", "ops", False),
        ("WebhookSourceAddresses", "192.0.2.0/24", True),
        ("WebhookSourceAddresses", "192.0.2.1/32,2001:db8::/32", True),
        ("WebhookSourceAddresses", "", False),
        ("WebhookSourceAddresses", "192.0.2.1", False),
        ("WebhookSourceAddresses", "::ffff:192.0.2.1/128", True),
        ("WebhookSourceAddresses", "192.0.2.0/33", False),
        ("WebhookSourceAddresses", "299.0.2.0/24", False),
        ("WebhookSourceAddresses", "192.0.2/24", False),
        ("WebhookSourceAddresses", "2001:db8::/129", False),
        ("WebhookSourceAddresses", "beef/12", False),
        # The bounds of a rule of AWS WAF; 0: no web ACL.
        ("RequestsPerAddress", "0", True),
        ("RequestsPerAddress", "9", False),
        ("RequestsPerAddress", "10", True),
        ("RequestsPerAddress", "999999999", True),
        ("RequestsPerAddress", "1000000000", True),
        ("RequestsPerAddress", "2000000000", True),
        ("RequestsPerAddress", "2000000001", False),
        ("RequestsPerAddress", "010", False),
        ("RequestsPerAddress", "", False),
        ("SecretsKeyArn", "", True),
        ("SecretsKeyArn", "arn:aws:kms:eu-central-1:123456789012:key/mrk-1234abcd12ab34cd56ef1234567890ab", True),
        (
            "SecretsKeyArn",
            "arn:aws-cn:kms:cn-north-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab",
            True,
        ),
        ("SecretsKeyArn", "arn:aws:kms:eu-central-1:123456789012:alias/secrets", False),
        ("ClerkSecretKeyArn", "", True),
        ("ClerkSecretKeyArn", "arn:aws:secretsmanager:eu-central-1:123456789012:secret:clerk-AbCdEf", True),
        ("ClerkSecretKeyArn", "sk_live_abc", False),
        ("FullReconcileSchedule", "cron(30 3 * * ? *)", True),
        ("FullReconcileSchedule", "30 3 * * *", False),
        ("FullReconcileSchedule", "cron(30 3 * * *)", False),
        ("FullReconcileSchedule", "cron(0 3 ? * MON-FRI *)", True),
        ("FullReconcileSchedule", "rate(1 day)", True),
        ("QuickReconcileSchedule", "rate(15 minutes)", True),
        ("QuickReconcileSchedule", "15 minutes", False),
        ("QuickReconcileSchedule", "rate(1 hour)", True),
        ("QuickReconcileSchedule", "rate(1 hours)", False),
        ("QuickReconcileSchedule", "rate(2 hour)", False),
        ("QuickReconcileSchedule", "rate(0 minutes)", False),
        ("QuickReconcileSchedule", "rate(15 seconds)", False),
        ("ClerkInstanceId", "", True),
        ("ClerkInstanceId", "ins_2Abc", True),
        ("ClerkInstanceId", "user_2Abc", False),
        ("AlarmTopicArn", "", True),
        ("AlarmTopicArn", "arn:aws:sns:eu-central-1:123456789012:alarms", True),
        ("AlarmTopicArn", "ops@example.test", False),
        ("ClerkPublishableKey", "", True),
        ("ClerkPublishableKey", "pk_live_Y2xlcmsuZXhhbXBsZS5jb20k", True),
        ("ClerkPublishableKey", "sk_live_Y2xlcmsuZXhhbXBsZS5jb20k", False),
        ("SessionDatabaseSecretArn", "", True),
        ("SessionDatabaseSecretArn", "postgresql://session:password@db.example.test/postgres", False),
        ("SessionAllowedOrigins", "", True),
        ("SessionAllowedOrigins", "https://app.example.test,http://localhost:3000", True),
        ("SessionAllowedOrigins", "*", False),
        ("SessionAllowedOrigins", "https://app.example.test/", False),
        ("SessionAllowedOrigins", "https://a.example.test, https://b.example.test", False),
        ("AuthorizedParties", "https://app.example.test", True),
        ("AuthorizedParties", "app.example.test", False),
        ("ClerkFrontendApiUrl", "", True),
        ("ClerkFrontendApiUrl", "https://app.example.test/__clerk,https://clerk.example.test", True),
        ("ClerkFrontendApiUrl", "http://127.0.0.1:4568", True),
        ("ClerkFrontendApiUrl", "https://app.example.test/__clerk/", False),
        ("ClerkFrontendApiUrl", "https://app.example.test/../__clerk", False),
        ("ClerkFrontendApiUrl", "https://app.example.test/a//b", False),
        ("ClerkFrontendApiUrl", "https://app.example.test/__clerk?x=1", False),
        ("ClerkFrontendApiUrl", "https://ada@app.example.test", False),
        ("ClerkFrontendApiUrl", "app.example.test", False),
        ("ClerkFrontendApiUrl", "https://*.example.test", False),
        ("DatabaseCaFile", "", True),
        ("DatabaseCaFile", "/opt/ca/supabase-2021.pem", True),
        ("DatabaseCaFile", "/opt/ca/../../etc/passwd", False),
        ("DatabaseCaFile", "supabase.pem", False),
    ],
)
def test_a_parameter_takes_what_it_is_for(name: str, value: str, allowed: bool, template: Template) -> None:
    assert bool(re.fullmatch(parameters(template)[name]["AllowedPattern"], value)) is allowed


@pytest.mark.parametrize("name", ["SessionAllowedOrigins", "AuthorizedParties"])
@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("tauri://localhost", True),
        ("capacitor://localhost", True),
        ("ionic://localhost", True),
        ("chrome-extension://abcdefghijklmnopabcdefghijklmnop", True),
        ("moz-extension://0a1b2c3d-0000-4000-8000-000000000000", True),
        ("http://localhost:3000", True),
        ("http://[::1]:3000", True),
        ("null", False),
        ("*", False),
        ("https://*", False),
        ("https://*.example.test", False),
        ("javascript:alert(1)", False),
        ("javascript://app.example.test", False),
        ("data://text", False),
        ("file://", False),
        ("file://host", False),
        ("blob:https://app.example.test", False),
        ("https://app.example.test/", False),
        ("tauri://localhost/index.html", False),
        ("https://app.example.test?x", False),
        ("https://app.example.test#x", False),
        ("https://ada@app.example.test", False),
        ("https://App.example.test", False),
        ("https://", False),
        ("://localhost", False),
        ("tauri:localhost", False),
        ("https://a.example.test b", False),
        ("https://a.example.test\n", False),
        ("https://a.example.test:port", False),
    ],
)
def test_origins_of_any_app_are_taken_and_what_is_no_origin_is_refused_here_and_in_the_function(
    name: str, origin: str, allowed: bool, template: Template
) -> None:
    assert bool(re.fullmatch(parameters(template)[name]["AllowedPattern"], origin)) is allowed
    assert bool(re.fullmatch(parameters(template)[name]["AllowedPattern"], f"https://a.test,{origin}")) is allowed
    assert bool(ORIGIN.fullmatch(origin)) is allowed


def test_every_parameter_is_used(template: Template) -> None:
    rest = json.dumps({key: value for key, value in template.source.items() if key != "Parameters"})
    for name in parameters(template):
        assert f'"Ref": "{name}"' in rest or f"${{{name}}}" in rest, name


def test_the_outputs_say_where_everything_is(template: Template) -> None:
    outputs = template.transformed["Outputs"]
    expected = {
        "WebhookUrl",
        "SyncQueueUrl",
        "SyncDeadLetterQueueUrl",
        "ParkedQueueUrl",
        "IngestFunctionName",
        "SyncFunctionName",
        "RetryFunctionName",
        "ReconcileFunctionName",
        "FailedRunsQueueUrl",
        "SessionUrl",
        "SessionFunctionName",
    }
    assert expected <= outputs.keys()
    for name, output in outputs.items():
        assert output["Description"], name


def test_the_webhook_url_leads_to_the_method_that_exists(template: Template) -> None:
    url = template.transformed["Outputs"]["WebhookUrl"]["Value"]["Fn::Sub"]
    path, _ = template.only("AWS::ApiGateway::RestApi")["Body"]["paths"]
    assert url.startswith("https://${WebhookApi}.execute-api.${AWS::Region}.")
    assert url.endswith("/${Stage}" + path)


def test_two_stacks_can_live_in_one_account(template: Template) -> None:
    names = [
        value
        for resource in template.transformed["Resources"].values()
        for key, value in properties(resource).items()
        if key in ("FunctionName", "QueueName", "LogGroupName", "LayerName", "Name")
    ]
    # The alias has the same name everywhere, and a reference is no name.
    given = [name for name in names if name != "live" and "Ref" not in name]
    assert given
    for name in given:
        assert "${AWS::StackName}" in name["Fn::Sub"]


@pytest.mark.parametrize(
    ("partition", "region", "console"),
    [
        ("aws", "eu-central-1", "console.aws.amazon.com"),
        ("aws-cn", "cn-north-1", "console.amazonaws.cn"),
        ("aws-us-gov", "us-gov-west-1", "console.amazonaws-us-gov.com"),
    ],
)
def test_every_name_and_url_is_right_in_the_partition_of_the_region(
    partition: str, region: str, console: str, root: Path
) -> None:
    given = {"GradualDeployment": "true", "AWS::Partition": partition}
    template = Template(root, {"GradualDeployment": "true"}, region=region)
    made = json.dumps(chosen(template, [template.transformed[each] for each in ("Resources", "Outputs")], given))
    assert set(re.findall(r"arn:(aws[a-z-]*|\$\{AWS::Partition\}):", made)) == {partition, "${AWS::Partition}"}
    # What is left are principals, which have the same names everywhere.
    hosts = set(re.findall(r"[\w.-]+\.amazon[a-z-]*\.(?:com|cn)|[\w.-]+\.amazonaws[a-z-]*\.(?:com|cn)", made))
    assert {host for host in hosts if host.split(".")[0] not in SERVICES} == {console}
    for name in ("WebhookUrl", "SessionUrl"):
        url = template.transformed["Outputs"][name]["Value"]["Fn::Sub"]
        assert "execute-api.${AWS::Region}.${AWS::URLSuffix}/" in url


def test_the_longest_name_of_a_stack_that_the_guide_gives_fits_into_all_names(template: Template, root: Path) -> None:
    # https://docs.aws.amazon.com/lambda/latest/api/API_CreateFunction.html, .../AWSSimpleQueueService (queue names)
    limits = {"AWS::Lambda::Function": ("FunctionName", 64), "AWS::SQS::Queue": ("QueueName", 80)}
    room = [
        most - len(properties(each)[key]["Fn::Sub"].removeprefix("${AWS::StackName}"))
        for kind, (key, most) in limits.items()
        for each in template.of_type(kind).values()
    ]
    assert f"at most {min(room)} characters" in (root / "docs" / "deploy.md").read_text(encoding="utf-8")


def test_resources_come_in_the_order_in_which_an_event_travels(template: Template) -> None:
    pipeline = ["WebhookApi", "IngestFunction", "SyncQueue", "SyncFunction", "SyncDeadLetterQueue", "RetryFunction"]
    pipeline.append("ParkedQueue")
    assert [name for name in template.source["Resources"] if name in pipeline] == pipeline
