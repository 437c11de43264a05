"""Requests to the deployed stack byte by byte, as no client library would send them, and signed requests."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPResponse
from urllib.parse import urlsplit

from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from clerk_supabase_cli.local.ministack import REGION
from clerk_supabase_cli.local.stack import LocalStack

Headers = Sequence[tuple[str, str]]

LIST_SECRETS: Headers = (
    ("X-Amz-Target", "secretsmanager.ListSecrets"),
    ("Content-Type", "application/x-amz-json-1.1"),
)
"""A request for data that only the developer may read."""


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def can_be_read_by_pages(self) -> bool:
        """Tells whether a browser would show the answer to a foreign page, or send the request after this preflight."""
        return any(name.startswith("access-control-") for name in self.headers)


def send(
    port: int,
    target: str = "/",
    *,
    method: str = "POST",
    headers: Headers = (),
    body: bytes = b"",
    hosts: Sequence[str] | None = None,
    version: str = "1.1",
) -> Answer:
    """Sends exactly these bytes; *hosts* replaces the `Host` header by any number of them."""
    named = [f"127.0.0.1:{port}"] if hosts is None else hosts
    lines = [
        f"{method} {target} HTTP/{version}",
        *(f"Host: {host}" for host in named),
        *(f"{name}: {value}" for name, value in headers),
        f"Content-Length: {len(body)}",
        "",
        "",
    ]
    return send_bytes(port, "\r\n".join(lines).encode("latin-1") + body, method=method)


def send_bytes(port: int, data: bytes, *, method: str = "POST") -> Answer:
    """The answer to any bytes at all."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(data)
        response = HTTPResponse(connection, method=method)
        response.begin()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())


def keys_of(stack: LocalStack) -> Credentials:
    """The only credentials that the stack takes."""
    environment = stack.ministack.environment
    return Credentials(environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"])


def signed(
    stack: LocalStack, keys: Credentials, body: bytes = b"{}", headers: Headers = LIST_SECRETS, target: str = "/"
) -> Headers:
    """The headers of a signed request."""
    request = AWSRequest("POST", f"{stack.ministack.endpoint}{target}", dict(headers), body)
    SigV4Auth(keys, "secretsmanager", REGION).add_auth(request)
    return list(request.headers.items())


def presigned(stack: LocalStack, keys: Credentials, query: str) -> str:
    """The target of a request to SQS with its signature in the query."""
    request = AWSRequest("GET", f"{stack.ministack.endpoint}/?{query}")
    SigV4QueryAuth(keys, "sqs", REGION).add_auth(request)
    url = urlsplit(str(request.url))
    return f"{url.path}?{url.query}"
