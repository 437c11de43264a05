"""Where the stack that `dev` keeps running can be reached, for commands in other terminals."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from clerk_supabase_cli.failure import Failure
from clerk_supabase_cli.private_files import private_folder, write_privately
from clerk_supabase_cli.tools import Tools

_FILE: Final = "dev.json"
_SHELL_FILE: Final = "env"


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
    name: str
    """Of the stack in CloudFormation."""
    aws: Mapping[str, str]
    """The variables that make an AWS tool talk to the emulated AWS, with the only key it takes."""
    clerk_api_url: str
    clerk_secret_key: str
    logs: str

    def save(self, root: Path) -> None:
        """Says so in the checkout at *root*, in files that only this user can read: for commands, and for a shell."""
        folder = private_folder(root)
        write_privately(folder / _SHELL_FILE, self._as_shell_variables(Tools.of(root).folder))
        write_privately(folder / _FILE, json.dumps(asdict(self), indent=2))

    def forget(self, root: Path) -> None:
        """Takes the files away, unless they are another stack's by now."""
        folder = private_folder(root)
        file = folder / _FILE
        if file.exists() and json.loads(file.read_text())["process_id"] == self.process_id:
            file.unlink()
            (folder / _SHELL_FILE).unlink(missing_ok=True)

    def _as_shell_variables(self, tools: Path) -> str:
        # SAM builds the layer with uv, which it looks for on the search path.
        programs = (Path(sys.executable).parent, tools / "sam" / "bin", tools / "uv" / "bin")
        variables = {
            **self.aws,
            "CLERK_API_URL": self.clerk_api_url,
            "CLERK_SECRET_KEY": self.clerk_secret_key,
            "CLERK_SUPABASE_STACK": self.name,
            "DATABASE_URL": self.database_url,
        }
        lines = [
            # Of another account, these would go before the key, or with it.
            "unset AWS_PROFILE AWS_SESSION_TOKEN",
            # Last, so that the environment's `python` does not get in front of the user's own.
            f'export PATH="$PATH":{":".join(shlex.quote(str(folder)) for folder in programs)}',
            *(f"export {name}={shlex.quote(value)}" for name, value in variables.items()),
        ]
        return "\n".join([*lines, ""])


def running_stack(root: Path) -> RunningStack:
    """The stack that runs now. Raises NotRunning, also for one that was killed and could not say goodbye."""
    try:
        stack = RunningStack(**json.loads((private_folder(root) / _FILE).read_text()))
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
