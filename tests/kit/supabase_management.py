"""A stand-in for Supabase's Management API, over HTTP, for the two settings of a project that `setup` makes.

It answers as https://supabase.com/docs/reference/api/introduction and packages/api/src/generated/openapi.json of
https://github.com/supabase/cli describe it; its successful answers have the form of the recorded answers in
apps/cli-e2e/fixtures/recorded of that repository. Not documented, and so chosen here: a second POST of an issuer makes
a second provider, and a paused project is answered 500.
"""

from __future__ import annotations

import json
import re
import threading
import uuid
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Final, Self

from tests.kit.clock import Clock

REF: Final = "abcdefghijklmnopqrst"
TOKEN: Final = f"sbp_{'0a1b2c3d' * 5}"
JWT_SECRET: Final = "wYu1Y5zcq5-a-secret-of-the-project"
RIGHTS: Final = frozenset({"auth_config_read", "auth_config_write", "data_api_config_read", "data_api_config_write"})

_WINDOW_SECONDS: Final = 60
_PATH: Final = re.compile(r"/v1/projects/([^/]+)(/postgrest|/config/auth/third-party-auth|)")
_KINDS: Final = {"/postgrest": "data_api_config", "/config/auth/third-party-auth": "auth_config", "": "project_admin"}
_NO_RIGHT: Final = "Your account does not have the necessary privileges to access this endpoint."


@dataclass(frozen=True)
class Answer:
    """An answer instead of the usual one."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    is_carried_out: bool = False
    """True: the request is carried out, and its answer gets lost."""


@dataclass
class SupabaseManagement:
    """An HTTP server on 127.0.0.1 during the `with` block, for the project REF and the token TOKEN."""

    db_schema: str = "public, graphql_public"
    providers: list[dict[str, Any]] = field(default_factory=list)
    rights: frozenset[str] = RIGHTS
    """The permissions of the token."""
    is_scoped: bool = True
    """True: the answer 403 names the missing permissions."""
    status: str = "ACTIVE_HEALTHY"
    limit: int = 120
    """The requests of one minute of the clock."""
    lag: int = 0
    """The number of reads after a change that show the settings from before."""
    clock: Clock = field(default_factory=Clock)
    instead: deque[Answer] = field(default_factory=deque)
    """Answers to the next requests."""
    requests: list[tuple[str, str, Any]] = field(default_factory=list)
    """Method, path and body of each request."""
    tokens: set[str] = field(default_factory=set)
    """Every Authorization header."""
    _window: tuple[float, int] = (float("-inf"), 0)
    _older: list[tuple[str, list[dict[str, Any]]]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        """The address of the server."""
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def changes(self) -> list[tuple[str, Any]]:
        """Method and body of the requests that change something."""
        return [(method, body) for method, _, body in self.requests if method != "GET"]

    @property
    def issuers(self) -> list[str]:
        """The issuers of the providers."""
        return [each["oidc_issuer_url"] for each in self.providers]

    def add(self, issuer: str | None, jwks_url: str | None = None) -> dict[str, Any]:
        """Adds a provider."""
        now = "2026-01-01T00:00:00Z"
        made: dict[str, Any] = {
            "id": str(uuid.uuid4()),
            "type": "custom",
            "inserted_at": now,
            "updated_at": now,
            "resolved_at": now,
        }
        made |= {"oidc_issuer_url": issuer, "jwks_url": jwks_url, "resolved_jwks": {"keys": []}}
        self.providers = [*self.providers, made]
        return made

    def __enter__(self) -> Self:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answer(self, method: str, path: str, token: str, body: Any) -> Answer:
        """The answer to one request."""
        with self._lock:
            self.requests.append((method, path, body))
            self.tokens.add(token)
            began, count = self._window
            if self.clock() >= began + _WINDOW_SECONDS:
                began, count = self.clock(), 0
            self._window = began, count + 1
            headers = {
                "x-ratelimit-limit": str(self.limit),
                "x-ratelimit-remaining": str(max(0, self.limit - count - 1)),
                "x-ratelimit-reset": str(round(began + _WINDOW_SECONDS - self.clock())),
            }
            if self.instead:
                instead = self.instead.popleft()
                if instead.is_carried_out:
                    self._usual(method, path, token, body)
                return instead
            status, said = 429, {"message": "ThrottlerException: Too Many Requests"}
            if count < self.limit:
                status, said = self._usual(method, path, token, body)
            return Answer(status, json.dumps(said).encode(), headers)

    def _usual(self, method: str, path: str, token: str, body: Any) -> tuple[int, Any]:
        if token != f"Bearer {TOKEN}":
            return 401, {"message": "Unauthorized"}
        found = _PATH.fullmatch(path)
        if found is None or found[1] != REF:
            return 404, {"message": "Project not found"}
        right = f"{_KINDS[found[2]]}_{'read' if method == 'GET' else 'write'}"
        if right not in self.rights | {"project_admin_read"}:
            return 403, {"message": _NO_RIGHT} | ({"missing_permissions": [right]} if self.is_scoped else {})
        if not found[2]:
            return 200, {"ref": REF, "status": self.status}
        if not self.status.startswith("ACTIVE_"):
            return 500, {"message": "Failed to retrieve project's postgrest config"}
        if method != "GET":
            self._older = [(self.db_schema, self.providers)] * self.lag
            return self._changed(method, found[2], body)
        db_schema, providers = self._older.pop() if self._older else (self.db_schema, self.providers)
        return 200, providers if found[2] != "/postgrest" else {**self._data_api(db_schema), "jwt_secret": JWT_SECRET}

    def _changed(self, method: str, part: str, body: Any) -> tuple[int, Any]:
        if (method, part) == ("PATCH", "/postgrest"):
            self.db_schema = body.get("db_schema", self.db_schema)
            return 200, self._data_api(self.db_schema)
        issuer = body.get("oidc_issuer_url") if isinstance(body, dict) else None
        # On a machine without a name in the DNS, the stand-in for Clerk has an address without TLS.
        if not isinstance(issuer, str) or not issuer.startswith(("https://", "http://127.0.0.1:")):
            return 400, {"message": "oidc_issuer_url must be an https URL"}
        return 201, self.add(issuer)

    def _data_api(self, db_schema: str) -> dict[str, Any]:
        return {"db_schema": db_schema, "max_rows": 1000, "db_extra_search_path": "public, extensions", "db_pool": None}


def _handler(api: SupabaseManagement) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            length = int(self.headers.get("content-length", 0))
            body = json.loads(self.rfile.read(length)) if length else None
            answer = api.answer(self.command, self.path, self.headers.get("authorization", ""), body)
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        do_POST = do_PATCH = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Writes nothing: a test looks at the requests."""

    return Handler
