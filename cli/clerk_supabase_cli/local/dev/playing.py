"""Requests to the made-up Clerk instance of the stack that runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Self

import httpx

from clerk_supabase_cli.failure import Failure
from clerk_supabase_cli.local.dev.running import NotRunning, RunningStack, running_stack
from clerk_supabase_cli.standin.backend_api import BASE_PATH
from clerk_supabase_cli.standin.instance.control import PATH

_ANSWER_SECONDS: Final = 10.0


class NotPlayed(Failure):
    """The made-up Clerk instance rejects an operation."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class RunningInstance:
    """The instance of the `dev` that runs in this checkout, during the `with` block of its connection."""

    def __init__(self, stack: RunningStack) -> None:
        self._url = stack.clerk_api_url.removesuffix(BASE_PATH) + PATH
        self._headers = {"Authorization": f"Bearer {stack.clerk_secret_key}"}
        # A proxy of the environment could not reach this machine's loopback.
        self._client = httpx.Client(timeout=_ANSWER_SECONDS, trust_env=False)

    @classmethod
    def of(cls, root: Path) -> Self:
        """The instance of the stack that runs in the checkout at *root*. Raises NotRunning."""
        return cls(running_stack(root))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def do(
        self,
        operation: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        faults: Mapping[str, float] | None = None,
        api_lag: float = 0.0,
    ) -> dict[str, Any]:
        """Does an operation of `Instance`; returns the object and the webhooks. Raises NotPlayed and NotRunning."""
        request = {"operation": operation, "arguments": arguments or {}, "faults": faults or {}, "api_lag": api_lag}
        try:
            answer = self._client.post(self._url, json=request, headers=self._headers)
            said: dict[str, Any] = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise NotRunning(
                f"the stand-in for Clerk does not answer ({type(error).__name__}): is `dev` ending?"
            ) from error
        if not answer.is_success:
            [error_said] = said["errors"]
            raise NotPlayed(error_said["message"], error_said["code"])
        return said
