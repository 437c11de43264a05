"""The addresses of the stack kept running by `dev`, for commands in other terminals."""

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
from clerk_supabase_cli.local.tools import Tools
from clerk_supabase_cli.private_files import PROCESS_VARIABLE, private_folder, write_privately
from clerk_supabase_cli.project import CHECKOUT_VARIABLE, find_root, is_installed

_FILE: Final = "dev.json"
_SHELL_FILE: Final = "env"


class NotRunning(Failure):
    """No stack of this checkout runs."""


@dataclass(frozen=True, slots=True)
class RunningStack:
    """The facts about a running `dev`."""

    process_id: int
    webhook_url: str
    session_url: str
    webhook_secret: str
    database_url: str
    """The owner's URL of the embedded Postgres; empty with `dev --database-url`, whose password is not written down."""
    name: str
    """The name of the stack in CloudFormation."""
    aws: Mapping[str, str]
    """The variables with which AWS tools use the emulated AWS, with its only valid key."""
    clerk_api_url: str
    clerk_secret_key: str
    clerk_publishable_key: str
    frontend_api_url: str
    """The issuer of session tokens. The publishable key names another host, because the key stands for https only."""
    logs: str

    def save(self, root: Path) -> None:
        """Writes the facts into the checkout at *root*, in files for this user only: for commands, and for a shell."""
        folder = private_folder(root)
        write_privately(folder / _SHELL_FILE, self._as_shell_variables(Tools.of(root).folder))
        write_privately(folder / _FILE, json.dumps(asdict(self), indent=2))

    def forget(self, root: Path) -> None:
        """Removes the files, unless another stack has replaced them."""
        folder = private_folder(root)
        file = folder / _FILE
        if file.exists() and json.loads(file.read_text())["process_id"] == self.process_id:
            file.unlink()
            (folder / _SHELL_FILE).unlink(missing_ok=True)

    @property
    def variables(self) -> Mapping[str, str]:
        """The variables of the commands for this stack."""
        # An app of `dev --app` started in this shell reads these before its own file: in the form of Clerk's packages,
        # and no variable of its pages.
        variables = {
            **self.aws,
            "CLERK_API_URL": self.clerk_api_url.removesuffix("/v1"),
            "CLERK_FRONTEND_API_URL": self.frontend_api_url,
            "CLERK_PUBLISHABLE_KEY": self.clerk_publishable_key,
            "CLERK_SECRET_KEY": self.clerk_secret_key,
            "CLERK_SUPABASE_SESSION_URL": self.session_url,
            PROCESS_VARIABLE: str(self.process_id),
            "CLERK_SUPABASE_STACK": self.name,
            "CLERK_SUPABASE_WEBHOOK_URL": self.webhook_url,
            "CLERK_WEBHOOK_SIGNING_SECRET": self.webhook_secret,
        }
        return {**variables, "DATABASE_URL": self.database_url} if self.database_url else variables

    def _as_shell_variables(self, tools: Path) -> str:
        # SAM builds the layer with uv, found on the search path.
        programs = (Path(sys.executable).parent, tools / "sam" / "bin", tools / "uv" / "bin")
        lines = [
            # These variables of another account would win over the key, or be sent with it.
            "unset AWS_PROFILE AWS_SESSION_TOKEN",
            # Last, so that the environment's `python` does not hide the user's own.
            f'export PATH="$PATH":{":".join(shlex.quote(str(folder)) for folder in programs)}',
            *(f"export {name}={shlex.quote(value)}" for name, value in self.variables.items()),
            # Left behind by a `dev` that was killed.
            f"kill -0 {self.process_id} 2>/dev/null || echo {shlex.quote(_STALE)} >&2",
        ]
        return "\n".join([*lines, ""])


def running_stack(root: Path) -> RunningStack:
    """The running stack. Raises NotRunning, also after a stack that was killed and left its files behind."""
    try:
        stack = RunningStack(**json.loads((private_folder(root) / _FILE).read_text()))
    except (FileNotFoundError, ValueError, TypeError) as error:
        raise NotRunning(_what_to_do()) from error
    if not _is_alive(stack.process_id):
        raise NotRunning(_what_to_do())
    return stack


def hint_about_variables() -> str:
    """A hint for a shell whose variables are of a `dev` that has ended; empty for any other shell."""
    number = os.environ.get(PROCESS_VARIABLE, "")
    is_number = number.isascii() and number.isdigit() and len(number) < 10
    return _STALE if is_number and not _is_alive(int(number)) else ""


_STALE: Final = (
    "note: the variables of .local/env are of a `make dev` that has ended: "
    "keep `make dev` running in another terminal, and source .local/env again"
)
_WHAT_TO_DO: Final = "no stack of this checkout runs: start one in another terminal with `make dev`"
_WHAT_TO_DO_WITHOUT_A_CHECKOUT: Final = (
    "this command is installed without a checkout, and finds no stack of `make dev`: "
    f"name the checkout in {CHECKOUT_VARIABLE}"
)


def _what_to_do() -> str:
    return _WHAT_TO_DO_WITHOUT_A_CHECKOUT if is_installed(find_root()) else _WHAT_TO_DO


def _is_alive(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
