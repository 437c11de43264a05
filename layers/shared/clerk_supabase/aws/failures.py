"""Failures of requests to AWS, whichever client made the request."""

from __future__ import annotations

import sys


class AwsFailed(Exception):
    """A request that AWS did not answer, or answered with an error."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code
        """The code of AWS's error; empty without an answer."""


def failures() -> tuple[type[Exception], ...]:
    """The errors that a client raises. Behind `except`, the function is called only once something was raised.

    Ingest never loads botocore, whose errors alone take 20 ms of its cold start: a botocore that nobody has loaded
    has raised nothing.
    """
    botocore = sys.modules.get("botocore.exceptions")
    return (AwsFailed,) if botocore is None else (AwsFailed, botocore.BotoCoreError, botocore.ClientError)


def code_of(error: Exception) -> str:
    """The code of AWS's error; empty for a request without an answer."""
    if isinstance(error, AwsFailed):
        return error.code
    # Of a request without an answer, boto3 has no response, or an empty one.
    response = getattr(error, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))
