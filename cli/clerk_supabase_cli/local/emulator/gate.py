"""Decides which requests reach the emulated AWS. Two kinds of requests do:

- Requests to the deployed API, from anybody on this machine, pages in a browser included: on AWS, the whole world may
  send such requests. The API itself decides which origins may read its answers.
- Requests that name an access key of this stack, from programs only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final
from urllib.parse import parse_qs

from clerk_supabase_cli.loopback import is_for_this_machine, is_from_a_browser

Scope = Mapping[str, Any]
Message = Mapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

# Stage and resources are plain words: a path that two parsers could read differently is rejected.
_DEPLOYED_API: Final = re.compile(r"/_aws/execute-api/[a-z0-9]+(/[A-Za-z0-9_-]+){2,}", re.ASCII)
# Reset, configuration, messages and code of the emulator: open to anybody, without credentials.
_ADMINISTRATION: Final = ("/_ministack", "/_localstack")
_CREDENTIAL: Final = re.compile(r"AWS4-HMAC-SHA256 .*?\bCredential=([^/,\s]+)/", re.ASCII)
# https://docs.aws.amazon.com/apigateway/latest/developerguide/limits.html: the payload of a request.
_LARGEST_BODY: Final = 10 * 1024 * 1024


class Rejected(Exception):
    """A request that does not reach the emulated AWS, with its answer."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        # As AWS answers: its clients show both.
        self.body = json.dumps({"__type": code, "message": message}).encode()


class Gate:
    """The emulated AWS, as an ASGI application that answers allowed requests only."""

    def __init__(self, aws: Application, *, knows: Callable[[str], bool]) -> None:
        """*knows*: whether an access key id is of this stack."""
        self._aws = aws
        self._knows = knows

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, or rejects the request."""
        if scope["type"] == "lifespan":
            await self._aws(scope, receive, send)
        elif scope["type"] == "websocket":
            # The bundle uses no WebSocket; a close before the handshake is a 403.
            await send({"type": "websocket.close"})
        else:
            await self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if self._is_for_the_deployed_api(scope):
                receive = _limited(receive)
            await self._aws(scope, receive, send)
        except Rejected as rejection:
            headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(rejection.body))]
            await send({"type": "http.response.start", "status": rejection.status, "headers": headers})
            await send({"type": "http.response.body", "body": rejection.body})

    def _is_for_the_deployed_api(self, scope: Scope) -> bool:
        """Tells whether anybody may send this request. Raises Rejected for a request forbidden to this sender."""
        target = scope["raw_path"].decode("latin-1")
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
        if not is_for_this_machine(target, headers):
            raise Rejected(403, "AccessDenied", "the request names another host than this local stack")
        if _DEPLOYED_API.fullmatch(target):
            return True
        if is_from_a_browser(headers):
            raise Rejected(403, "AccessDenied", "browsers reach only the deployed API of the local stack")
        if scope["path"].startswith(_ADMINISTRATION):
            raise Rejected(403, "AccessDenied", "the local stack is administered by the command that started it alone")
        if not self._knows(_access_key(headers, scope["query_string"])):
            message = "the local stack takes only the key that dev printed; `source .local/env` says it to a shell"
            raise Rejected(403, "UnrecognizedClientException", message)
        return False


def _access_key(headers: list[tuple[str, str]], query: bytes) -> str:
    """The access key id of a signature, in the header or in the query; empty unless there is exactly one signature."""
    authorizations = [value for name, value in headers if name.lower() == "authorization"]
    if not authorizations:
        credentials = parse_qs(query.decode("latin-1")).get("X-Amz-Credential", [])
        return credentials[0].partition("/")[0] if len(credentials) == 1 else ""
    found = _CREDENTIAL.match(authorizations[0]) if len(authorizations) == 1 else None
    return found[1] if found else ""


def _limited(receive: Receive) -> Receive:
    """Reads a body as far as API Gateway does; raises Rejected beyond."""
    size = 0

    async def limited() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > _LARGEST_BODY:
            raise Rejected(413, "RequestEntityTooLarge", "Request Too Long")
        return message

    return limited
