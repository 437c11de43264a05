"""The page of `clerk-supabase console` for a stack on this machine, in a process of its own."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from clerk_supabase_cli.local.processes import Guard

_SECONDS: Final = 20.0
_LOOK_SECONDS: Final = 0.05
# Of another account; see RunningStack.
_FOREIGN: Final = ("AWS_PROFILE", "AWS_SESSION_TOKEN")


@contextmanager
def console_beside(variables: Mapping[str, str], logs: Path, *, can_write: bool) -> Iterator[str]:
    """The address of the page, which answers during the block; empty, with the log as the reason, if it cannot start.

    *variables*: the database and the stack. A process of its own, because the looks of the page read them as the
    command does.
    """
    inherited = {name: value for name, value in os.environ.items() if name not in _FOREIGN}
    command = [str(Path(sys.executable).with_name("clerk-supabase")), "console", *(["--write"] if can_write else [])]
    log = logs / "console.log"
    with Guard() as guard:
        process = guard.start(command, log=log, env={**inherited, **variables, "PYTHONUNBUFFERED": "1"})
        deadline = time.monotonic() + _SECONDS
        while not (address := _address(log)) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)
        yield address


def _address(log: Path) -> str:
    words = log.read_text(errors="replace").split() if log.exists() else []
    return next((word for word in words if word.startswith("http://127.0.0.1:") and "?token=" in word), "")
