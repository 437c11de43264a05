"""The way of containers to the local stack: for them, and for nobody else."""

from __future__ import annotations

import contextlib
import errno
import socket
import sys
import threading
from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from clerk_supabase_cli.local.containers import let_containers_in, relayed
from clerk_supabase_cli.local.processes import LocalStackError

# Another address of this machine stands for that on Docker's bridge.
BRIDGE = "127.0.0.2"
# On macOS only 127.0.0.1 is up, so there is no second loopback address to try.
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux answers on all of 127.0.0.0/8")


@pytest.fixture
def port() -> Iterator[int]:
    """The port of a server on 127.0.0.1 that answers one connection, with its input in capitals."""

    def answer() -> None:
        # Closed in the end, with or without a client.
        with contextlib.suppress(OSError), server.accept()[0] as connection:
            while chunk := connection.recv(1024):
                connection.sendall(chunk.upper())

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=answer, daemon=True).start()
        yield server.getsockname()[1]


def ask(port: int, question: bytes) -> bytes:
    with socket.create_connection((BRIDGE, port), timeout=10) as connection:
        connection.sendall(question)
        connection.shutdown(socket.SHUT_WR)
        return connection.makefile("rb").read()


def test_a_request_from_a_container_arrives_and_is_answered(port: int) -> None:
    with relayed(BRIDGE, IPv4Network("127.0.0.0/8"), [port]):
        assert ask(port, b"who is there" * 10_000) == b"WHO IS THERE" * 10_000


def test_a_client_outside_the_bridge_is_refused(port: int) -> None:
    with relayed(BRIDGE, IPv4Network("172.17.0.0/16"), [port]):
        try:
            assert ask(port, b"who is there") == b""
        except OSError as error:
            # The error depends on how early the other end has closed.
            assert error.errno in {errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN}  # noqa: PT017 - it may also be answered, without an error


def test_nothing_is_left_listening(port: int) -> None:
    with relayed(BRIDGE, IPv4Network("127.0.0.0/8"), [port]):
        pass
    with pytest.raises(ConnectionRefusedError):
        ask(port, b"who is there")


def test_without_docker_the_message_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LocalStackError, match="install Docker, or leave out --containers"), let_containers_in([1]):
        pass
