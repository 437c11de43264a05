"""The Frontend API for the pages of an app on this machine, used by the real clerk-js."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec

from clerk_supabase_cli.standin.backend.rejections import Rejection
from clerk_supabase_cli.standin.frontend import own, sessions, sign_ins, sign_ups
from clerk_supabase_cli.standin.frontend.browsers import (
    CLIENT_COOKIE,
    client_cookies,
    cookie,
    handshake_cookie,
    is_page_of_this_machine,
    may_ask,
    origin_of,
)
from clerk_supabase_cli.standin.frontend.clients import Client
from clerk_supabase_cli.standin.frontend.people import People
from clerk_supabase_cli.standin.frontend.shapes import ENVIRONMENT
from clerk_supabase_cli.standin.frontend.visits import Handler, Visit
from clerk_supabase_cli.standin.samples import Json
from clerk_supabase_cli.standin.token_mint import Mint

_ROUTES: Final = [
    (method, re.compile(path.replace("{id}", "([^/]+)")), handler)
    for routes in (sign_ins.ROUTES, sign_ups.ROUTES, sessions.ROUTES, own.ROUTES)
    for (method, path), handler in routes.items()
]
# The version in the path is the one that clerk-js asks for; the installed one is served.
_SCRIPT: Final = re.compile(r"/npm/@clerk/(clerk-js|ui)@[^/]+/dist/([A-Za-z0-9._-]+\.js)")
_HANDSHAKE: Final = "/v1/client/handshake"


@dataclass(frozen=True, slots=True)
class PageRequest:
    """A request as received."""

    method: str
    target: str
    headers: Sequence[tuple[str, str]]
    body: bytes = b""

    def header(self, name: str) -> str:
        """The value of a header; empty without one."""
        return next((value for key, value in self.headers if key.lower() == name), "")


@dataclass(frozen=True, slots=True)
class PageAnswer:
    """An answer to be sent."""

    status: int
    body: bytes = b""
    headers: Sequence[tuple[str, str]] = (("content-type", "application/json"),)


@dataclass(slots=True)
class Pages:
    """Answers pages; all browsers share one world of users."""

    people: People
    mint: Mint
    publishable_key: str
    scripts: Path | None = None
    """A folder `node_modules` with clerk-js and Clerk's components."""
    lifetime: int = 60
    """Of tokens, in seconds."""
    _clients: dict[str, Client] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, request: PageRequest) -> PageAnswer:
        """The answer to any request except those for the keys."""
        if not may_ask(request.target, request.headers):
            return PageAnswer(403, Rejection(403, "not_for_browsers", "Only pages of this machine may ask.").body())
        if request.method == "OPTIONS":
            return PageAnswer(204, b"", self._cors(request))
        path = urlsplit(request.target).path
        if script := _SCRIPT.fullmatch(path):
            return self._script(request, *script.groups())
        with self._lock:
            try:
                return self._handshake(request) if path == _HANDSHAKE else self._api(request, path)
            except Rejection as rejection:
                return PageAnswer(rejection.status, rejection.body(), self._cors(request))

    def _api(self, request: PageRequest, path: str) -> PageAnswer:
        query = dict(parse_qsl(urlsplit(request.target).query, keep_blank_values=True))
        method = query.get("_method", request.method).upper()
        client = self._client(request)
        visit = self._visit(request, client or Client())
        if (method, path) == ("GET", "/v1/client"):
            return self._answered(request, visit, {"response": visit.client_json() if client else None})
        if path == "/v1/environment":
            return PageAnswer(200, _json(ENVIRONMENT), self._cors(request))
        handler, ids = _found(method, path)
        response = handler(visit, *ids)
        if handler is sessions.token:
            return PageAnswer(200, _json(response), self._cors(request))
        self._clients[visit.client.id] = visit.client
        return self._answered(request, visit, {"response": response, "client": visit.client_json()})

    def _visit(self, request: PageRequest, client: Client) -> Visit:
        form = dict(parse_qsl(request.body.decode("utf-8", "replace"), keep_blank_values=True))
        return Visit(self.people, self.mint, client, request.header("origin"), form, self.lifetime)

    def _client(self, request: PageRequest) -> Client | None:
        return self._clients.get(cookie(request.header("cookie"), CLIENT_COOKIE))

    def _answered(self, request: PageRequest, visit: Visit, body: Json) -> PageAnswer:
        cookies = [("set-cookie", each) for each in client_cookies(visit.client, self.publishable_key)]
        return PageAnswer(200, _json(body), [*self._cors(request), *cookies])

    def _handshake(self, request: PageRequest) -> PageAnswer:
        """Sends the browser back to its page, with cookies for the app's server."""
        query = dict(parse_qsl(urlsplit(request.target).query))
        back = query.get("redirect_url", "")
        if not is_page_of_this_machine(back):
            raise Rejection(422, "form_param_value_invalid", "not an address of this machine", "redirect_url")
        client = self._client(request) or Client()
        visit = Visit(self.people, self.mint, client, origin_of(back), {}, self.lifetime)
        visit.client_json()
        token = visit.token(client.sessions[0]) if client.sessions else ""
        renewed = handshake_cookie(client, token, self.publishable_key, self.mint.key)
        return PageAnswer(307, b"", [("location", back), ("set-cookie", renewed)])

    def _script(self, request: PageRequest, package: str, name: str) -> PageAnswer:
        file = self.scripts / "@clerk" / package / "dist" / name if self.scripts else None
        headers = [*self._cors(request)[1:], ("content-type", "text/javascript")]
        if file is None or not file.is_file():
            return PageAnswer(404, b"// not installed on this machine", headers)
        return PageAnswer(200, file.read_bytes(), [*headers, ("cache-control", "public, max-age=86400")])

    def _cors(self, request: PageRequest) -> list[tuple[str, str]]:
        origin = request.header("origin")
        if not origin:
            return [("content-type", "application/json")]
        return [
            ("content-type", "application/json"),
            ("access-control-allow-origin", origin),
            ("access-control-allow-credentials", "true"),
            ("access-control-allow-headers", "authorization, content-type, x-mobile, x-no-origin"),
            ("access-control-allow-methods", "GET, POST"),
            ("access-control-expose-headers", "authorization"),
            ("vary", "origin"),
        ]


def _found(method: str, path: str) -> tuple[Handler, list[str]]:
    for known, pattern, handler in _ROUTES:
        match = pattern.fullmatch(path)
        if match and known == method:
            return handler, [unquote(each) for each in match.groups()]
    raise Rejection(404, "not_found", f"the stand-in does not answer {method} {path}")


def _json(value: Mapping[str, object]) -> bytes:
    return msgspec.json.encode(value)
