"""The page of `clerk-supabase console`, and a browser without scripts that opens it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

import httpx

from clerk_supabase_cli.console.server import Console
from clerk_supabase_cli.console.wanted import Wanted
from clerk_supabase_cli.doctor.patient import Named
from clerk_supabase_cli.operate.queues import Queues
from tests.kit.loopback import NO_TLS
from tests.kit.polling import eventually

SECONDS: Final = 90


@dataclass
class Visitor:
    """A browser that has opened the printed address."""

    address: str
    client: httpx.Client
    page: str = field(init=False)
    """The address of the page, without the token."""

    def __post_init__(self) -> None:
        self.page = str(self.client.get(self.address, follow_redirects=True).url)

    @property
    def origin(self) -> str:
        parts = urlsplit(self.address)
        return f"{parts.scheme}://{parts.netloc}"

    def get(self, path: str = "", **headers: str) -> httpx.Response:
        """Follows a link of the page."""
        return self.client.get(self.page + path, headers=headers)

    def sees(self, *words: str) -> str:
        """Waits until the page shows all words; returns the page."""
        page = ""

        def missing() -> list[str]:
            nonlocal page
            page = self.get().text
            return [each for each in words if each not in page]

        eventually(missing, lambda those: not those, seconds=SECONDS)
        return page

    def sends(self, action: str, **fields: str) -> httpx.Response:
        """Sends a form of the page."""
        token = re.findall(r'name="token" value="([^"]+)"', self.get().text)[0]
        data = {"token": token, **fields}
        return self.client.post(self.page + action, data=data, headers={"origin": self.origin})

    def hears(self, words: str) -> str:
        """Waits until the stream brings a message with these words; returns its line."""
        deadline = time.monotonic() + SECONDS
        with self.client.stream("GET", f"{self.page}stream") as stream:
            for line in stream.iter_lines():
                if words in line:
                    return line
                assert time.monotonic() < deadline, f"not heard within {SECONDS} s: {words}"
        raise AssertionError("the stream has ended")


@contextmanager
def opened(
    database_url: str, queues: Queues | None = None, *, can_write: bool = True, stack_name: str = ""
) -> Iterator[Visitor]:
    """Serves the page, and opens it."""
    named = Named.with_secrets(database_url=database_url, stack_name=stack_name)
    console = Console(Wanted(named, lambda: queues, queues is not None, 0, can_write))
    with console.served() as address, httpx.Client(trust_env=False, verify=NO_TLS, timeout=SECONDS) as client:
        yield Visitor(address, client)
