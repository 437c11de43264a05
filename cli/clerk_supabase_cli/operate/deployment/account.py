"""The AWS account of a deployment: its number, region and the concurrency of Lambda."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import boto3
from botocore.exceptions import ClientError

from clerk_supabase_cli.operate.queues import AwsUnreachable, client, errors_explained

_USUAL_CONCURRENCY: Final = 1000
_MUST_STAY_UNRESERVED: Final = 100
_OTHER_POLLERS: Final = 4
"""Simultaneous runs of retry: two for each of its queues."""
_FOR_WEBHOOKS: Final = 3
LEAST_SYNC_CONCURRENCY: Final = "2"
"""The smallest SyncMaximumConcurrency."""
_RESERVING: Final = ("IngestReservedConcurrency", "SessionReservedConcurrency")


@dataclass(frozen=True, slots=True)
class Account:
    """An AWS account in one region."""

    number: str
    region: str
    concurrency: int
    """The number of functions that the account runs at once."""
    unreserved: int
    """The part of the concurrency that no function has reserved."""

    @classmethod
    def of_this_shell(cls) -> Account:
        """The account of this shell's credentials. Raises AwsUnreachable."""
        tokens = client("sts")
        with errors_explained():
            number = tokens.get_caller_identity()["Account"]
        return cls(number, str(tokens.meta.region_name), *_concurrency())

    def is_small_for(self, parameters: Mapping[str, str]) -> bool:
        """Tells whether an outage of the database could leave less than three simultaneous runs for webhooks."""
        return self.concurrency < int(parameters["SyncMaximumConcurrency"]) + _OTHER_POLLERS + _FOR_WEBHOOKS

    def problems(self, wanted: Mapping[str, str], deployed: Mapping[str, str]) -> Iterator[str]:
        """The reservations that Lambda would not grant; *deployed* are the values of the stack, if there is one."""
        more = sum(int(wanted[name]) - int(deployed.get(name, "0")) for name in _RESERVING)
        if more > 0 and self.unreserved - more < _MUST_STAY_UNRESERVED:
            yield (
                f"{' and '.join(_RESERVING)} reserve {more} more, and Lambda must keep {_MUST_STAY_UNRESERVED} of the "
                f"{self.unreserved} unreserved: set both to 0, or ask AWS for more concurrency in Service Quotas"
            )


def _concurrency() -> tuple[int, int]:
    """The concurrency of the account, and its unreserved part; if nobody may ask, as much as most accounts have."""
    functions = client("lambda")
    with errors_explained():
        try:
            limits = functions.get_account_settings()["AccountLimit"]
        except ClientError:
            return _USUAL_CONCURRENCY, _USUAL_CONCURRENCY
    return limits["ConcurrentExecutions"], limits["UnreservedConcurrentExecutions"]


def default_region() -> str:
    """The region in AWS's own configuration of this shell; empty without any. Raises AwsUnreachable."""
    with errors_explained():
        session = boto3.session.Session(region_name=os.environ.get("AWS_REGION") or None)
        return session.region_name or ""


@contextmanager
def in_region(region: str) -> Iterator[None]:
    """Names the region to all AWS tools inside the block. Raises AwsUnreachable without a region."""
    if not region:
        raise AwsUnreachable("no AWS region: set AWS_REGION, or add --region, such as --region eu-central-1")
    names = ("AWS_REGION", "AWS_DEFAULT_REGION")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, region))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
