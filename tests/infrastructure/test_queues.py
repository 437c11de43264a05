"""The queues of template.yaml: their readers, the days that they keep messages, and no circle of queues."""

from __future__ import annotations

import pytest

from clerk_supabase.retry import MAX_ATTEMPTS
from tests.infrastructure.template import CONSUMERS, DAY_SECONDS, FUNCTIONS, Resource, Template, arn, properties


def test_every_queue_is_encrypted(template: Template) -> None:
    for queue in template.of_type("AWS::SQS::Queue").values():
        assert properties(queue)["SqsManagedSseEnabled"] is True


def test_no_queue_is_a_fifo_queue(template: Template) -> None:
    for queue in template.of_type("AWS::SQS::Queue").values():
        assert "FifoQueue" not in properties(queue)


def mapping_of(template: Template, queue: str) -> Resource:
    """The event source mapping from a queue to its function."""
    mappings = [properties(each) for each in template.of_type("AWS::Lambda::EventSourceMapping").values()]
    [mapping] = [each for each in mappings if each["EventSourceArn"] == arn(queue)]
    return mapping


@pytest.mark.parametrize("queue", CONSUMERS)
def test_every_queue_is_emptied_by_its_function(queue: str, template: Template) -> None:
    assert mapping_of(template, queue)["FunctionName"] == {"Ref": f"{CONSUMERS[queue]}Aliaslive"}
    assert template.of_type("AWS::SQS::Queue").keys() == CONSUMERS.keys() | {"FailedRunsQueue"}
    assert len(template.of_type("AWS::Lambda::EventSourceMapping")) == len(CONSUMERS)


@pytest.mark.parametrize("queue", CONSUMERS)
def test_a_message_stays_invisible_for_six_times_as_long_as_the_function_may_run(
    queue: str, template: Template
) -> None:
    window = mapping_of(template, queue).get("MaximumBatchingWindowInSeconds", 0)
    timeout = template[CONSUMERS[queue]]["Timeout"]
    assert template[queue]["VisibilityTimeout"] >= 6 * timeout + window
    # So long a message waits after a worker was lost.
    assert template[queue]["VisibilityTimeout"] <= 7 * timeout + window


@pytest.mark.parametrize("queue", CONSUMERS)
def test_an_accepted_event_is_kept_for_as_long_as_sqs_keeps_any_message(queue: str, template: Template) -> None:
    # A standard queue counts from the first time a message was sent, also when the message moves to the dead letters:
    # https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-dead-letter-queues.html
    assert template[queue]["MessageRetentionPeriod"] == 14 * DAY_SECONDS


def test_nothing_ever_leaves_the_last_two_queues_but_by_the_retry_function(template: Template) -> None:
    for queue in ("SyncDeadLetterQueue", "ParkedQueue"):
        assert "RedrivePolicy" not in template[queue]


def test_the_only_loop_of_queues_ends_by_itself_and_is_not_ended_by_lambda(template: Template) -> None:
    # Lambda stops a chain after about 16 passes through one function; SQS delivering again is no pass.
    # https://docs.aws.amazon.com/lambda/latest/dg/invocation-recursion.html
    stopped_after = 16
    passes_through_sync = 1 + MAX_ATTEMPTS  # the first one, and one for every time it is sent back
    passes_through_retry = MAX_ATTEMPTS + 1  # one for every time it is sent back, and the last, which parks it
    assert max(passes_through_sync, passes_through_retry) <= stopped_after * 0.6
    # The only way round: from the sync queue to the dead letters, and back by the retry function.
    senders = {
        function: [
            resource["Fn::GetAtt"][0]
            for actions, resources in template.statements(function)
            if "sqs:SendMessage" in actions
            for resource in resources
        ]
        for function in FUNCTIONS
    }
    assert senders == {
        "IngestFunction": ["SyncQueue", "ParkedQueue"],
        "ReconcileFunction": ["SyncQueue", "FailedRunsQueue"],
        "RetryFunction": ["SyncQueue"],
        "SessionFunction": [],
        "SyncFunction": ["ParkedQueue"],
    }
    # The messages of a batch may share the count of one of them, so both functions of the loop allow it.
    allowed = {function for function in FUNCTIONS if template[function].get("RecursiveLoop") == "Allow"}
    assert allowed == {"SyncFunction", "RetryFunction"}


def test_an_event_that_waits_for_its_next_attempt_never_outlives_its_queue(template: Template) -> None:
    deliveries = template["SyncQueue"]["RedrivePolicy"]["maxReceiveCount"]
    longest_delay = 900
    one_round = deliveries * template["SyncQueue"]["VisibilityTimeout"] + longest_delay
    assert one_round < template["SyncQueue"]["MessageRetentionPeriod"] / 10


def test_a_message_that_fails_five_times_becomes_a_dead_letter(template: Template) -> None:
    redrive = template["SyncQueue"]["RedrivePolicy"]
    assert redrive["deadLetterTargetArn"] == arn("SyncDeadLetterQueue")
    assert redrive["maxReceiveCount"] >= 5


def test_only_the_sync_queue_may_send_to_the_dead_letters(template: Template) -> None:
    allowed = template["SyncDeadLetterQueue"]["RedriveAllowPolicy"]
    assert allowed["redrivePermission"] == "byQueue"
    [source] = allowed["sourceQueueArns"]
    queue_name = template["SyncQueue"]["QueueName"]["Fn::Sub"]
    assert source == {"Fn::Sub": "arn:${AWS::Partition}:sqs:${AWS::Region}:${AWS::AccountId}:" + queue_name}


@pytest.mark.parametrize("queue", CONSUMERS)
def test_a_function_says_which_messages_of_a_batch_failed(queue: str, template: Template) -> None:
    assert mapping_of(template, queue)["FunctionResponseTypes"] == ["ReportBatchItemFailures"]


def test_a_burst_never_opens_more_connections_than_were_agreed(template: Template) -> None:
    scaling = mapping_of(template, "SyncQueue")["ScalingConfig"]
    assert scaling == {"MaximumConcurrency": {"Ref": "SyncMaximumConcurrency"}}
    for queue in ("SyncDeadLetterQueue", "ParkedQueue"):
        assert mapping_of(template, queue)["ScalingConfig"] == {"MaximumConcurrency": 2}
    limits = template.source["Parameters"]["SyncMaximumConcurrency"]
    assert 2 <= limits["MinValue"] <= limits["Default"] <= limits["MaxValue"] <= 1000


def test_an_outage_leaves_room_for_webhooks_in_an_account_that_runs_ten_functions_at_once(
    template: Template,
) -> None:
    # https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html: new accounts have reduced quotas.
    at_once = 10
    a_comparison = 1
    sync = template.source["Parameters"]["SyncMaximumConcurrency"]["Default"]
    dead_letters, parked = (
        mapping_of(template, queue)["ScalingConfig"]["MaximumConcurrency"]
        for queue in ("SyncDeadLetterQueue", "ParkedQueue")
    )
    assert at_once - sync - dead_letters - parked - a_comparison >= 2


def test_events_are_not_held_back_to_fill_a_batch(template: Template) -> None:
    assert mapping_of(template, "SyncQueue").get("MaximumBatchingWindowInSeconds", 0) == 0
