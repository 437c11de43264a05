"""Signs events as Svix does for Clerk, and makes the event of API Gateway for a function."""

from __future__ import annotations

import base64
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from clerk_supabase_cli.private_files import private_folder, write_privately


def generate_secret() -> str:
    """A signing secret in Svix's form: `whsec_` and the base64 of 24 random bytes."""
    return f"whsec_{base64.b64encode(secrets.token_bytes(24)).decode()}"


def webhook_secret_of(root: Path) -> str:
    """The signing secret of the checkout at *root* for local use, made on the first use.

    With a secret shared by all checkouts, anybody on this machine could sign events for a database given to `dev`.
    """
    file = private_folder(root) / "webhook-secret"
    if not file.exists():
        write_privately(file, generate_secret())
    return file.read_text()


def secret_key_of(root: Path) -> str:
    """The secret key of the stand-in for Clerk's Backend API in the checkout at *root*, made on the first use."""
    file = private_folder(root) / "clerk-secret-key"
    if not file.exists():
        write_privately(file, f"sk_test_{secrets.token_hex(20)}")
    return file.read_text()


def new_svix_id() -> str:
    """An id as Svix gives to a message; all retries and replays of the message keep it."""
    return f"msg_{secrets.token_hex(14)}"


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """An attempt to deliver a message."""

    headers: Mapping[str, str]
    body: bytes


def sign(event: Mapping[str, Any], secret: str, *, svix_id: str = "", at: float | None = None) -> SignedRequest:
    """Signs an event for an attempt. `at`: the moment of the attempt in seconds since 1970, by default now."""
    body = json.dumps(event, separators=(",", ":"), ensure_ascii=False)
    return sign_body(body, secret, svix_id=svix_id, at=at)


def sign_body(body: str, secret: str, *, svix_id: str = "", at: float | None = None) -> SignedRequest:
    """Signs any text, an event or not."""
    # The part of svix that signs. The package itself loads a whole API client, for half a second.
    from standardwebhooks.webhooks import Webhook  # noqa: PLC0415 - loads an HTTP client, and most commands sign nothing

    svix_id = svix_id or new_svix_id()
    moment = datetime.fromtimestamp(int(time.time() if at is None else at), UTC)
    headers = {
        "content-type": "application/json",
        "user-agent": "Svix-Webhooks/1.84.0",
        "svix-id": svix_id,
        "svix-timestamp": str(int(moment.timestamp())),
        "svix-signature": Webhook(secret).sign(svix_id, moment, body),
    }
    return SignedRequest(headers, body.encode())


def api_gateway_event(request: SignedRequest, *, base64_encoded: bool = False) -> dict[str, Any]:
    """The request as an event of a REST API's proxy integration, for the ingest function."""
    body = base64.b64encode(request.body) if base64_encoded else request.body
    return _proxy_event("/webhooks/clerk", request.headers, body.decode(), base64_encoded=base64_encoded)


def session_event(token: str, origin: str = "http://localhost:3000") -> dict[str, Any]:
    """The event of the session function for a page that posts its user's token."""
    headers = {"authorization": f"Bearer {token}", "origin": origin, "user-agent": "Mozilla/5.0"}
    return _proxy_event("/session", headers, None)


def _proxy_event(
    path: str, headers: Mapping[str, str], body: str | None, *, base64_encoded: bool = False
) -> dict[str, Any]:
    return {
        "resource": path,
        "path": path,
        "httpMethod": "POST",
        "headers": dict(headers),
        "multiValueHeaders": {name: [value] for name, value in headers.items()},
        "queryStringParameters": None,
        "multiValueQueryStringParameters": None,
        "pathParameters": None,
        "stageVariables": None,
        "requestContext": {
            "resourcePath": path,
            "httpMethod": "POST",
            "path": f"/dev{path}",
            "stage": "dev",
            "protocol": "HTTP/1.1",
            "requestId": "00000000-0000-4000-8000-000000000000",
            "identity": {"sourceIp": "192.0.2.7", "userAgent": headers.get("user-agent", "")},
        },
        "body": body,
        "isBase64Encoded": base64_encoded,
    }
