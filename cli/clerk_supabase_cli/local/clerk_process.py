"""The stand-in in its own process, so that a measurement of its client does not include its costs."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from clerk_supabase_cli.local.processes import Guard, LocalStackError, free_port, is_taken, last_lines
from clerk_supabase_cli.standin.backend_api import BASE_PATH

KEY: Final = "sk_live_standin"
# A process that ends is noticed at once; a busy machine takes half a minute to import.
_PATIENCE_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class RunningApi:
    """The addresses of the stand-in. `GET status_url` returns its counts of requests and its peak memory."""

    url: str
    status_url: str
    key: str = KEY


@contextmanager
def running(guard: Guard, *options: str) -> Iterator[RunningApi]:
    """Runs the stand-in during the `with` block; `options`: the options of `python -m clerk_supabase_cli.standin`.

    Change its world through POST, PATCH and DELETE /users. Raises LocalStackError if the process does not start.
    """
    port = free_port()
    log = guard.folder("clerk-api-") / "log"
    command = [sys.executable, "-m", "clerk_supabase_cli.standin", "--port", str(port), "--key", KEY, *options]
    child = guard.start(command, log=log)
    try:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not is_taken(port):
            if child.poll() is not None or time.monotonic() > deadline:
                raise LocalStackError(f"the stand-in for Clerk did not start:\n{last_lines(log, 20)}")
            time.sleep(0.02)
        yield RunningApi(f"http://127.0.0.1:{port}{BASE_PATH}", f"http://127.0.0.1:{port}/status")
    finally:
        guard.end(child, signal.SIGTERM)
