"""The web server of the page, on 127.0.0.1 only."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final
from urllib.parse import urlsplit

import uvicorn

from clerk_supabase.postgres.connection_string import parse
from clerk_supabase_cli.console.guard import Guard, Keys
from clerk_supabase_cli.console.hub import Hub
from clerk_supabase_cli.console.pages import Pages
from clerk_supabase_cli.console.rendering import About, Rendering
from clerk_supabase_cli.console.wanted import Wanted
from clerk_supabase_cli.console.watch import Watch
from clerk_supabase_cli.failure import Failure
from clerk_supabase_cli.operate.database import DATABASE_URL
from clerk_supabase_cli.operator_name import operator_name

_HOST: Final = "127.0.0.1"
_MOST_CONNECTIONS: Final = 64


class PortTaken(Failure):
    """Another program listens on the port."""


class Console:
    """The page, ready to be served at `address`."""

    def __init__(self, wanted: Wanted) -> None:
        """Takes the port. Raises PortTaken."""
        self._socket = _listening(wanted.port)
        port = self._socket.getsockname()[1]
        keys, hub = Keys(), Hub()
        about = About(
            database=_described(wanted.database_url),
            stack=wanted.named.stack_name,
            can_write=wanted.can_write,
            can_replay=wanted.has_queues,
            form_token=keys.form,
            operator=operator_name(),
        )
        rendering = Rendering(about)
        is_local = urlsplit(os.environ.get("AWS_ENDPOINT_URL", "")).hostname == _HOST
        watch = Watch(wanted, hub, rendering, queues_are_local=is_local)
        self._pages = Pages(wanted, hub, rendering, watch, keys.folder)
        self.address = f"http://{_HOST}:{port}/?token={keys.entry}"
        """With the token that opens the page."""
        self._server = _Server(
            uvicorn.Config(
                Guard(self._pages.app, keys, port),
                log_config=None,
                log_level="critical",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                http="h11",
                ws="none",
                loop="asyncio",
                limit_concurrency=_MOST_CONNECTIONS,
                timeout_graceful_shutdown=1,
            ),
            self._pages.end,
        )

    def serve(self) -> None:
        """Answers requests until Ctrl-C or SIGTERM."""
        try:
            # uvicorn ends in order, and then raises Ctrl-C again.
            with suppress(KeyboardInterrupt):
                self._server.run(sockets=[self._socket])
        finally:
            self._socket.close()

    @contextmanager
    def served(self) -> Iterator[str]:
        """Answers requests during the block, in a thread; yields the address."""
        thread = threading.Thread(target=self.serve, name="console", daemon=True)
        thread.start()
        try:
            yield self.address
        finally:
            self._server.should_exit = True
            self._pages.end()
            thread.join()


class _Server(uvicorn.Server):
    """Ends the streams first: otherwise the server would wait for them."""

    def __init__(self, config: uvicorn.Config, before_end: Callable[[], None]) -> None:
        super().__init__(config)
        self._before_end = before_end

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Ends the server (uvicorn)."""
        self._before_end()
        await super().shutdown(sockets)


def _listening(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((_HOST, port))
        # A browser that is early waits, instead of being turned away.
        listener.listen(_MOST_CONNECTIONS)
    except OSError as error:
        listener.close()
        raise PortTaken(f"port {port} of {_HOST} is taken: choose another with --port, 0 is a free port") from error
    return listener


def _described(url: str) -> str:
    """The host and the name of the database, and nothing else of its URL."""
    given = parse(url, DATABASE_URL).keywords()
    return f"{given.get('host') or 'this machine'}/{given.get('dbname') or 'postgres'}"
