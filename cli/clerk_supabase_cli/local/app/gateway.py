"""The front of Supabase's API on this machine: PostgREST answers requests for rows, a stand-in requests for files."""

from __future__ import annotations

import contextlib
import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Self

from clerk_supabase_cli.local.app.storage.answers import FileRequest, too_large
from clerk_supabase_cli.local.app.storage.api import LARGEST_FILE, PREFIX, Storage
from clerk_supabase_cli.loopback import Headers, may_read

_ROWS: Final = "/rest/v1"
_PATIENCE_SECONDS: Final = 30
_PER_HOP: Final = {"connection", "keep-alive", "transfer-encoding", "host", "content-length"}
# A form is larger than its file.
_LARGEST_BODY: Final = LARGEST_FILE + 1024 * 1024


class Gateway(ThreadingHTTPServer):
    """The server during the `with` block."""

    daemon_threads = True

    def __init__(self, port: int, postgrest_port: int, storage: Storage) -> None:
        """*port*: 0 for a free port."""
        super().__init__(("127.0.0.1", port), _Passage)
        self.postgrest_port = postgrest_port
        self.storage = storage
        self._thread = threading.Thread(target=self.serve_forever, name="gateway", daemon=True)

    @property
    def url(self) -> str:
        """The address for Supabase's clients."""
        return f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()


class _Passage(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Gateway

    def _pass(self) -> None:
        length = self.headers.get("Content-Length", "0")
        # A body that nobody reads would be the next request.
        self.close_connection = True
        if not may_read(self.path, self.headers.items()):
            self.send_error(403, "Only programs and pages of this machine may ask")
        elif not (length.isascii() and length.isdigit()):
            self.send_error(400)
        elif int(length) > _LARGEST_BODY:
            answer = too_large().answer
            self._send(answer.status, [*self._headers_for_pages(), *answer.headers.items()], answer.body)
        else:
            self.close_connection = False
            self._answer(self.rfile.read(int(length)))

    def _answer(self, body: bytes) -> None:
        if self.path.startswith(f"{_ROWS}/"):
            self._ask_postgrest(body)
        elif self.path.startswith(f"{PREFIX}/"):
            self._ask_storage(body)
        else:
            self.send_error(404)

    def _ask_postgrest(self, body: bytes) -> None:
        upstream = http.client.HTTPConnection("127.0.0.1", self.server.postgrest_port, timeout=_PATIENCE_SECONDS)
        with contextlib.closing(upstream):
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _PER_HOP}
            # PostgREST does not know the path that Supabase puts in front.
            upstream.request(self.command, self.path.removeprefix(_ROWS), body, headers)
            response = upstream.getresponse()
            content = response.read()
        passed = [(name, value) for name, value in response.getheaders() if name.lower() not in _PER_HOP]
        self._send(response.status, passed, content)

    def _ask_storage(self, body: bytes) -> None:
        if self.command == "OPTIONS":
            self._send(200, self._headers_for_pages(), b"")
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        answer = self.server.storage.answer(FileRequest(self.command, self.path, headers, body))
        self._send(answer.status, [*self._headers_for_pages(), *answer.headers.items()], answer.body)

    def _headers_for_pages(self) -> Headers:
        """The headers with which a page of this machine may read the answer."""
        origin = self.headers.get("Origin")
        if origin is None:
            return ()
        return (
            ("access-control-allow-origin", origin),
            ("access-control-allow-methods", "GET, POST, PUT, DELETE"),
            ("access-control-allow-headers", self.headers.get("Access-Control-Request-Headers", "*")),
            ("vary", "Origin"),
        )

    def _send(self, status: int, headers: Headers, body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _pass  # noqa: N815 - http.server's names

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class calls it so
        """Drops the line."""
