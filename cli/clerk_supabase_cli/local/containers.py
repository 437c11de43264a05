"""Lets containers on this machine, such as those of `sam local`, reach the local stack.

The whole stack listens on 127.0.0.1, and a container has its own 127.0.0.1. `sam local` cannot give a container this
machine's network, but it can make `localhost` mean this machine (`--add-host localhost:host-gateway`). The address is
then the address of Docker's bridge, where a relay passes on the connections of containers, and of nobody else.
Docker Desktop and similar programs have no such bridge here, and deliver to 127.0.0.1 themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import subprocess
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from ipaddress import IPv4Network, ip_address, ip_network
from typing import Any, Final, cast

from clerk_supabase_cli.local.processes import LocalStackError

Relay = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]

_CHUNK_BYTES: Final = 65_536
_DOCKER_SECONDS: Final = 20.0


@contextlib.contextmanager
def let_containers_in(ports: Sequence[int]) -> Iterator[None]:
    """Relays these ports of Docker's bridge to the same ports of 127.0.0.1, for containers only.

    Raises LocalStackError when Docker does not answer.
    """
    address, network = _bridge()
    with relayed(address, network, ports):
        yield


@contextlib.contextmanager
def relayed(address: str, network: IPv4Network, ports: Sequence[int]) -> Iterator[None]:
    """Passes connections from *network* to these ports of *address* on to the same ports of 127.0.0.1.

    An address of another machine is left alone. Raises LocalStackError for a port in use.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="relay to containers", daemon=True)
    thread.start()
    try:
        servers = asyncio.run_coroutine_threadsafe(_listen(address, network, ports), loop).result()
        try:
            yield
        finally:
            asyncio.run_coroutine_threadsafe(_close(servers), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def _bridge() -> tuple[str, IPv4Network]:
    """This machine's address on the default bridge of containers, and the containers' addresses."""
    command = ["docker", "network", "inspect", "bridge", "--format", "{{json .IPAM.Config}}"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_DOCKER_SECONDS)
        [configuration, *_] = json.loads(answer.stdout)
        network = cast("IPv4Network", ip_network(configuration["Subnet"]))
        return configuration.get("Gateway") or str(next(network.hosts())), network
    except FileNotFoundError as error:
        raise LocalStackError("there is no `docker` command: install Docker, or leave out --containers") from error
    except subprocess.CalledProcessError as error:
        raise LocalStackError(f"Docker does not answer: {error.stderr.strip()}") from error
    except (subprocess.TimeoutExpired, ValueError, KeyError) as error:
        raise LocalStackError(f"Docker does not say where its bridge is: `{' '.join(command)}`") from error


async def _listen(address: str, network: IPv4Network, ports: Sequence[int]) -> list[asyncio.Server]:
    servers = []
    for port in ports:
        try:
            servers.append(await asyncio.start_server(_passed_on(port, network), address, port))
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                # The bridge is on Docker's own virtual machine, which needs no relay.
                return servers
            await _close(servers)
            raise LocalStackError(f"containers cannot be let in at {address}:{port}: {error}") from error
    return servers


async def _close(servers: Sequence[asyncio.Server]) -> None:
    for server in servers:
        server.close()
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
    await asyncio.sleep(0)


def _passed_on(port: int, network: IPv4Network) -> Relay:
    # The loop holds tasks only weakly, and nothing else holds a task whose two ends are silent.
    running: set[asyncio.Task[Any] | None] = set()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        running.add(asyncio.current_task())
        with contextlib.suppress(OSError, asyncio.CancelledError):
            try:
                # Another machine with a route can reach the bridge's address, but cannot pose as a container: the
                # answers would go to the bridge.
                if ip_address(writer.get_extra_info("peername")[0]) not in network:
                    return
                inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
                try:
                    await asyncio.gather(_pump(reader, inner_writer), _pump(inner_reader, writer))
                finally:
                    inner_writer.close()
            finally:
                writer.close()
                running.discard(asyncio.current_task())

    return relay


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while chunk := await source.read(_CHUNK_BYTES):
        target.write(chunk)
        await target.drain()
    if target.can_write_eof():
        target.write_eof()
