"""A TCP proxy for Postgres that counts round trips, and can delay, hold or drop connections."""

from __future__ import annotations

import asyncio
import contextlib
import selectors
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Final, Self, TypeVar

_CHUNK: Final = 1 << 16
_PATIENCE_SECONDS: Final = 10.0
# Closing says nothing to the other end but that the connection is gone.
_NO_GOODBYE: Final = struct.pack("ii", 1, 0)
# The message ReadyForQuery, but for its last byte, the state of the transaction.
_READY: Final = b"Z\x00\x00\x00\x05"

# The first messages of a statement: Query and Parse.
_STATEMENTS: Final = (b"Q", b"P")

T = TypeVar("T")


class CountingProxy:
    """Passes everything on to the Postgres on *target_port* of 127.0.0.1 while the `with` block lasts.

    A round trip begins when a client speaks first, and again when the client speaks after an answer, whatever the
    number of messages sent without a wait.
    """

    def __init__(self, target_port: int, delay_seconds: float = 0.0) -> None:
        """Makes a proxy. *delay_seconds*: the delay of every round trip, half of it on the way to the server."""
        self._target_port = target_port
        self._one_way = delay_seconds / 2
        # select() waits with microseconds, epoll with milliseconds.
        self._loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._connections: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._lets_in = False
        self._passes = asyncio.Event()
        self._passes.set()
        self.round_trips = 0
        """Number of round trips until now, over all connections."""
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self.port = self._run(self._listen())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_PATIENCE_SECONDS)
        self._loop.close()

    def cut(self) -> None:
        """Drops every connection as a broken network does. New ones are let through."""
        self._run(self._drop())

    def hold(self, *, statements_only: bool = False) -> None:
        """Passes nothing on any more, as a firewall that drops packets: connections are accepted, and stay silent.

        *statements_only*: lets clients log in, as a pooler that has lost its server.
        """
        self._lets_in = statements_only
        self._loop.call_soon_threadsafe(self._passes.clear)

    def go_on(self) -> None:
        """Passes everything on again, also what was held back."""
        self._loop.call_soon_threadsafe(self._passes.set)

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_PATIENCE_SECONDS)

    async def _listen(self) -> int:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def _close(self) -> None:
        self._server.close()
        await self._drop()

    async def _drop(self) -> None:
        for writer in self._writers:
            end: socket.socket = writer.get_extra_info("socket")
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_GOODBYE)
            writer.transport.abort()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accept(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await self._connect(client, to_client)
        finally:
            self._connections.discard(task)

    async def _connect(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        async with contextlib.AsyncExitStack() as ends:
            ends.push_async_callback(self._hang_up, to_client)
            self._writers.add(to_client)
            try:
                server, to_server = await asyncio.open_connection("127.0.0.1", self._target_port)
            except OSError:
                return
            ends.push_async_callback(self._hang_up, to_server)
            self._writers.add(to_server)
            turns = _Turns(self._count)
            there = asyncio.create_task(self._pass_on(client, to_server, turns.client_spoke))
            back = asyncio.create_task(self._pass_on(server, to_client, turns.server_spoke))
            # When one end closes, the other is closed at once.
            _, waiting = await asyncio.wait({there, back}, return_when=asyncio.FIRST_COMPLETED)
            for task in waiting:
                task.cancel()
            await asyncio.gather(there, back, return_exceptions=True)

    def _count(self) -> None:
        self.round_trips += 1

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, spoke: Callable[[bytes], None]
    ) -> None:
        on_the_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        delivery = asyncio.create_task(self._deliver(on_the_way, writer))
        try:
            while data := await reader.read(_CHUNK):
                spoke(data)
                on_the_way.put_nowait((self._loop.time() + self._one_way, data))
            await on_the_way.join()
        finally:
            delivery.cancel()
            await asyncio.gather(delivery, return_exceptions=True)

    async def _deliver(self, on_the_way: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
        while True:
            due, data = await on_the_way.get()
            if (early := due - self._loop.time()) > 0:
                await asyncio.sleep(early)
            if not self._lets_in or data.startswith(_STATEMENTS):
                await self._passes.wait()
            writer.write(data)
            on_the_way.task_done()

    async def _hang_up(self, writer: asyncio.StreamWriter) -> None:
        self._writers.discard(writer)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


class _Turns:
    """The turn of each side on one connection."""

    def __init__(self, count: Callable[[], None]) -> None:
        self._count = count
        self._waits_for_answer = False
        self._end = b""

    def client_spoke(self, _: bytes) -> None:
        if not self._waits_for_answer:
            self._count()
        self._waits_for_answer = True

    def server_spoke(self, data: bytes) -> None:
        # An error is sent as soon as it happens, while the rest of what the client said may still be on its way. The
        # answer ends where the server is ready again, or asks for a password, or says whether it speaks TLS.
        self._end = (self._end + data)[-len(_READY) - 1 :]
        if self._end.startswith(_READY) or data.startswith(b"R") or len(data) == 1:
            self._waits_for_answer = False
