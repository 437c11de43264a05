"""The secrets of a deployed stack, found by its outputs."""

from __future__ import annotations

from collections.abc import Collection

from botocore.exceptions import ClientError

from clerk_supabase_cli.operate.queues import client


def secrets_of_stack(stack_name: str, parameters: Collection[str]) -> dict[str, str]:
    """The ids of a stack's secrets by the parameters that may name them; empty for an unknown stack.

    The outputs of template.yaml have the names of the parameters. Raises botocore's errors.
    """
    try:
        answer = client("cloudformation").describe_stacks(StackName=stack_name)
    except ClientError as error:
        # CloudFormation has no error code for an unknown stack.
        if error.response["Error"]["Code"] == "ValidationError":
            return {}
        raise
    outputs = {each["OutputKey"]: each["OutputValue"] for each in answer["Stacks"][0].get("Outputs", [])}
    return {parameter: outputs[parameter] for parameter in parameters if parameter in outputs}
