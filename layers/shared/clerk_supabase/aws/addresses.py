"""The addresses of a host, found within a limit of time, which `getaddrinfo` by itself does not have."""

from __future__ import annotations

import socket
from concurrent.futures import Future
from threading import Thread


class Addresses:
    """The addresses of one host. Once they are known, a resolver that fails is no failure. Not for several threads."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._known: list[str] = []
        self._lookup: Future[list[str]] | None = None
        """The lookup that the resolver has not answered yet. No other lookup begins beside it."""

    def found_within(self, seconds: float) -> list[str]:
        """The addresses in the order to try; those known from before when the resolver fails or is too slow.

        Raises gaierror when no address is known.
        """
        if self._lookup is None:
            begun: Future[list[str]] = Future()
            # A daemon: an interpreter that ends does not wait for the resolver.
            Thread(target=_look_up, args=(self._host, self._port, begun), daemon=True).start()
            self._lookup = begun
        lookup = self._lookup
        try:
            self._known = lookup.result(seconds)
        except (TimeoutError, OSError, UnicodeError, MemoryError) as error:
            if not self._known:
                self._lookup = None if lookup.done() else lookup
                reason = "the resolver did not answer in time" if isinstance(error, TimeoutError) else str(error)
                raise socket.gaierror(socket.EAI_AGAIN, reason) from error
        if lookup.done():
            self._lookup = None
        return self._known


def _look_up(host: str, port: int, lookup: Future[list[str]]) -> None:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, MemoryError) as error:
        lookup.set_exception(error)
    else:
        lookup.set_result(list(dict.fromkeys(str(place[0]) for *_, place in found)))
