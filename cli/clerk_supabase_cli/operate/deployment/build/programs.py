"""The programs of a deployment: SAM, uv, and the Python for which the layer is built."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from clerk_supabase_cli.failure import Failure
from clerk_supabase_cli.printing import printable
from clerk_supabase_cli.project import caches, is_installed

_RUNTIME: Final = "3.13"
_PYTHON_VARIABLE: Final = "LAYER_PYTHON"
"""The variable with another Python for the layer, as its Makefile reads it."""
_NOT_WRITABLE: Final = r"(?i)failed to (?:create|open|initialize)[\w ]+`([^`]+)`"
"""The error of uv for a folder, such as a read-only home folder."""
_TOOLS_VARIABLE: Final = "CLERK_SUPABASE_TOOLS"
_INSTALL: Final = {"sam": "run `uv tool install aws-sam-cli`", "uv": "run `pipx install uv`"}
"""The advice of an installed command."""


class ProgramMissing(Failure):
    """A program that the deployment runs is not installed."""


@dataclass(frozen=True, slots=True)
class Programs:
    """The programs, each as a file."""

    sam: Path
    uv: Path
    python: Path

    @classmethod
    def found(cls, root: Path) -> Programs:
        """The programs, in `.tools` of the checkout or on the search path. Raises ProgramMissing."""
        sam, uv = _program(root, "sam"), _program(root, "uv")
        return cls(sam, uv, _python(root, uv))

    def search_path(self) -> str:
        """The value of PATH for SAM, which itself looks for uv and for a Python."""
        return os.pathsep.join([str(self.uv.parent), os.environ.get("PATH", os.defpath), str(self.python.parent)])


def _program(root: Path, name: str) -> Path:
    tools = Path(os.environ.get(_TOOLS_VARIABLE) or root / ".tools")
    installed = (tools / name / "bin" / name).resolve()
    if os.access(installed, os.X_OK):
        return installed
    on_path = shutil.which(name)
    if on_path is None:
        raise ProgramMissing(
            f"{name} is not on the search path: {_INSTALL[name]}"
            if is_installed(root)
            else f"{name} is neither in {tools} nor on the search path: run `make setup` in {root}"
        )
    return Path(on_path)


def _python(root: Path, uv: Path) -> Path:
    wanted = os.environ.get(_PYTHON_VARIABLE) or _RUNTIME
    environment = os.environ | caches(root)
    said = ""
    for command in (["find"], ["install", "--quiet", "--no-bin"], ["find"]):
        done = subprocess.run(
            [uv, "python", *command, wanted], cwd=root, env=environment, capture_output=True, text=True, check=False
        )
        if command == ["find"] and done.returncode == 0:
            return Path(done.stdout.strip())
        said += done.stderr
    missing = f"Python {wanted}, for which the layer is built, is not installed and could not be downloaded: "
    if found := re.search(_NOT_WRITABLE, said):
        raise ProgramMissing(
            f"{missing}uv may not write {printable(found[1])}; set UV_CACHE_DIR and UV_PYTHON_INSTALL_DIR to folders "
            "that you may write"
        )
    install = f"{shlex.quote(str(uv))} python install {wanted}"
    raise ProgramMissing(
        f"{missing}install it, or connect to the internet and run `{install}`; if it lies elsewhere than on the search "
        f"path, name its interpreter in {_PYTHON_VARIABLE}"
    )
