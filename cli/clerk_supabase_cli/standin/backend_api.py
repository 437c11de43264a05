"""The stand-in for Clerk's Backend API over HTTP/1.1, on loopback."""

from __future__ import annotations

import json
import resource
import socket
import struct
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from email.utils import formatdate
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import parse_qsl, urlsplit

from clerk_supabase_cli.loopback import is_for_this_machine, is_from_a_browser
from clerk_supabase_cli.standin.backend.answers import Answers
from clerk_supabase_cli.standin.backend.rate_windows import RateWindows
from clerk_supabase_cli.standin.backend.rejections import Rejection
from clerk_supabase_cli.standin.faults import Fault, Faults, Request
from clerk_supabase_cli.standin.instance.control import PATH as CONTROL_PATH
from clerk_supabase_cli.standin.instance.control import Control
from clerk_supabase_cli.standin.worlds import World

BASE_PATH: Final = "/v1"
_LIMITS: Final = {"sk_live_": 1000, "sk_test_": 100}
_MOST_REMEMBERED: Final = 100_000
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
_DRIP_SECONDS: Final = 0.05
_PATIENCE_SECONDS: Final = 10.0


def _milliseconds_now() -> int:
    return time.time_ns() // 1_000_000


class ClerkApi:
    """Answers requests during the `with` block, with a thread for each connection."""

    def __init__(
        self,
        answers: Answers,
        *,
        port: int = 0,
        has_rate_limit: bool = False,
        control: Control | None = None,
        clock: Callable[[], int] = _milliseconds_now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`control`: answers POST /control, for programs with the secret key.

        `clock`: Clerk's clock in milliseconds, for the header `Date`; `monotonic`: the clock of the rate limit.
        """
        self.answers = answers
        self.control = control
        self.faults = Faults()
        self.requests: deque[Request] = deque(maxlen=_MOST_REMEMBERED)
        """The latest requests, oldest first, with any answer."""
        self.counts: Counter[str] = Counter()
        """Requests by endpoint, such as `GET /users/{id}`; `offset > 0` counts requests with an offset."""
        self.clock = clock
        self.rate = RateWindows(_LIMITS.get(answers.key[:8], 1000), monotonic) if has_rate_limit else None
        self.stopped = threading.Event()
        self._count_lock = threading.Lock()
        self._server = _Server(port, self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="clerk-api", daemon=True)
        self.port: int = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}{BASE_PATH}"

    @property
    def world(self) -> World:
        """The made-up world. Change it inside `writing` only."""
        return self.answers.world

    @contextmanager
    def writing(self) -> Iterator[World]:
        """Lends the world for a change; requests wait meanwhile."""
        with self.answers.lock:
            yield self.world

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stopped.set()
        self._server.shutdown()
        self._thread.join()
        self._server.hang_up()
        self._server.server_close()

    def status(self) -> bytes:
        """The state as JSON: `counts` of requests, and `peak_bytes`, the peak memory of the process."""
        return json.dumps({"counts": self.counts, "peak_bytes": _peak_bytes()}).encode()

    def note(self, request: Request) -> None:
        """Counts a request."""
        with self._count_lock:
            self.requests.append(request)
            self.counts[self.answers.route(request)] += 1
            if request.value("offset", "0") not in ("", "0"):
                self.counts["offset > 0"] += 1


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, api: ClerkApi) -> None:
        self.api = api
        self._connections: set[socket.socket] = set()
        self._changed = threading.Condition()
        super().__init__(("127.0.0.1", port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._changed:
            self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        with self._changed:
            self._connections.discard(request)
            self._changed.notify_all()

    def hang_up(self) -> None:
        """Ends the connections kept alive."""
        with self._changed:
            for connection in self._connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            self._changed.wait_for(lambda: not self._connections, _PATIENCE_SECONDS)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        self._handle()

    def do_POST(self) -> None:
        self._handle()

    def do_PATCH(self) -> None:
        self._handle()

    def do_DELETE(self) -> None:
        self._handle()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class calls it so
        """Drops the line, because the log of this server is not read."""

    def _handle(self) -> None:
        api = self.server.api
        if not is_for_this_machine(self.path, self.headers.items()) or is_from_a_browser(self.headers.items()):
            rejection = Rejection(
                403, "not_for_browsers", "Programs on this machine reach it as 127.0.0.1 or localhost."
            )
            # The body is not read, and would be taken for the next request.
            self.close_connection = True
            self._send(
                rejection.status, {"Content-Type": "application/json", "Connection": "close"}, rejection.body(), ""
            )
            return
        if self.path == "/status":
            self._send(HTTPStatus.OK, {"Content-Type": "application/json"}, api.status(), "")
            return
        if self.path == CONTROL_PATH and api.control and self.command == "POST":
            self._send_control(api.control)
            return
        request = self._request()
        api.note(request)
        faults = api.faults.take(request)
        for fault in faults:
            if fault.happening:
                with api.writing():
                    fault.happening()
        wire = next((each.wire for each in faults if each.wire), "")
        if wire in ("hang", "reset"):
            self._break_off(wire)
            return
        headers: dict[str, str | None] = {"Content-Type": "application/json"}
        status = HTTPStatus.OK.value
        try:
            self._check_rate(request, headers)
            for each in faults:
                request = each.request(request) if each.request else request
            _reject_as_told(faults)
            body = api.answers.body(request, next((each.alter for each in faults if each.alter), None))
        except Rejection as rejection:
            status, body = rejection.status, rejection.body()
        for each in faults:
            headers |= each.headers
            body = body if each.body is None else each.body
        self._send(status, headers, body, wire)

    def _request(self) -> Request:
        parts = urlsplit(self.path)
        length = int(self.headers.get("content-length") or 0)
        return Request(
            self.command,
            parts.path.removeprefix(BASE_PATH) if parts.path.startswith(BASE_PATH) else "",
            tuple(parse_qsl(parts.query, keep_blank_values=True)),
            {name.lower(): value for name, value in self.headers.items()},
            self.rfile.read(length) if length else b"",
        )

    def _send_control(self, operations: Control) -> None:
        request = self._request()
        try:
            self.server.api.answers.check_key(request)
            status, body = HTTPStatus.OK.value, json.dumps(operations.answer(request.body)).encode()
        except Rejection as rejection:
            status, body = rejection.status, rejection.body()
        self._send(status, {"Content-Type": "application/json"}, body, "")

    def _check_rate(self, request: Request, headers: dict[str, str | None]) -> None:
        api = self.server.api
        seconds = api.rate.retry_after(api.answers.route(request)) if api.rate else 0
        if seconds:
            headers["Retry-After"] = str(seconds)
            raise Rejection(429, "rate_limit_exceeded", "Too many requests. Please try again in a bit.")

    def _send(self, status: int, headers: dict[str, str | None], body: bytes, wire: str) -> None:
        date = formatdate(self.server.api.clock() / 1000, usegmt=True)
        lines = {"Date": date, "Content-Length": str(len(body))} | headers
        if wire == "cut_chunked":
            lines |= {"Content-Length": None, "Transfer-Encoding": "chunked"}
        head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n" + "".join(
            f"{name}: {value}\r\n" for name, value in lines.items() if value is not None
        )
        if wire == "cut_chunked":
            body = b"%x\r\n%s" % (len(body), body)
        if wire.startswith("cut"):
            body = body[: len(body) // 2]
            self.close_connection = True
        start = f"{head}\r\n".encode()
        if wire == "drip":
            self._drip(start, body)
        else:
            self.wfile.write(start + body)

    def _drip(self, start: bytes, body: bytes) -> None:
        self.wfile.write(start)
        for place in range(len(body)):
            self.wfile.write(body[place : place + 1])
            if self.server.api.stopped.wait(_DRIP_SECONDS):
                break
        self.close_connection = True

    def _break_off(self, wire: str) -> None:
        self.close_connection = True
        if wire == "hang":
            self.server.api.stopped.wait()
        else:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            self.connection.close()


def _reject_as_told(faults: Sequence[Fault]) -> None:
    for fault in faults:
        if fault.status:
            raise Rejection(fault.status, fault.code, "as the test wants it")


def _peak_bytes() -> int:
    with suppress(OSError):
        # getrusage would count the memory of the parent process at the start, too.
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
