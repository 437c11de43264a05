"""The files of a release, made from a commit alone."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from clerk_supabase_cli.local.processes import CommandFailed, Guard
from clerk_supabase_cli.local.tools import Tools
from clerk_supabase_cli.operate.deployment.build.layer import check_architecture
from clerk_supabase_cli.operate.deployment.build.programs import Programs
from tests.supply.release import changelog
from tests.supply.release.archives import checksums, pack
from tests.supply.release.readiness import commit_of, version_of
from tests.supply.release.template import released

ARCHITECTURES: Final = {"arm64": "aarch64", "x86_64": "x86_64"}
"""The architectures of Lambda, with the name of each in the Makefile of the layer."""
SUMS: Final = "SHA256SUMS"
_WHEEL: Final = "import sys, wheels; wheels.build_wheel(sys.argv[1])"
_FOREIGN: Final = ("LAYER_", "MAKE", "MFLAGS", "PYTHON")
"""Beginnings of variables that would change the build."""


class BuildFailed(Exception):
    """A program of the build ended with an error."""


@dataclass(frozen=True)
class Inputs:
    """Everything besides the files that decides the bytes of a release."""

    commit: str
    version: str
    page: str
    """The address of the project's page."""
    python: str
    """The version of the Python that compiled the layer."""
    uv: str

    @classmethod
    def of(cls, root: Path, page: str, python: Path) -> Inputs:
        """The inputs of a checkout."""
        uv = _said([str(Tools.of(root).uv), "--version"]).split()[1]
        return cls(commit_of(root), version_of(root), page, python_version(python), uv)

    def text(self) -> str:
        """The inputs as JSON, with the compressor of the archives."""
        facts = {name: getattr(self, name) for name in ("commit", "python", "uv", "version")}
        return json.dumps(facts | {"zlib": zlib.ZLIB_RUNTIME_VERSION}, indent=2, sort_keys=True) + "\n"


def python_version(python: Path) -> str:
    """The version of an interpreter, such as 3.13.0."""
    return _said([str(python), "-I", "-c", "import platform; print(platform.python_version())"])


def export(root: Path, commit: str, folder: Path) -> None:
    """Writes the files of a commit into a folder: no file that git ignores, and no bytecode."""
    packed = subprocess.run(
        ["git", "archive", "--format=tar", commit], cwd=root, capture_output=True, check=True
    ).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")


def build_layer(source: Path, layer: Path, architecture: str, programs: Programs, guard: Guard) -> None:
    """Builds the layer as `sam build` does. Raises BuildFailed, or LayerDoesNotFit.

    *guard* ends the build if this process ends.
    """
    layer.mkdir(parents=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)} | {
        "ARTIFACTS_DIR": str(layer),
        "LAYER_PYTHON": str(programs.python),
        "PATH": os.pathsep.join([str(programs.uv.parent), os.environ.get("PATH", os.defpath)]),
    }
    command = ["make", "-f", f"{architecture}/Makefile", "build-SharedLayer"]
    log = layer.with_suffix(".log")
    try:
        guard.finish(guard.start(command, log=log, cwd=source / "layers" / "shared", env=environment), log=log)
    except CommandFailed as error:
        raise BuildFailed(f"make failed: {error.last_lines}") from error
    check_architecture(layer, architecture)


def write(source: Path, layers: Mapping[str, Path], inputs: Inputs, output: Path) -> None:
    """Writes all files of a release besides the bills of materials, which lie in *output* already.

    *source*: the exported files. *layers*: the built layers, by architecture.
    """
    template = (source / "template.yaml").read_text(encoding="utf-8")
    for architecture, layer in layers.items():
        pack(layer, output / f"layer-{architecture}.zip")
        _write(output / f"template-{architecture}.yaml", released(template, architecture, inputs.page, inputs.version))
    for function in sorted(each for each in (source / "functions").iterdir() if each.is_dir()):
        pack(function, output / f"function-{function.name}.zip")
    _build_wheel(source, output)
    shutil.copyfile(source / "requirements" / "cli.txt", output / "constraints.txt")
    shutil.copyfile(source / "LICENSE", output / "LICENSE")
    readme = (source / "README.md").read_text(encoding="utf-8")
    _write(output / "README.md", changelog.linked(readme, inputs.page, inputs.version))
    history = (source / "CHANGELOG.md").read_text(encoding="utf-8")
    _write(output / "NOTES.md", changelog.notes(history, inputs.version, inputs.page))
    _write(output / "inputs.json", inputs.text())
    _write(output / SUMS, checksums(output))


def _build_wheel(source: Path, output: Path) -> None:
    environment = {"PYTHONPATH": str(source / "cli" / "backend"), "PYTHONDONTWRITEBYTECODE": "1"}
    _run([sys.executable, "-S", "-c", _WHEEL, str(output)], source, environment)


def _write(file: Path, text: str) -> None:
    file.write_text(text, encoding="utf-8", newline="\n")


def _run(command: list[str], folder: Path, environment: Mapping[str, str]) -> None:
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildFailed(f"{command[0]} failed: {(done.stderr or done.stdout).strip()}")


def _said(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
