"""The stack in CloudFormation: its state, its failures, and its delete."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from botocore.exceptions import ClientError

from clerk_supabase_cli.failure import Failure
from clerk_supabase_cli.operate.queues import client, errors_explained

DESCRIPTION: Final = "clerk-supabase-sync"
"""The beginning of the description of each stack of this project."""
NEVER_WORKED: Final = ("ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED", "DELETE_FAILED")
"""The states of a stack that cannot be updated, and must be deleted before another deployment."""

_POLL_SECONDS: Final = 1.0
_CLOCKS_DIFFER: Final = timedelta(minutes=1)
_MOST_REASONS: Final = 3
_CONSEQUENCES: Final = ("cancelled", "the following resource(s) failed")


class StackUnusable(Failure):
    """The stack cannot be deployed or deleted, for the reason in the message."""


@dataclass(frozen=True, slots=True)
class Stack:
    """A stack, as CloudFormation describes it."""

    identifier: str
    status: str
    parameters: Mapping[str, str]
    outputs: Mapping[str, str]
    changed_at: datetime

    @property
    def deployed(self) -> Mapping[str, str]:
        """The values of the parameters; none for a stack that never worked."""
        return {} if self.status in NEVER_WORKED else self.parameters

    @property
    def is_in_progress(self) -> bool:
        """Tells whether CloudFormation is changing the stack."""
        return self.status.endswith("_IN_PROGRESS") and self.status != "REVIEW_IN_PROGRESS"


def find(name: str) -> Stack | None:
    """The stack with this name; None if there is no stack, or only the plan for one.

    Raises AwsUnreachable, and StackUnusable for a stack of another project.
    """
    try:
        with errors_explained():
            found = _described(name)
    except _NoStack:
        return None
    if found["StackStatus"] == "REVIEW_IN_PROGRESS":
        return None
    if not _description(name, found).startswith(DESCRIPTION):
        raise StackUnusable(f"the stack {name} is of another project: choose another name")
    return Stack(
        found["StackId"],
        found["StackStatus"],
        {each["ParameterKey"]: each["ParameterValue"] for each in found.get("Parameters", [])},
        {each["OutputKey"]: each["OutputValue"] for each in found.get("Outputs", [])},
        found.get("LastUpdatedTime", found["CreationTime"]),
    )


def settled(name: str, tell: Callable[[str], None]) -> Stack | None:
    """The stack, as soon as CloudFormation does not change it: a deployment that was interrupted goes on there.

    *tell*: is told once that the function waits. Raises AwsUnreachable and StackUnusable.
    """
    found, was_told = find(name), False
    while found and found.is_in_progress:
        if not was_told:
            tell(f"waiting for CloudFormation, which still changes the stack ({found.status})")
            was_told = True
        time.sleep(_POLL_SECONDS)
        found = find(name)
    return found


def deleted(stack: Stack, name: str, tell: Callable[[str], None]) -> None:
    """Deletes a stack, and waits. Raises AwsUnreachable, and StackUnusable with the reasons of a failure."""
    began = datetime.now(UTC) - _CLOCKS_DIFFER
    with errors_explained():
        client("cloudformation").delete_stack(StackName=name)
    if rest := settled(name, lambda _: None):
        reasons = "; ".join(failures(stack.identifier, began)[:_MOST_REASONS])
        raise StackUnusable(f"CloudFormation could not delete the stack ({rest.status}): {reasons}")
    tell(f"deleted the stack {name}")


def failures(stack: str, since: datetime) -> list[str]:
    """The reasons of the resources that failed, the first failure first; without failures that only follow.

    *stack*: the name, or the identifier of a deleted stack. Raises AwsUnreachable.
    """
    reasons: list[str] = []
    with errors_explained():
        pages = client("cloudformation").get_paginator("describe_stack_events").paginate(StackName=stack)
        for event in (each for page in pages for each in page["StackEvents"]):
            if event["Timestamp"] < since:
                break
            reason = event.get("ResourceStatusReason", "")
            is_cause = not any(words in reason.lower() for words in _CONSEQUENCES)
            if event["ResourceStatus"].endswith("_FAILED") and is_cause:
                reasons.append(f"{event['LogicalResourceId']}: {reason}")
    return reasons[::-1]


def _description(name: str, found: Any) -> str:
    if given := found.get("Description"):
        return str(given)
    with errors_explained():
        # An emulated AWS describes a stack without its description.
        summary = client("cloudformation").get_template_summary(StackName=name)
    return str(summary.get("Description", ""))


class _NoStack(Exception):
    """CloudFormation knows no stack with the name."""


def _described(name: str) -> Any:
    try:
        [found] = client("cloudformation").describe_stacks(StackName=name)["Stacks"]
    except ClientError as error:
        # CloudFormation has no error code for an unknown stack.
        if error.response["Error"]["Code"] == "ValidationError":
            raise _NoStack from error
        raise
    return found
