"""`clerk-supabase doctor` on the deployed stack: a healthy stack passes, and each planted fault is found."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import psycopg
import pytest

from clerk_supabase_cli.local.stack import LocalStack
from clerk_supabase_cli.standin.deliveries import generate_secret, sign
from clerk_supabase_cli.standin.samples import new_user_id
from tests.kit.deployed_webhooks import policy_taken_away, post, redeliver_quickly
from tests.kit.doctoring import Doctor
from tests.kit.kinds import ALWAYS_SYNCED
from tests.kit.polling import eventually

# On a laptop there is no Supabase, and so no pooler, no certificate and no project that takes tokens.
NOT_ON_A_LAPTOP = {"supabase-auth", "supabase-settings", "worker-address", "session-address", "database-tls"}


@pytest.fixture
def doctor(stack: LocalStack) -> Doctor:
    return Doctor(
        stack.ministack.environment | {"DATABASE_URL": stack.database_url, "CLERK_SUPABASE_STACK": stack.name}
    )


@pytest.fixture(scope="module", autouse=True)
def _in_use(stack: LocalStack, root: Path) -> None:
    """Every type of event has arrived once, everything was compared, and nothing of other tests is left."""
    redeliver_quickly(stack)
    with psycopg.connect(stack.database_url, autocommit=True) as database:
        send_one_of_each_type(stack, root, database)
        # The stand-in for Clerk knows none of these users.
        database.execute("truncate clerk.users, clerk.users_public, clerk.organizations cascade")
        database.execute("truncate clerk_sync.entities, clerk_sync.parked_events cascade")
        database.execute("truncate clerk_sync.reconcile_runs, clerk_sync.instance cascade")
    stack.reconcile("full")
    stack.reconcile("quick")


def send_one_of_each_type(stack: LocalStack, root: Path, database: psycopg.Connection) -> None:
    """Sends one event after the other: for several at once the emulator would start several slow workers."""
    samples = [json.loads(file.read_text()) for file in sorted((root / "events" / "clerk").glob("*.json"))]
    for sample in {sample["type"]: sample for sample in samples if sample["type"] in ALWAYS_SYNCED}.values():
        request = sign(sample, stack.webhook_secret)
        assert post(stack, request).status_code == 202
        eventually(partial(is_recorded, database, request.headers["svix-id"]), bool)


def is_recorded(database: psycopg.Connection, svix_id: str) -> bool:
    return database.execute("select from clerk_sync.deliveries where svix_id = %s", [svix_id]).rowcount == 1


def test_a_stack_in_use_is_healthy(stack: LocalStack, doctor: Doctor) -> None:
    report = doctor.examine(arguments=("--token", stack.mint.session(new_user_id())))
    assert {name for name, verdict in report.verdicts.items() if verdict == "skipped"} == NOT_ON_A_LAPTOP
    wrong = {name: report.words(name) for name, verdict in report.verdicts.items() if verdict in {"warn", "fail"}}
    assert wrong == {}
    secrets = (stack.webhook_secret, stack.clerk.answers.key, *passwords(stack))
    assert [secret for secret in secrets if secret in report.text] == []


def passwords(stack: LocalStack) -> list[str]:
    manager = stack.ministack.client("secretsmanager")
    urls = [
        manager.get_secret_value(SecretId=arn)["SecretString"]
        for arn in (stack.database_secret_arn, stack.session_database_secret_arn)
    ]
    found = [psycopg.conninfo.conninfo_to_dict(url)["password"] for url in [*urls, stack.database_url]]
    return [str(password) for password in found]


def test_the_canary_leaves_no_user_behind(stack: LocalStack, doctor: Doctor) -> None:
    with psycopg.connect(stack.database_url, autocommit=True) as database:
        query = """
            select
                (select count(*) from clerk.users), (select count(*) from clerk_sync.entities),
                (select count(*) from clerk_sync.audit_log),
                (select count(*) from clerk_sync.deliveries where event_type = 'clerk-supabase.canary')
        """
        [(*before, canaries)] = database.execute(query).fetchall()
        verdict, words = doctor.verdict("round-trip")
        [after] = database.execute(query).fetchall()
    assert (verdict, "from accepted to committed" in words) == ("ok", True)
    assert list(after) == [*before, canaries + 1]


def test_a_database_that_keeps_more_than_the_stack_asks_for_says_how_to_allow_it(
    stack: LocalStack, doctor: Doctor
) -> None:
    assert doctor.verdict("retention")[0] == "ok"
    with psycopg.connect(stack.database_url, autocommit=True) as database:
        database.execute("update clerk_sync.retention set audit_days = 400")
        try:
            verdict, words = doctor.verdict("retention")
        finally:
            database.execute("update clerk_sync.retention set audit_days = 365")
    assert (verdict, "AuditDays of the stack asks for 365" in words) == ("warn", True)
    assert "-> clerk-supabase retention --audit-days 365" in words


# The way of an event


def test_a_stack_that_does_not_exist_fails_once(doctor: Doctor) -> None:
    report = doctor.examine("stack", "round-trip", "alarms", "migrations", CLERK_SUPABASE_STACK="no-such-stack")
    assert report.verdicts == {"stack": "fail", "round-trip": "skipped", "alarms": "skipped", "migrations": "ok"}
    assert "no-such-stack" in report.words("stack")
    assert "aws sts get-caller-identity" in report.words("stack")


@contextmanager
def stored(stack: LocalStack, arn: str, value: str) -> Iterator[None]:
    """Replaces the secret as long as the `with` block lasts. The functions keep the old value for minutes."""
    manager = stack.ministack.client("secretsmanager")
    before = manager.get_secret_value(SecretId=arn)["SecretString"]
    manager.put_secret_value(SecretId=arn, SecretString=value)
    try:
        yield
    finally:
        manager.put_secret_value(SecretId=arn, SecretString=before)


def test_an_api_key_in_place_of_the_signing_secret_fails(stack: LocalStack, doctor: Doctor) -> None:
    with stored(stack, stack.webhook_secret_arn, "sk_test_pasted_in_by_mistake"):
        report = doctor.examine("webhook-secret", "round-trip")
    assert report.verdicts == {"webhook-secret": "fail", "round-trip": "skipped"}
    assert "is an API key" in report.words("webhook-secret")
    assert "sk_test_pasted" not in report.text


def test_another_secret_than_clerks_fails(stack: LocalStack, doctor: Doctor) -> None:
    with stored(stack, stack.webhook_secret_arn, f"{generate_secret()} {generate_secret()}"):
        verdict, words = doctor.verdict("webhook-secret", CLERK_WEBHOOK_SIGNING_SECRET=stack.webhook_secret)
    assert verdict == "fail"
    assert "holds another secret" in words


def test_while_ingest_may_not_send_to_the_queue_the_round_trip_fails(stack: LocalStack, doctor: Doctor) -> None:
    with policy_taken_away(stack, role="IngestRole", policy="send-events"):
        verdict, words = doctor.verdict("round-trip")
    assert verdict == "fail"
    assert "answered 503" in words


def test_an_event_that_does_not_arrive_in_time_fails_the_round_trip(stack: LocalStack, doctor: Doctor) -> None:
    function = "function clerk_sync.record_canary(jsonb)"
    with psycopg.connect(stack.database_url, autocommit=True) as database:
        database.execute(f"revoke execute on {function} from clerk_sync_worker")
        try:
            report = doctor.examine("round-trip", "worker-rights", arguments=("--wait", "0.5"))
        finally:
            database.execute(f"grant execute on {function} to clerk_sync_worker")
        assert report.verdicts == {"round-trip": "fail", "worker-rights": "fail"}
        assert "was not in the database 500 ms later" in report.words("round-trip")
        [svix_id] = [word.strip("() ->") for word in report.words("round-trip").split() if "msg_" in word]
        # And nothing was lost.
        eventually(partial(is_recorded, database, svix_id), bool)


def test_a_key_of_another_instance_fails_and_a_key_that_clerk_refuses_too(stack: LocalStack, doctor: Doctor) -> None:
    answers = stack.clerk.answers
    instance_id, key = answers.instance_id, answers.key
    try:
        answers.instance_id = "ins_2Another"
        of_another = doctor.verdict("instance")
        answers.key = "sk_live_rotated"
        refused = doctor.verdict("instance")
    finally:
        answers.instance_id, answers.key = instance_id, key
    assert of_another[0] == refused[0] == "fail"
    assert f"but the database mirrors {instance_id}" in of_another[1]
    assert "sk_live" not in of_another[1] + refused[1]


def test_a_connection_string_of_the_session_pooler_is_a_warning_and_one_of_the_owner_fails(
    stack: LocalStack, doctor: Doctor
) -> None:
    host = "aws-0-eu-central-1.pooler.supabase.com:5432/postgres"
    with stored(stack, stack.database_secret_arn, f"postgresql://clerk_sync_worker.project:hunter2@{host}"):
        of_worker = doctor.examine("worker-address", "database-tls")
    with stored(stack, stack.database_secret_arn, f"postgresql://postgres.project:hunter2@{host}?sslmode=require"):
        of_owner = doctor.examine("worker-address", "database-tls")
    assert of_worker.verdicts == {"worker-address": "warn", "database-tls": "fail"}
    assert "DatabaseCaFile" in of_worker.words("database-tls")
    assert of_owner.verdicts == {"worker-address": "fail", "database-tls": "warn"}
    assert "hunter2" not in of_worker.text + of_owner.text


def test_a_broken_connection_string_in_a_secret_fails_its_checks_and_is_not_quoted(
    stack: LocalStack, doctor: Doctor
) -> None:
    checks = ("worker-address", "database-tls", "worker-login", "session-address")
    with stored(stack, stack.database_secret_arn, "postgresql://clerk_sync_worker:hunter2%Pw@db.example.test/postgres"):
        report = doctor.examine(*checks)
    verdicts = {"worker-address": "fail", "database-tls": "fail", "worker-login": "fail", "session-address": "skipped"}
    assert report.verdicts == verdicts
    assert "write %25" in report.words("worker-address")
    assert f"the secret {stack.database_secret_arn.rpartition(':')[2]}" in report.words("worker-address")
    assert "hunter2" not in report.text


# Alarms


def test_an_alarm_that_is_switched_off_rings_or_has_no_receiver_is_named(stack: LocalStack, doctor: Doctor) -> None:
    cloudwatch = stack.ministack.client("cloudwatch")
    off, rings = stack.physical_id("SyncBacklogAlarm"), stack.physical_id("BrakeAlarm")
    cloudwatch.disable_alarm_actions(AlarmNames=[off])
    cloudwatch.set_alarm_state(AlarmName=rings, StateValue="ALARM", StateReason="planted")
    try:
        verdict, words = doctor.verdict("alarms")
    finally:
        cloudwatch.enable_alarm_actions(AlarmNames=[off])
        cloudwatch.set_alarm_state(AlarmName=rings, StateValue="OK", StateReason="planted")
    assert verdict == "fail"
    assert "switched off: SyncBacklogAlarm" in words
    assert "BrakeAlarm rings" in words
    assert "docs/runbook.md#brakealarm" in words
    assert doctor.verdict("alarms")[0] == "ok"


def test_an_alarm_without_a_listener_is_a_warning(stack: LocalStack, doctor: Doctor) -> None:
    sns = stack.ministack.client("sns")
    [subscription] = sns.list_subscriptions_by_topic(TopicArn=stack.alarm_topic_arn)["Subscriptions"]
    sns.unsubscribe(SubscriptionArn=subscription["SubscriptionArn"])
    try:
        verdict, words = doctor.verdict("alarms")
    finally:
        sns.subscribe(
            TopicArn=stack.alarm_topic_arn, Protocol=subscription["Protocol"], Endpoint=subscription["Endpoint"]
        )
    assert verdict == "warn"
    assert "has no confirmed subscription" in words


def test_a_deleted_or_muted_alarm_is_found(stack: LocalStack, doctor: Doctor) -> None:
    cloudwatch = stack.ministack.client("cloudwatch")
    name = stack.physical_id("TooLargeAlarm")
    [alarm] = cloudwatch.describe_alarms(AlarmNames=[name])["MetricAlarms"]
    wanted = set(cloudwatch.meta.service_model.operation_model("PutMetricAlarm").input_shape.members)
    settings = {key: value for key, value in alarm.items() if key in wanted}
    try:
        cloudwatch.put_metric_alarm(**settings | {"AlarmActions": []})
        mute = doctor.verdict("alarms")
        cloudwatch.delete_alarms(AlarmNames=[name])
        gone = doctor.verdict("alarms")
    finally:
        cloudwatch.put_metric_alarm(**settings)
    assert mute[0] == "warn"
    assert "without a topic: TooLargeAlarm" in mute[1]
    assert gone[0] == "fail"
    assert "gone from CloudWatch: TooLargeAlarm" in gone[1]


def test_dead_letters_and_failed_comparisons_are_found(stack: LocalStack, doctor: Doctor) -> None:
    sqs = stack.ministack.client("sqs")
    dead, failed = stack.outputs["SyncDeadLetterQueueUrl"], stack.outputs["FailedRunsQueueUrl"]
    assert doctor.verdict("queues")[0] == "ok"
    sqs.send_message(QueueUrl=failed, MessageBody="{}")
    failed_run = doctor.verdict("queues")
    # Delayed, so that retry leaves it there.
    sqs.send_message(QueueUrl=dead, MessageBody="{}", DelaySeconds=900)
    dead_letter = doctor.verdict("queues")
    for queue in (dead, failed):
        sqs.purge_queue(QueueUrl=queue)
    assert failed_run[0] == "warn"
    assert "failed comparisons for a person to look at: 1" in failed_run[1]
    assert dead_letter[0] == "fail"
    assert "1 event in the dead-letter queue" in dead_letter[1]
