"""A stand-in for Clerk's Frontend API on this machine: discovery and keys, and, with `pages`, the API of web pages."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Final, Literal, Self

from clerk_supabase_cli.standin.frontend.pages import PageRequest, Pages
from clerk_supabase_cli.standin.token_mint import SigningKey

Mood = Literal["well", "failing", "garbage", "no keys", "huge", "redirecting", "silent", "dripping"]

_PATIENCE_SECONDS: Final = 30.0
_DRIP_SECONDS: Final = 0.2
_HUGE_BYTES: Final = 10_000_000
_MOST_BYTES: Final = 100_000


class FrontendApi:
    """An HTTP server on 127.0.0.1 during the `with` block, on a free port if none is given."""

    def __init__(self, *keys: SigningKey, port: int = 0, path: str = "") -> None:
        """*path*: the path of the API, as behind a proxy of the app."""
        self._path = path
        self.keys: Iterable[SigningKey] = keys
        """The present keys; another value is a rotation."""
        self.pages: Pages | None = None
        """The answers to an app's pages."""
        self.mood: Mood = "well"
        """The way of answering; may be changed at any time."""
        self.requests = 0
        """The number of requests for the keys."""
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="frontend api", daemon=True)

    @property
    def port(self) -> int:
        """The port of the server."""
        return self._server.server_port

    @property
    def issuer(self) -> str:
        """The issuer of its tokens: its address."""
        return f"http://127.0.0.1:{self.port}{self._path}"

    @property
    def jwks_url(self) -> str:
        """The address of the keys."""
        return f"{self.issuer}/.well-known/jwks.json"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._server.shutdown()
        self._thread.join(_PATIENCE_SECONDS)
        self._server.server_close()

    def jwks(self) -> dict[str, Any]:
        """The document with the present keys."""
        return {"keys": [dict(key.jwk) for key in self.keys]}

    def discovery(self) -> dict[str, Any]:
        """The discovery document, which OpenID Connect clients such as Supabase read first."""
        return {
            "issuer": self.issuer,
            "jwks_uri": self.jwks_url,
            "id_token_signing_alg_values_supported": ["RS256"],
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
        }

    def _answer_keys(self, handler: BaseHTTPRequestHandler) -> None:
        with self._lock:
            self.requests += 1
        document = json.dumps(self.jwks()).encode()
        match self.mood:
            case "well":
                _send(handler, 200, document)
            case "failing":
                _send(handler, 503, document)
            case "garbage":
                _send(handler, 200, b"<html>not found</html>")
            case "no keys":
                _send(handler, 200, b'{"keys": []}')
            case "huge":
                _send(handler, 200, document + b" " * _HUGE_BYTES)
            case "redirecting":
                handler.send_response(302)
                handler.send_header("location", "/elsewhere")
                handler.end_headers()
            case "silent":
                self._wait_for_the_end_of(handler.connection)
            case "dripping":
                self._drip(handler)

    def _wait_for_the_end_of(self, connection: socket.socket) -> None:
        # Ends as soon as the client gives up: then there is an end of file to read.
        connection.settimeout(_DRIP_SECONDS)
        while not self._ended.is_set():
            try:
                if not connection.recv(1):
                    return
            except TimeoutError:
                continue
            except OSError:
                return

    def _drip(self, handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        with contextlib.suppress(OSError):
            while not self._ended.wait(_DRIP_SECONDS):
                handler.wfile.write(b" ")

    def _answer_page(self, handler: BaseHTTPRequestHandler) -> None:
        if self.pages is None:
            _send(handler, 404, b"{}")
            return
        length = handler.headers.get("content-length") or "0"
        body = handler.rfile.read(min(int(length), _MOST_BYTES)) if length.isascii() and length.isdecimal() else b""
        answer = self.pages.answer(PageRequest(handler.command, handler.path, handler.headers.items(), body))
        handler.send_response(answer.status)
        for name, value in answer.headers:
            handler.send_header(name, value)
        handler.send_header("content-length", str(len(answer.body)))
        handler.end_headers()
        handler.wfile.write(answer.body)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                # A client that hangs up midway needs no answer.
                with contextlib.suppress(ConnectionError):
                    if self.path == f"{api._path}/.well-known/jwks.json":
                        api._answer_keys(self)
                    elif self.path == f"{api._path}/.well-known/openid-configuration":
                        _send(self, 200, json.dumps(api.discovery()).encode())
                    elif self.path == "/elsewhere":
                        _send(self, 200, json.dumps(api.jwks()).encode())
                    else:
                        api._answer_page(self)

            def do_POST(self) -> None:
                with contextlib.suppress(ConnectionError):
                    api._answer_page(self)

            def do_OPTIONS(self) -> None:
                self.do_POST()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class calls it so
                pass

        return Handler


def _send(handler: BaseHTTPRequestHandler, status: int, body: bytes) -> None:
    handler.send_response(status)
    handler.send_header("content-type", "application/json")
    handler.send_header("content-length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)
