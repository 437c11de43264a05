"""The door of the page: whose requests are answered.

The page listens on 127.0.0.1, which keeps other machines out, and lets in every web page in the browser of the
operator, every program and every other user of this machine. So each request proves that the operator was shown the
address: a token in the first address becomes a cookie.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clerk_supabase_cli.loopback import is_for_this_machine

LARGEST_FORM: Final = 4096
_COOKIE: Final = "clerk_supabase_console"
_FORM: Final = "application/x-www-form-urlencoded"
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: Final = (
    ("content-security-policy", _POLICY),
    ("cache-control", "no-store"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(), geolocation=(), microphone=()"),
    # With `no-referrer`, a browser hides the origin of a form, too.
    ("referrer-policy", "same-origin"),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
)


@dataclass(frozen=True, slots=True)
class Keys:
    """The secrets of one start of the page."""

    entry: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    """The token in the printed address."""
    session: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    """The value of the cookie, which no address holds."""
    form: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    """The token in each form."""
    folder: str = field(default_factory=lambda: f"/{secrets.token_hex(8)}/", repr=False)
    """The path of all pages. Ports do not separate cookies: by their path, no other server of 127.0.0.1 gets this
    cookie when the browser visits that server."""


class Guard:
    """Answers the requests of the operator's browser, and rejects all others."""

    def __init__(self, app: ASGIApp, keys: Keys, port: int) -> None:
        self._app = app
        self._keys = keys
        self._host = f"127.0.0.1:{port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request (ASGI)."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *((name.encode(), to.encode()) for name, to in HEADERS)]
            await send(message)

        request = Request(scope, receive)
        answer = self._rejection(request) or self._entry(request) or self._without_cookie(request)
        if answer is None and request.method == "POST":
            answer = await self._bad_form(request)
        await (answer or self._app)(scope, receive, send_with_headers)

    def _rejection(self, request: Request) -> Response | None:
        """The answer to a request that is not of this page."""
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.scope["headers"]]
        # The name of a foreign page may have been bound to 127.0.0.1.
        if not is_for_this_machine(request.scope["path"], headers) or request.headers.get("host") != self._host:
            return _rejected(421, f"This page has one address: http://{self._host}")
        if request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            return _rejected(403, "Another page has sent this request. Copy the address into the address bar.")
        if request.method not in ("GET", "HEAD", "POST"):
            return _rejected(405, "GET and POST only.")
        if request.headers.get("origin", self._origin) != self._origin:
            return _rejected(403, "Another page has sent this request.")
        return None

    @property
    def _origin(self) -> str:
        return f"http://{self._host}"

    def _entry(self, request: Request) -> Response | None:
        """The cookie, for the printed address."""
        token = request.query_params.get("token", "")
        if request.scope["path"] != "/" or not _equal(token, self._keys.entry):
            return None
        # The next address has no token: histories and screenshots may show it.
        answer = RedirectResponse(self._keys.folder, 303)
        answer.set_cookie(_COOKIE, self._keys.session, path=self._keys.folder, httponly=True, samesite="strict")
        return answer

    def _without_cookie(self, request: Request) -> Response | None:
        if _equal(request.cookies.get(_COOKIE, ""), self._keys.session):
            return None
        return _rejected(
            401, "Open the address that `clerk-supabase console` or `make dev` has printed, with its token."
        )

    async def _bad_form(self, request: Request) -> Response | None:
        """The answer to a form that is not of this page. The fields of a good form are in `request.state.form`."""
        if request.headers.get("origin") != self._origin:
            return _rejected(403, "A form has to name its own page as its origin.")
        if request.headers.get("content-type", "").partition(";")[0] != _FORM:
            return _rejected(415, "A form only.")
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > LARGEST_FORM:
                return _rejected(413, "Too large for a form of this page.")
        form = {name: values[-1] for name, values in parse_qs(body.decode("latin-1")).items()}
        if not _equal(form.get("token", ""), self._keys.form):
            return _rejected(403, "The page is of an earlier start: load it again.")
        request.state.form = form
        return None


def _equal(given: str, secret: str) -> bool:
    return secrets.compare_digest(given.encode(), secret.encode())


def _rejected(status: int, words: str) -> Response:
    return PlainTextResponse(f"{words}\n", status)
