"""The code of a stack in the bucket of SAM, which SAM itself never deletes."""

from __future__ import annotations

from typing import Any, Final

from botocore.exceptions import ClientError

from clerk_supabase_cli.operate.queues import client, errors_explained

_STACK_OF_SAM: Final = "aws-sam-cli-managed-default"
_BUCKET: Final = "SourceBucket"


def delete_artifacts(stack_name: str) -> int:
    """Deletes the code that was uploaded for a stack; returns the number of objects. Raises AwsUnreachable."""
    with errors_explained():
        bucket = _bucket()
        if not bucket:
            return 0
        s3 = client("s3")
        versions = [
            {"Key": each["Key"], "VersionId": each["VersionId"]}
            for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=f"{stack_name}/")
            for each in [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
        ]
        for start in range(0, len(versions), 1000):
            s3.delete_objects(Bucket=bucket, Delete={"Objects": versions[start : start + 1000], "Quiet": True})
        return len(versions)


def _bucket() -> str:
    """The name of the bucket; empty if SAM never made a bucket in this account and region."""
    try:
        [found] = client("cloudformation").describe_stacks(StackName=_STACK_OF_SAM)["Stacks"]
    except ClientError as error:
        if error.response["Error"]["Code"] == "ValidationError":
            return ""
        raise
    outputs: dict[str, Any] = {each["OutputKey"]: each["OutputValue"] for each in found.get("Outputs", [])}
    return str(outputs.get(_BUCKET, ""))
