"""The life of a stack: deployed by answering Enter, filled, updated, rolled back, deleted. No event is lost."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from samtranslator.yaml_helper import yaml_parse  # type: ignore[import-untyped]

from clerk_supabase_cli.local.stack import LocalStack
from clerk_supabase_cli.standin.deliveries import SignedRequest
from tests.kit.parked import Command
from tests.kit.polling import eventually
from tests.stacks.guided import GuidedStack

PRODUCTION = "clerk-supabase-sync"
QUEUES = ("SyncQueueUrl", "SyncDeadLetterQueueUrl", "ParkedQueueUrl")


@pytest.fixture(scope="module")
def guided(stack: LocalStack, root: Path, tmp_path_factory: pytest.TempPathFactory) -> GuidedStack:
    deployed = GuidedStack(stack, root, tmp_path_factory.mktemp("guided"))
    said = deployed.deploy_guided()
    # Else SAM would ask, and take Enter for a no.
    assert "has no authentication" not in said
    return deployed


def setup(guided: GuidedStack) -> Command:
    """`clerk-supabase setup`, with the values of the secrets in its environment."""
    return Command(
        {
            **guided.shared.ministack.environment,
            "CLERK_PUBLISHABLE_KEY": "pk_test_Y2xlcmsubG9jYWwudGVzdCQ=",
            "CLERK_WEBHOOK_SIGNING_SECRET": guided.shared.webhook_secret,
            "CLERK_SECRET_KEY": guided.shared.clerk.answers.key,
            "SYNC_DATABASE_URL": guided.shared._worker_url,
            "SESSION_DATABASE_URL": None,
        }
    )


def fill(guided: GuidedStack) -> dict[str, str]:
    """Fills the secrets; returns the outcome of each, by the parameter that may name it."""
    arguments = ["--frontend-api-url", guided.shared.frontend.issuer, "--store-secrets", guided.name]
    stored = setup(guided).json("setup", *arguments)["secrets"]
    return {each["parameter"]: each["status"] for each in stored}


@contextmanager
def events_flowing(guided: GuidedStack) -> Iterator[list[SignedRequest]]:
    """Lets Clerk send events as long as the block lasts, each again until it is accepted, as Svix does."""
    sent: list[SignedRequest] = []
    over = threading.Event()

    def accepted(request: SignedRequest) -> bool:
        return guided.post(request).status_code == 202

    def send() -> None:
        while not over.wait(0.3):  # not a flood, which would keep the machine from deploying
            request = guided.sign()
            sent.append(request)
            eventually(partial(accepted, request), bool)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield sent
    finally:
        over.set()
        sender.join()


def test_a_stack_that_was_deployed_by_enter_alone_says_what_is_missing_and_works_once_its_secrets_are_filled(
    guided: GuidedStack,
) -> None:
    request = guided.sign()
    assert guided.post(request).status_code == 503
    log = "".join(guided.shared.ministack.function_log(f"{guided.name}-ingest"))
    assert "is not filled yet: run clerk-supabase setup --store-secrets" in log

    filled = {"WebhookSecretArn": "filled", "ClerkSecretKeyArn": "filled", "DatabaseSecretArn": "filled"}
    assert fill(guided) == filled
    assert fill(guided) == dict.fromkeys(filled, "unchanged")

    assert eventually(lambda: guided.post(request).status_code, lambda status: status != 503) == 202
    eventually(lambda: guided.applied([request]), bool)


def test_the_dashboard_is_there_and_shows_the_stack(guided: GuidedStack) -> None:
    body = guided.client("cloudwatch").get_dashboard(DashboardName=guided.name)["DashboardBody"]
    assert f"{guided.name}-sync" in body
    assert "${" not in body


def test_no_event_is_lost_while_the_stack_is_updated(guided: GuidedStack) -> None:
    with events_flowing(guided) as sent:
        eventually(lambda: len(sent), lambda count: count > 3)
        guided.update({"MaxBodyBytes": "900000", "AlarmEmail": "ops@example.test"})
        reached = len(sent)
        eventually(lambda: len(sent), lambda count: count > reached + 3)

    assert guided.status == "UPDATE_COMPLETE"
    subscriptions = guided.client("sns").list_subscriptions()["Subscriptions"]
    [topic] = [each for each in subscriptions if each["Endpoint"] == "ops@example.test"]
    alarms = guided.client("cloudwatch").describe_alarms(AlarmNamePrefix=guided.name)["MetricAlarms"]
    assert {action for alarm in alarms for action in alarm["AlarmActions"]} == {topic["TopicArn"]}
    limit = guided.client("lambda").get_function_configuration(FunctionName=f"{guided.name}-ingest", Qualifier="live")
    assert limit["Environment"]["Variables"]["MAX_BODY_BYTES"] == "900000"
    assert eventually(lambda: guided.applied(sent), lambda applied: len(applied) == len(sent))


def test_an_update_that_fails_is_rolled_back_and_loses_no_event(guided: GuidedStack, tmp_path: Path) -> None:
    broken = guided.build.with_name("broken.json")
    template = yaml_parse(guided.build.read_text())
    # Comes last, so that everything else was changed before it fails.
    template["Resources"]["NoSuchQueue"] = {
        "Type": "AWS::SQS::Queue",
        "DependsOn": [name for name in template["Resources"] if name.endswith("Function")],
        "Properties": {"VisibilityTimeout": -1},
    }
    broken.write_text(json.dumps(template))
    with events_flowing(guided) as sent:
        eventually(lambda: len(sent), lambda count: count > 3)
        guided.update({"MaxBodyBytes": "800000"}, template=broken, status=1)
        reached = len(sent)
        eventually(lambda: len(sent), lambda count: count > reached + 3)

    assert guided.status == "UPDATE_ROLLBACK_COMPLETE"
    limit = guided.client("lambda").get_function_configuration(FunctionName=f"{guided.name}-ingest", Qualifier="live")
    assert limit["Environment"]["Variables"]["MAX_BODY_BYTES"] != "800000"
    assert eventually(lambda: guided.applied(sent), lambda applied: len(applied) == len(sent))


def test_a_stack_that_is_deleted_keeps_the_events_it_had_accepted(guided: GuidedStack) -> None:
    functions, outputs = guided.client("lambda"), guided.outputs
    for mapping in functions.list_event_source_mappings(FunctionName=f"{guided.name}-sync:live")["EventSourceMappings"]:
        functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
    waiting = guided.sign()
    guided.waiting.append(waiting)
    assert guided.post(waiting).status_code == 202

    guided.sam("delete", "--no-prompts", f"--stack-name={guided.name}", "--region=us-east-1")

    with pytest.raises(ClientError):
        functions.get_function(FunctionName=f"{guided.name}-sync")
    with pytest.raises(ClientError):
        guided.client("secretsmanager").get_secret_value(SecretId=outputs["DatabaseSecretArn"])
    sqs = guided.client("sqs")
    depths = {
        name: sqs.get_queue_attributes(QueueUrl=outputs[name], AttributeNames=["ApproximateNumberOfMessages"])
        for name in QUEUES
    }
    assert [each["Attributes"]["ApproximateNumberOfMessages"] for each in depths.values()] == ["1", "0", "0"]


def test_a_new_stack_takes_up_the_events_that_a_deleted_one_kept(guided: GuidedStack, root: Path) -> None:
    guide = (root / "docs" / "deploy.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```json\n(.*?)^```$", guide, flags=re.DOTALL | re.MULTILINE)
    kept, to_import = [json.loads(block.replace(PRODUCTION, guided.name)) for block in blocks]
    sqs, cloudformation = guided.client("sqs"), guided.client("cloudformation")
    for each in to_import:
        name = each["ResourceIdentifier"]["QueueUrl"].rpartition("/")[2]
        each["ResourceIdentifier"]["QueueUrl"] = sqs.get_queue_url(QueueName=name)["QueueUrl"]
    cloudformation.create_change_set(
        StackName=guided.name,
        ChangeSetName="kept",
        ChangeSetType="IMPORT",
        TemplateBody=json.dumps(kept),
        ResourcesToImport=to_import,
    )
    cloudformation.get_waiter("change_set_create_complete").wait(StackName=guided.name, ChangeSetName="kept")
    cloudformation.execute_change_set(StackName=guided.name, ChangeSetName="kept")
    eventually(lambda: guided.status, lambda status: status == "IMPORT_COMPLETE")

    # With secrets that are there already, by ARN, so that what waited is applied at once.
    guided.update(
        {"WebhookSecretArn": guided.shared.webhook_secret_arn, "DatabaseSecretArn": guided.shared.database_secret_arn}
    )

    eventually(lambda: guided.applied([guided.waiting[0]]), bool)
