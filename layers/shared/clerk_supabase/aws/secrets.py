"""Secrets from Secrets Manager, cached for as long as a function's environment lives."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from clerk_supabase.aws.failures import code_of, failures
from clerk_supabase.aws.snapshot import once_started
from clerk_supabase.errors import SecretUnavailable

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

    from clerk_supabase.aws.lean_client import LeanClient

MAX_AGE_SECONDS = 300.0
RECHECK_SECONDS = 60.0
# Svix makes its second attempt after five seconds.
RETRY_SECONDS = 4.0
# Of a function that only a queue calls: a message that meets a kept failure comes again minutes later, so that the
# failure is kept only for the other messages of its batch.
RETRY_SECONDS_OF_QUEUES = 0.5


class Secret:
    """A secret. A rotated value is found without a deploy, and no sender can cause a flood of requests."""

    def __init__(
        self,
        client: SecretsManagerClient | LeanClient,
        arn: str,
        clock: Callable[[], float] = time.monotonic,
        *,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        """*retry_seconds*: the time for which a secret that could not be read is not requested again."""
        self._client = client
        self._arn = arn
        self._clock = clock
        self._retry_seconds = retry_seconds
        self._value: str | None = None
        self._failure: SecretUnavailable | None = None
        self._retry_after = -math.inf
        self._refresh_after = -math.inf
        self._recheck_after = -math.inf

    @property
    def source(self) -> str:
        """The name of the secret, for errors about its value."""
        return f"secret {self._arn}"

    def value(self) -> str:
        """The secret, at most five minutes old while Secrets Manager answers.

        Raises SecretUnavailable when the secret was never fetched and cannot be fetched now.
        """
        if self._value is None:
            self._value = self._fetch_first()
        elif self._clock() >= self._refresh_after:
            self._refresh()
        return self._value

    def read_ahead(self) -> None:
        """Reads the secret while the environment starts, when a function has more of the processor than later.

        A failure is left to the first event, which is answered and counted as always. Under SnapStart, each restored
        environment reads the secret: no snapshot holds it.
        """
        once_started(self._read)

    def _read(self) -> None:
        with contextlib.suppress(SecretUnavailable):
            self.value()

    def changed(self) -> bool:
        """Fetches the secret again after its value failed, at most once a minute. True: the value is another."""
        if self._clock() < self._recheck_after:
            return False
        self._recheck_after = self._clock() + RECHECK_SECONDS
        before = self._value
        self._refresh()
        return self._value != before

    def _fetch_first(self) -> str:
        # Any sender can make the function read an unreadable secret: forged requests share a single attempt.
        if self._failure is not None and self._clock() < self._retry_after:
            raise self._failure
        try:
            return self._fetch()
        except SecretUnavailable as error:
            self._failure = error
            self._retry_after = self._clock() + self._retry_seconds
            raise

    def _refresh(self) -> None:
        try:
            self._value = self._fetch()
        except SecretUnavailable:
            # The old value may still be right, and is better than no answer.
            self._refresh_after = self._clock() + RECHECK_SECONDS

    def _fetch(self) -> str:
        try:
            value = self._client.get_secret_value(SecretId=self._arn).get("SecretString") or ""
        except failures() as error:
            if code_of(error) == "ResourceNotFoundException":
                raise self._empty() from error
            raise SecretUnavailable(f"{self.source} could not be read: {error}") from error
        if not value.strip():
            raise self._empty()
        self._refresh_after = self._clock() + MAX_AGE_SECONDS
        return value

    def _empty(self) -> SecretUnavailable:
        """The error for a secret without a value: the stack creates its secrets empty."""
        return SecretUnavailable(f"{self.source} is not filled yet: run clerk-supabase setup --store-secrets STACK")
