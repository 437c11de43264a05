"""The three queues of events, which outlive their stack: counted, taken up by a new stack, deleted."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from clerk_supabase_cli.operate.deployment.stack import DESCRIPTION
from clerk_supabase_cli.operate.queues import Depth, Name, Queues, client, errors_explained

_QUEUES: Final[Mapping[Name, tuple[str, str]]] = {
    "parked": ("ParkedQueue", "-parked"),
    "dead_letters": ("SyncDeadLetterQueue", "-sync-dead-letters"),
    "sync": ("SyncQueue", "-sync"),
}
"""The logical ids of template.yaml, and what follows the name of the stack in the name of the queue."""


@dataclass(frozen=True, slots=True)
class KeptQueue:
    """A queue of events."""

    logical_id: str
    name: str
    url: str
    depth: Depth

    @property
    def words(self) -> str:
        """The queue and the number of its events, as a line."""
        number = self.depth.total
        return f"{self.name}: {'1 event' if number == 1 else f'{number} events'}"


def kept(stack_name: str) -> list[KeptQueue]:
    """The queues that exist, with or without their stack; the sync queue is the last. Raises AwsUnreachable.

    A queue of another project may have the name of ours: the sync queue proves that all are ours, because its dead
    letters go to our other queue.
    """
    urls = {queue: url for queue, (_, suffix) in _QUEUES.items() if (url := _url(f"{stack_name}{suffix}"))}
    if _dead_letters_of(urls.get("sync", "")) != f"{stack_name}{_QUEUES['dead_letters'][1]}":
        return []
    return [
        KeptQueue(_QUEUES[queue][0], f"{stack_name}{_QUEUES[queue][1]}", urls[queue], depth)
        for queue, depth in Queues(urls).depths().items()
    ]


def take_up(stack_name: str, queues: list[KeptQueue]) -> None:
    """Makes a stack of these queues alone, which the next deployment completes. Raises AwsUnreachable."""
    cloudformation = client("cloudformation")
    where = {"StackName": stack_name, "ChangeSetName": f"kept-queues-{secrets.token_hex(4)}"}
    with errors_explained():
        cloudformation.create_change_set(
            **where,
            ChangeSetType="IMPORT",
            TemplateBody=json.dumps(_template(queues)),
            ResourcesToImport=[
                {
                    "ResourceType": "AWS::SQS::Queue",
                    "LogicalResourceId": queue.logical_id,
                    "ResourceIdentifier": {"QueueUrl": queue.url},
                }
                for queue in queues
            ],
        )
        cloudformation.get_waiter("change_set_create_complete").wait(**where)
        cloudformation.execute_change_set(**where)


def delete(queue: KeptQueue) -> None:
    """Deletes a queue with its events. Raises AwsUnreachable."""
    with errors_explained():
        client("sqs").delete_queue(QueueUrl=queue.url)


def _dead_letters_of(url: str) -> str:
    """The name of the queue for the dead letters of a queue; empty without such a queue."""
    if not url:
        return ""
    with errors_explained():
        answer = client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["RedrivePolicy"])
    policy = json.loads(answer.get("Attributes", {}).get("RedrivePolicy", "{}"))
    return str(policy.get("deadLetterTargetArn", "")).rpartition(":")[2]


def _template(queues: list[KeptQueue]) -> Mapping[str, Any]:
    resources = {
        queue.logical_id: {
            "Type": "AWS::SQS::Queue",
            "DeletionPolicy": "Retain",
            "Properties": {"QueueName": queue.name},
        }
        for queue in queues
    }
    return {"Description": f"{DESCRIPTION}: queues of an earlier stack, taken up", "Resources": resources}


def _url(name: str) -> str:
    sqs = client("sqs")
    with errors_explained():
        try:
            return str(sqs.get_queue_url(QueueName=name)["QueueUrl"])
        except sqs.exceptions.QueueDoesNotExist:
            return ""
