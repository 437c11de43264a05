"""Where the stack that `dev` keeps running can be reached, for commands in other terminals."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from clerk_supabase_cli.failure import Failure

# Beside the key of local session tokens; the folder is nobody else's.
_FILE: Final = Path(".local") / "dev.json"


class NotRunning(Failure):
    """No stack of this checkout runs."""


@dataclass(frozen=True, slots=True)
class RunningStack:
    """What `dev` says of itself while it runs."""

    process_id: int
    webhook_url: str
    session_url: str
    webhook_secret: str
    database_url: str
    """The owner's: of the embedded Postgres, or what `dev --database-url` was given."""
    aws_endpoint_url: str
    clerk_api_url: str
    clerk_secret_key: str
    logs: str

    def save(self, root: Path) -> None:
        """Says so in the checkout at *root*, in a file that only this user can read."""
        file = root / _FILE
        file.parent.mkdir(mode=0o700, exist_ok=True)
        new = file.with_suffix(".new")
        new.unlink(missing_ok=True)
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as text:
            json.dump(asdict(self), text, indent=2)
        # Whoever reads it meanwhile reads the old one or the new one, never half of it.
        new.replace(file)

    def forget(self, root: Path) -> None:
        """Takes the file away, unless it is another stack's by now."""
        file = root / _FILE
        if file.exists() and json.loads(file.read_text())["process_id"] == self.process_id:
            file.unlink()


def running_stack(root: Path) -> RunningStack:
    """The stack that runs now. Raises NotRunning, also for one that was killed and could not say goodbye."""
    try:
        stack = RunningStack(**json.loads((root / _FILE).read_text()))
    except (FileNotFoundError, ValueError, TypeError) as error:
        raise NotRunning(_WHAT_TO_DO) from error
    if not _is_alive(stack.process_id):
        raise NotRunning(_WHAT_TO_DO)
    return stack


_WHAT_TO_DO: Final = "no stack of this checkout runs: start one in another terminal with `make dev`"


def _is_alive(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
