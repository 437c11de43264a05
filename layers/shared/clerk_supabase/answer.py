"""An answer to a request over HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, headers and body of the answer to a request."""

    status: int
    message: str
    headers: Mapping[str, str] = field(default_factory=dict)
    """Headers by their names in lower case; without a content type, the body is plain text."""

    def to_api_gateway(self) -> dict[str, Any]:
        """The answer in the form of a REST API's proxy integration."""
        return {
            "statusCode": self.status,
            "headers": {"content-type": "text/plain; charset=utf-8", **self.headers},
            "body": self.message,
            "isBase64Encoded": False,
        }
