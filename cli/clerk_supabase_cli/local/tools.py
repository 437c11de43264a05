"""The tools of the local stack: uv, SAM CLI and MiniStack, each in its own environment."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from clerk_supabase_cli.local.processes import LocalStackError

TOOLS_VARIABLE = "CLERK_SUPABASE_TOOLS"


class ToolMissing(LocalStackError):
    """A tool of the local stack is not installed."""


@dataclass(frozen=True)
class Tools:
    """The folder with an environment for each tool: `.tools`, unless CLERK_SUPABASE_TOOLS names another folder."""

    folder: Path

    @classmethod
    def of(cls, root: Path) -> Tools:
        """The tools of the checkout at *root*."""
        return cls(Path(os.environ.get(TOOLS_VARIABLE) or root / ".tools").resolve())

    @property
    def uv(self) -> Path:
        """The uv executable. Raises ToolMissing, like the properties below."""
        return self._executable("uv", "uv")

    @property
    def sam(self) -> Path:
        """The SAM CLI."""
        return self._executable("sam", "sam")

    @property
    def ministack_python(self) -> Path:
        """The Python with MiniStack, which also runs functions locally."""
        return self._executable("ministack", "python")

    @property
    def builds(self) -> Path:
        """The folder of the builds that stacks share."""
        return self.folder / "cache" / "builds"

    @cached_property
    def function_python(self) -> str:
        """The version ("3.13") of the Python for local functions."""
        answer = subprocess.run(
            [self.ministack_python, "-I", "-S", "-c", "import json, sys; print(json.dumps(sys.version_info[:2]))"],
            check=True,
            capture_output=True,
        )
        major, minor = json.loads(answer.stdout)
        return f"{major}.{minor}"

    def _executable(self, environment: str, name: str) -> Path:
        path = self.folder / environment / "bin" / name
        if not path.exists():
            raise ToolMissing(f"{path} is missing: run `make setup`")
        return path


def lambda_architecture() -> str:
    """This machine's processor as Lambda spells it: `arm64` or `x86_64`."""
    return "arm64" if platform.machine() in ("arm64", "aarch64") else "x86_64"


def python_platform() -> str:
    """This machine as uv's `--python-platform` spells it, for the wheels of a local layer."""
    processor = "aarch64" if lambda_architecture() == "arm64" else "x86_64"
    return f"{processor}-apple-darwin" if platform.system() == "Darwin" else f"{processor}-unknown-linux-gnu"
