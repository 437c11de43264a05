"""Webhooks as Clerk sends them to the deployed stack, and changes of the stack for tests."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from clerk_supabase_cli.local.stack import LocalStack
from clerk_supabase_cli.standin.deliveries import SignedRequest, sign
from clerk_supabase_cli.standin.samples import Json, event, user
from tests.kit.loopback import NO_TLS


def redeliver_quickly(stack: LocalStack) -> None:
    """Lets SQS deliver again after seconds instead of minutes."""
    for queue in ("SyncQueueUrl", "SyncDeadLetterQueueUrl", "ParkedQueueUrl"):
        stack.ministack.client("sqs").set_queue_attributes(
            QueueUrl=stack.outputs[queue], Attributes={"VisibilityTimeout": "2"}
        )


def post(stack: LocalStack, request: SignedRequest) -> httpx.Response:
    return httpx.post(
        stack.webhook_url,
        content=request.body,
        headers=dict(request.headers),
        timeout=60,
        trust_env=False,
        verify=NO_TLS,
    )


def send(stack: LocalStack, happening: Json) -> httpx.Response:
    return post(stack, sign(happening, stack.webhook_secret))


def now() -> int:
    return time.time_ns() // 1_000_000


def created(user_id: str, at: int, **fields: Any) -> Json:
    return event("user.created", user(user_id, created_at=at, updated_at=at, **fields), timestamp=at + 18)


@contextmanager
def policy_taken_away(stack: LocalStack, *, role: str, policy: str) -> Iterator[None]:
    """Removes a policy of a role, with all that the policy allows, as long as the `with` block lasts."""
    iam = stack.ministack.client("iam")
    name = stack.physical_id(role)
    document = iam.get_role_policy(RoleName=name, PolicyName=policy)["PolicyDocument"]
    iam.delete_role_policy(RoleName=name, PolicyName=policy)
    try:
        yield
    finally:
        iam.put_role_policy(
            RoleName=name,
            PolicyName=policy,
            PolicyDocument=document if isinstance(document, str) else json.dumps(document),
        )
