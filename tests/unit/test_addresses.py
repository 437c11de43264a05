"""A lookup of addresses that fails: the next lookup begins anew."""

from __future__ import annotations

import socket
from threading import Thread
from typing import Any

import pytest

from clerk_supabase.aws.addresses import Addresses


def test_a_thread_that_cannot_start_ends_no_later_lookup(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Thread) -> None:
        raise RuntimeError("can't start new thread")

    addresses = Addresses("127.0.0.1", 80)
    with monkeypatch.context() as full:
        full.setattr(Thread, "start", refuse)
        with pytest.raises(RuntimeError):
            addresses.found_within(5)
    assert addresses.found_within(5) == ["127.0.0.1"]


@pytest.mark.parametrize("error", [socket.gaierror(socket.EAI_AGAIN, "try again"), MemoryError()])
def test_a_first_lookup_that_fails_ends_no_later_lookup(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    addresses = Addresses("127.0.0.1", 80)
    with monkeypatch.context() as full:
        full.setattr(socket, "getaddrinfo", fail)
        with pytest.raises(socket.gaierror):
            addresses.found_within(5)
    assert addresses.found_within(5) == ["127.0.0.1"]
