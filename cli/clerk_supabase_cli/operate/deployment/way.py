"""The way for a deployment: what is left of an earlier stack is deleted, or taken up by the new stack."""

from __future__ import annotations

from collections.abc import Callable

from clerk_supabase_cli.operate.deployment.kept_queues import kept, take_up
from clerk_supabase_cli.operate.deployment.stack import NEVER_WORKED, Stack, StackUnusable, deleted, settled


def make_way(name: str, stack: Stack | None, tell: Callable[[str], None]) -> None:
    """Makes a deployment possible. Raises AwsUnreachable and StackUnusable."""
    if stack and stack.status == "UPDATE_ROLLBACK_FAILED":
        raise StackUnusable(
            f"CloudFormation could not roll the last update of {name} back: run `aws cloudformation "
            f"continue-update-rollback --stack-name {name}`, and then this command again"
        )
    if stack and stack.status in NEVER_WORKED:
        tell(f"a deployment failed, and nothing of it works ({stack.status})")
        deleted(stack, name, tell)
        stack = None
    if stack is None and (queues := kept(name)):
        for queue in queues:
            tell(f"taking up the queue {queue.words}")
        take_up(name, queues)
        settled(name, lambda _: None)
