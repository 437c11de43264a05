"""What a request over HTTP is answered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Answer:
    """What the sender gets."""

    status: int
    message: str
    headers: Mapping[str, str] = field(default_factory=dict)
    """Names in lower case; plain text unless they say otherwise."""

    def to_api_gateway(self) -> dict[str, Any]:
        """The answer as a REST API's proxy integration wants it."""
        return {
            "statusCode": self.status,
            "headers": {"content-type": "text/plain; charset=utf-8", **self.headers},
            "body": self.message,
            "isBase64Encoded": False,
        }
