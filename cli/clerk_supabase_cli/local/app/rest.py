"""Supabase's API for the tables of a database on this machine: PostgREST, with a gateway in front of it."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
import urllib.request
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.error import URLError

import psycopg
from jwt.utils import base64url_encode
from psycopg import sql

from clerk_supabase_cli.local.processes import Guard, LocalStackError, free_port, last_lines
from clerk_supabase_cli.loopback import may_read
from clerk_supabase_cli.standin.token_mint import LOCAL_JWT_SECRET

AUTHENTICATOR: Final = "authenticator"
_PREFIX: Final = "/rest/v1"
_PATIENCE_SECONDS: Final = 30
_PER_HOP: Final = {"connection", "keep-alive", "transfer-encoding", "host", "content-length"}


class RestFailed(LocalStackError):
    """PostgREST did not start."""


class SupabaseApi:
    """The API during the `with` block."""

    def __init__(
        self,
        program: Path,
        database_url: str,
        keys: Sequence[Mapping[str, Any]],
        *,
        port: int = 0,
        connections: int = 10,
        schemas: str = "public,clerk",
    ) -> None:
        """*database_url*: as `authenticator`; *keys*: the keys (JWK) whose tokens are accepted."""
        self._program = program
        self._settings = {
            "PGRST_DB_URI": database_url,
            "PGRST_DB_SCHEMAS": schemas,
            "PGRST_DB_ANON_ROLE": "anon",
            "PGRST_DB_POOL": str(connections),
            "PGRST_JWT_SECRET": json.dumps({"keys": [dict(key) for key in keys]}),
            "PGRST_SERVER_HOST": "127.0.0.1",
        }
        self._guard = Guard()
        self._gateway = _Gateway(port)
        self._thread = threading.Thread(target=self._gateway.serve_forever, name="gateway", daemon=True)

    @property
    def url(self) -> str:
        """The address for Supabase's clients."""
        return f"http://127.0.0.1:{self._gateway.server_port}"

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as undo:
            undo.enter_context(self._guard)
            self._start()
            self._thread.start()
            self._undo = undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._gateway.shutdown()
        self._thread.join()
        self._gateway.server_close()
        self._undo.close()

    def _start(self) -> None:
        """Starts PostgREST and waits until it has read the schema. Raises RestFailed."""
        self._gateway.postgrest_port, admin_port = free_port(), free_port()
        ports = {
            "PGRST_SERVER_PORT": str(self._gateway.postgrest_port),
            "PGRST_ADMIN_SERVER_PORT": str(admin_port),
        }
        log = self._guard.folder("clerk-supabase-postgrest-") / "postgrest.log"
        process = self._guard.start([str(self._program)], log=log, env=self._settings | ports)
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not _is_ready(admin_port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RestFailed(f"PostgREST did not start; last lines of its log:\n{last_lines(log, 20)}")
            time.sleep(0.02)


def _is_ready(admin_port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{admin_port}/ready", timeout=5):
            return True
    except (URLError, ConnectionError, TimeoutError):
        return False


class _Gateway(ThreadingHTTPServer):
    """Passes requests on to PostgREST, which does not know the path that Supabase puts in front."""

    daemon_threads = True

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Passage)
        self.postgrest_port = 0


class _Passage(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Gateway

    def _pass(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if not may_read(self.path, self.headers.items()):
            self.send_error(403, "Only programs and pages of this machine may ask")
            return
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

    do_GET = do_POST = do_PATCH = do_DELETE = do_OPTIONS = _pass  # noqa: N815 - the names that http.server looks for

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class calls it so
        """Drops the line."""


def create_authenticator(owner: psycopg.Connection, password: str) -> None:
    """Creates the login role of PostgREST, whose only right is to become one of the API's roles."""
    name = sql.Identifier(AUTHENTICATOR)
    owner.execute(sql.SQL("create role {} login noinherit password {}").format(name, sql.Literal(password)))
    owner.execute(sql.SQL("grant anon, authenticated, service_role to {}").format(name))


def project_secret() -> Mapping[str, str]:
    """The JWT secret of the project, as a key (JWK): Supabase gives PostgREST this key beside those of Clerk."""
    return {"kty": "oct", "alg": "HS256", "k": base64url_encode(LOCAL_JWT_SECRET.encode()).decode()}
