"""The life of a stack, from five answers to the destroyed stack and its successor. No event is lost."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import psycopg
import pytest
from botocore.exceptions import ClientError

from clerk_supabase_cli.standin.deliveries import SignedRequest
from tests.kit.polling import eventually
from tests.kit.supabase_management import REF, TOKEN, SupabaseManagement
from tests.stacks.operator import COMMAND, NAME, PUBLISHABLE_KEY, Operator


@pytest.fixture(scope="module")
def operator(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    with Operator(root, tmp_path_factory.mktemp("operator")) as operator:
        yield operator


@pytest.fixture(autouse=True)
def _no_tracked_file_changes(operator: Operator) -> Iterator[None]:
    """Fails if a command changed the checkout, but for files that git ignores."""
    assert operator.changed_files == ""
    yield
    assert operator.changed_files == ""


@contextmanager
def events_flowing(operator: Operator) -> Iterator[list[SignedRequest]]:
    """Lets Clerk send events as long as the block lasts, each again until it is accepted, as Svix does."""
    sent: list[SignedRequest] = []
    over = threading.Event()

    def accepted(request: SignedRequest) -> bool:
        return operator.post(request).status_code == 202

    def send() -> None:
        while not over.wait(0.3):  # not a flood, which would keep the machine from deploying
            request = operator.sign()
            sent.append(request)
            eventually(partial(accepted, request), bool)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        eventually(lambda: len(sent), lambda count: count > 3)
        yield sent
        reached = len(sent)
        eventually(lambda: len(sent), lambda count: count > reached + 3)
    finally:
        over.set()
        sender.join()


CHANGES = ["--parameter", "MaxBodyBytes=900000", "--parameter", "AlarmEmail=ops@example.test"]


@contextmanager
def edited(file: Path, pattern: str, replacement: str) -> Iterator[None]:
    """A file of the checkout with another text, as long as the block lasts."""
    before = file.read_text()
    after, number = re.subn(pattern, replacement, before, count=1, flags=re.MULTILINE)
    assert number == 1
    file.write_text(after)
    try:
        yield
    finally:
        file.write_text(before)


def test_five_answers_lead_from_nothing_to_a_green_doctor(operator: Operator) -> None:
    said = operator.types(
        "deploy",
        *(f"--parameter={name}={value}" for name, value in operator.parameters.items()),
        answers=[
            ("^Name of the stack.*: ", NAME),
            ("^Clerk's publishable key.*: ", PUBLISHABLE_KEY),
            ("^Clerk's secret key.*: ", operator.clerk.answers.key),
            ("^Connection string of the database's owner.*: ", operator.owner_url),
            ("^Signing secret of this endpoint.*: ", operator.webhook_secret),
        ],
    )
    assert f"Webhooks > Add endpoint: {operator.outputs['WebhookUrl']}" in " ".join(said.split())
    assert re.search(r"\d+ ok", said)
    assert not re.search(r"\d+ fail", said)
    for secret in (operator.clerk.answers.key, operator.owner_url, operator.webhook_secret):
        assert secret not in said
    settings = (operator.checkout / "stack.toml").read_text()
    assert f'ClerkInstanceId = "{operator.clerk.answers.instance_id}"' in settings
    body = operator.client("cloudwatch").get_dashboard(DashboardName=NAME)["DashboardBody"]
    assert f"{NAME}-sync" in body
    assert "${" not in body


def test_a_stack_and_a_queue_of_another_project_are_left_alone(operator: Operator) -> None:
    template = {"Description": "their app", "Resources": {"Queue": {"Type": "AWS::SQS::Queue"}}}
    cloudformation, sqs = operator.client("cloudformation"), operator.client("sqs")
    cloudformation.create_stack(StackName="their-app", TemplateBody=json.dumps(template))
    cloudformation.get_waiter("stack_create_complete").wait(StackName="their-app", WaiterConfig={"Delay": 1})
    queue = sqs.create_queue(QueueName="their-other-app-sync")["QueueUrl"]

    said = operator.runs("destroy", "--stack-name", "their-app", "--yes", status=1)
    assert said == "clerk-supabase: the stack their-app is of another project: choose another name\n"
    said = operator.runs("destroy", "--stack-name", "their-other-app", "--yes")
    assert said == "there is no stack their-other-app, and no queue of such a stack\n"
    assert sqs.get_queue_url(QueueName="their-other-app-sync")["QueueUrl"] == queue
    cloudformation.delete_stack(StackName="their-app")
    sqs.delete_queue(QueueUrl=queue)


def test_a_changed_value_is_shown_before_it_is_sent(operator: Operator) -> None:
    file = operator.checkout / "stack.toml"
    with edited(file, r"^\[parameters\]$", '[parameters]\nMaxBodyBytes = 9\nAlarmEmial = ""'):
        said = operator.runs("deploy", status=1)
    assert "in the way: MaxBodyBytes must be at least 10000, and is 9" in said
    assert "did you mean AlarmEmail?" in said
    before = file.read_text()
    said = operator.runs("deploy", *CHANGES, status=1)
    assert "  MaxBodyBytes: 1040000 -> 900000\n" in said
    assert "nothing was changed: add --yes" in said
    assert operator.variable("ingest", "MAX_BODY_BYTES") == "1040000"
    assert file.read_text() == before


def test_an_update_that_was_killed_goes_on_and_then_nothing_is_left_to_change(operator: Operator) -> None:
    with events_flowing(operator) as sent:
        killed = subprocess.Popen(
            [COMMAND, "deploy", *CHANGES, "--yes"],
            cwd=operator.checkout,
            env=operator.environment,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        eventually(lambda: operator.status, {"UPDATE_IN_PROGRESS", "UPDATE_COMPLETE"}.__contains__, seconds=180)
        os.killpg(killed.pid, signal.SIGKILL)
        killed.wait()
        said = operator.runs("deploy")

    assert f"{NAME} in us-east-1, AWS account 000000000000: no value changes" in said
    assert "nothing was changed in AWS: the stack is as described, and its secrets are filled" in said
    assert operator.status == "UPDATE_COMPLETE"
    assert operator.variable("ingest", "MAX_BODY_BYTES") == "900000"
    subscriptions = operator.client("sns").list_subscriptions()["Subscriptions"]
    [topic] = [each for each in subscriptions if each["Endpoint"] == "ops@example.test"]
    alarms = operator.client("cloudwatch").describe_alarms(AlarmNamePrefix=NAME)["MetricAlarms"]
    assert {action for alarm in alarms for action in alarm["AlarmActions"]} == {topic["TopicArn"]}
    assert eventually(lambda: operator.applied(sent), lambda applied: len(applied) == len(sent))


def test_an_update_that_fails_is_rolled_back_with_its_reason_and_loses_no_event(operator: Operator) -> None:
    # Comes last, so that everything else was changed before it fails.
    broken = "Resources:\n  NoSuchQueue:\n    Type: AWS::SQS::Queue\n    DependsOn: [IngestFunction, SyncFunction]\n"
    broken += "    Properties: {VisibilityTimeout: -1}\n"
    with (
        edited(operator.checkout / "template.yaml", "^Resources:$", broken),
        edited(operator.checkout / "stack.toml", '^MaxBodyBytes = "900000"$', "MaxBodyBytes = 800000"),
        events_flowing(operator) as sent,
    ):
        said = operator.runs("deploy", "--yes", status=1)

    assert "NoSuchQueue: " in said
    assert operator.status == "UPDATE_ROLLBACK_COMPLETE"
    assert operator.variable("ingest", "MAX_BODY_BYTES") == "900000"
    assert eventually(lambda: operator.applied(sent), lambda applied: len(applied) == len(sent))


def test_a_destroyed_stack_keeps_the_events_that_it_had_accepted(operator: Operator) -> None:
    functions, outputs = operator.client("lambda"), operator.outputs
    for mapping in functions.list_event_source_mappings(FunctionName=f"{NAME}-sync:live")["EventSourceMappings"]:
        functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
    waiting = operator.sign()
    operator.waiting.append(waiting)
    assert operator.post(waiting).status_code == 202

    stopped = operator.types("destroy", answers=[("^Type the name.*: ", "another")], status=1)
    assert f"  queue {NAME}-sync: 1 event\n" in stopped
    assert "secret: signing secret of the webhooks, filled, deleted with the stack" in stopped
    assert operator.status == "UPDATE_ROLLBACK_COMPLETE"
    said = operator.types("destroy", answers=[("^Type the name.*: ", NAME)])

    assert f"kept the queue {NAME}-sync: 1 event\n" in said
    with pytest.raises(ClientError):
        functions.get_function(FunctionName=f"{NAME}-sync")
    with pytest.raises(ClientError):
        operator.client("secretsmanager").get_secret_value(SecretId=outputs["DatabaseSecretArn"])


def test_a_new_stack_takes_up_the_events_of_the_destroyed_stack(operator: Operator) -> None:
    answers = {
        "CLERK_WEBHOOK_SIGNING_SECRET": operator.webhook_secret,
        "CLERK_SECRET_KEY": operator.clerk.answers.key,
        "DATABASE_URL": operator.owner_url,
    }
    gradual = ["--parameter", "GradualDeployment=true", "--at-once"]
    with SupabaseManagement() as supabase:
        project = {"SUPABASE_ACCESS_TOKEN": TOKEN, "SUPABASE_URL": f"https://{REF}.supabase.co"}
        options = (*gradual, "--new-role-passwords", "--management-api-url", supabase.url)
        said = operator.runs("deploy", *options, variables={**answers, **project})
    assert f"set       third-party-auth: from now on, Supabase takes the tokens of {operator.frontend.issuer}\n" in said
    assert supabase.issuers == [operator.frontend.issuer]
    assert TOKEN not in said
    # First without the gradual deployment that an alarm would stop, then as the file says.
    assert said.index("deployed all at once in ") < said.index("\ndeployed in ")
    assert operator.values["GradualDeployment"] == "true"
    assert f"taking up the queue {NAME}-sync: 1 event\n" in said
    # A first try may have failed while the secrets were empty, and the next try may be minutes away.
    assert operator.applied(operator.waiting) or operator.events_in("SyncQueueUrl") == 1


def test_a_stack_stays_while_its_schema_cannot_be_removed(operator: Operator) -> None:
    with psycopg.connect(operator.owner_url, autocommit=True) as database:
        database.execute(f"create role \"postgres.{REF}\" superuser login password 'x'")
        try:
            url = f"postgresql://postgres.{REF}:x@{operator.owner_url.partition('@')[2]}"
            variables = {"DATABASE_URL": url, "SUPABASE_ACCESS_TOKEN": "no token"}
            said = operator.runs("destroy", "--with-events", "--schema", "--yes", variables=variables, status=1)
        finally:
            database.execute(f'drop role "postgres.{REF}"')
    assert said.startswith("clerk-supabase: nothing was removed: SUPABASE_ACCESS_TOKEN is no access token")
    assert operator.status in {"CREATE_COMPLETE", "UPDATE_COMPLETE"}


def test_a_destroyed_stack_leaves_nothing_in_aws_and_if_asked_nothing_in_the_database(operator: Operator) -> None:
    operator.runs("destroy", "--with-events", "--schema", "--yes", variables={"DATABASE_URL": operator.owner_url})

    assert "there is no stack" in operator.runs("destroy")
    assert operator.client("sqs").list_queues().get("QueueUrls", []) == []
    assert operator.client("secretsmanager").list_secrets()["SecretList"] == []
    buckets = [each["Name"] for each in operator.client("s3").list_buckets()["Buckets"]]
    assert [operator.client("s3").list_objects_v2(Bucket=bucket).get("Contents", []) for bucket in buckets] == [[]]
    with psycopg.connect(operator.owner_url) as database:
        left = database.execute("select count(*) from pg_namespace where nspname in ('clerk', 'clerk_sync')").fetchone()
    assert left == (0,)
