"""The inputs of `sam build`: a copy of the files, the command, and a name for all that decides what the build makes."""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from clerk_supabase_cli.local.build.builds import fingerprint
from clerk_supabase_cli.local.tools import Tools

_FOLDERS: Final = ("functions", "layers")
_TEMPLATE: Final = "template.yaml"
_OF_THE_LAYER: Final = ("LAYER_", "UV_")
"""Beginnings of the names of variables that the makefile of the layer and uv read."""
_CACHE_OF_UV: Final = "UV_CACHE_DIR"
_VERSION: Final = "import sys; print(sys.version)"


@dataclass(frozen=True, slots=True)
class SamBuild:
    """A build of the functions and the layer of a checkout, from a copy of its files that nobody edits meanwhile."""

    source: Path
    """The copy. The build reads nothing else of the checkout."""
    tools: Tools
    environment: Mapping[str, str]
    architecture: str

    @classmethod
    def copied(
        cls, root: Path, copy: Path, tools: Tools, environment: Mapping[str, str], architecture: str
    ) -> SamBuild:
        """Copies the files of the checkout at *root* into the new folder *copy*, without what Python compiled there."""
        for folder in _FOLDERS:
            shutil.copytree(root / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(root / _TEMPLATE, copy)
        return cls(copy, tools, environment, architecture)

    def name(self) -> str:
        """A hash of everything that decides what the build makes."""
        said = {
            "files": fingerprint(self.source),
            "command": self._arguments,
            "variables": {
                name: value
                for name, value in self.environment.items()
                if name.startswith(_OF_THE_LAYER) and name != _CACHE_OF_UV
            },
            "tools": [*_installed(self.tools.sam), *_installed(self.tools.uv)],
            "python": self._python_of_the_layer(),
            "machine": [platform.system(), platform.machine()],
        }
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()

    def command(self, into: Path, configuration: Path) -> list[str]:
        """The command that builds into the subfolder `build`. *configuration*: a samconfig.toml."""
        return [
            str(self.tools.sam),
            *self._arguments,
            f"--template={self.source / _TEMPLATE}",
            f"--build-dir={into / 'build'}",
            f"--config-file={configuration}",
        ]

    @property
    def _arguments(self) -> list[str]:
        return ["build", f"--parameter-overrides=Architecture={self.architecture}", "--parallel"]

    def _python_of_the_layer(self) -> str:
        """The version of the interpreter that compiles the layer, with its build; empty if uv does not find it."""
        wanted = self.environment.get("LAYER_PYTHON", "")
        found = self._printed(str(self.tools.uv), "python", "find", "--quiet", wanted)
        return self._printed(found, "-I", "-S", "-c", _VERSION) if found else ""

    def _printed(self, *command: str) -> str:
        done = subprocess.run(
            command, env=self.environment, cwd=self.source, capture_output=True, text=True, check=False
        )
        return done.stdout.strip() if done.returncode == 0 else ""


def _installed(program: Path) -> list[str]:
    """The packages in the environment of a program, with their versions."""
    environment = program.parents[1]
    return sorted(
        str(found.relative_to(environment)) for found in environment.glob("lib/python*/site-packages/*.dist-info")
    )
