"""The build backend of the command: one wheel with the command, the layer's package, and the files of the project.

A backend of our own (PEP 517), because no other takes files from outside its folder, and so that a build downloads
nothing.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import sys
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

if sys.version_info < (3, 11):  # noqa: UP036 - an older pip runs this file before it knows the version
    sys.exit("clerk-supabase needs Python 3.11 or later: name one, such as `pipx install --python python3.13 ./cli`")

import tomllib

_HERE: Final = Path(__file__).resolve().parents[1]
_PACKED: Final = _HERE / "project"
_PROJECT: Final = _PACKED if _PACKED.is_dir() else _HERE.parent
"""The files of the project: those of a source distribution lie in a folder of its own."""
_FILES: Final = (
    *("LICENSE", "samconfig.toml", "template.yaml", "events/clerk", "functions", "layers"),
    *("sql/migrations", "sql/objects.json", "sql/plain_postgres.sql"),
)
_LAYER: Final = "layers/shared"
_INSTALLED: Final = "clerk_supabase_cli/bundle"
"""The folder of the project's files in the wheel, as project.py looks for them."""
_CERTIFICATES: Final = "ca"
"""Files of one deployment, which no package carries."""
_BEGINNING: Final = (1980, 1, 1, 0, 0, 0)

Files = dict[str, bytes]


def build_wheel(wheel_directory: str, config_settings: Any = None, metadata_directory: str | None = None) -> str:  # noqa: ARG001 - PEP 517
    """Writes the wheel."""
    files = _below(_HERE / "clerk_supabase_cli", "clerk_supabase_cli")
    files |= _below(_PROJECT / _LAYER / "clerk_supabase", "clerk_supabase")
    for name in _FILES:
        files |= _below(_PROJECT / name, f"{_INSTALLED}/{name}")
    return _wheel(Path(wheel_directory), files)


def build_editable(wheel_directory: str, config_settings: Any = None, metadata_directory: str | None = None) -> str:  # noqa: ARG001 - PEP 660
    """Writes a wheel that leads to the code of the checkout."""
    folders = (_HERE, _PROJECT / _LAYER)
    return _wheel(Path(wheel_directory), {"clerk_supabase_cli.pth": "".join(f"{each}\n" for each in folders).encode()})


def build_sdist(sdist_directory: str, config_settings: Any = None) -> str:  # noqa: ARG001 - PEP 517
    """Writes the source distribution."""
    name = f"clerk_supabase_cli-{_facts()['version']}"
    files = _below(_HERE / "backend", "backend") | _below(_HERE / "clerk_supabase_cli", "clerk_supabase_cli")
    files |= {"pyproject.toml": (_HERE / "pyproject.toml").read_bytes(), "PKG-INFO": _metadata()}
    for each in _FILES:
        files |= _below(_PROJECT / each, f"project/{each}")
    with tarfile.open(Path(sdist_directory) / f"{name}.tar.gz", "w:gz", format=tarfile.PAX_FORMAT) as archive:
        for path, content in sorted(files.items()):
            entry = tarfile.TarInfo(f"{name}/{path}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return f"{name}.tar.gz"


def _facts() -> Mapping[str, Any]:
    facts: Mapping[str, Any] = tomllib.loads((_HERE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return facts


def _below(path: Path, name: str) -> Files:
    """The content of a file, or of every file of a folder, by its name in the package."""
    if path.is_file():
        return {name: path.read_bytes()}
    return {f"{name}/{inner}": file.read_bytes() for file, inner in _walk(path)}


def _walk(folder: Path) -> Iterator[tuple[Path, str]]:
    if not folder.is_dir():
        sys.exit(f"{folder} is missing: build the command in a whole checkout of clerk-supabase-sync")
    for file in sorted(folder.rglob("*")):
        inner = file.relative_to(folder)
        is_left_out = any(part.startswith(".") or part in ("__pycache__", _CERTIFICATES) for part in inner.parts)
        if file.is_file() and not is_left_out:
            yield file, inner.as_posix()


def _metadata() -> bytes:
    facts = _facts()
    lines = [
        "Metadata-Version: 2.4",
        f"Name: {facts['name']}",
        f"Version: {facts['version']}",
        f"Summary: {facts['description']}",
        f"License-Expression: {facts['license']}",
        "License-File: LICENSE",
        f"Requires-Python: {facts['requires-python']}",
        *(f"Requires-Dist: {each}" for each in facts["dependencies"]),
    ]
    return "\n".join([*lines, ""]).encode()


def _wheel(folder: Path, files: Files) -> str:
    """Writes a wheel of the files, the same bytes for the same files; returns its name."""
    facts = _facts()
    name = f"clerk_supabase_cli-{facts['version']}"
    info = f"{name}.dist-info"
    scripts = [f"{command} = {function}" for command, function in facts["scripts"].items()]
    files = files | {
        f"{info}/METADATA": _metadata(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: wheels\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "\n".join(["[console_scripts]", *scripts, ""]).encode(),
        f"{info}/licenses/LICENSE": (_PROJECT / "LICENSE").read_bytes(),
    }
    files[f"{info}/RECORD"] = _record(files, f"{info}/RECORD")
    with zipfile.ZipFile(folder / f"{name}-py3-none-any.whl", "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in files.items():
            entry = zipfile.ZipInfo(path, _BEGINNING)
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED)
    return f"{name}-py3-none-any.whl"


def _record(files: Files, record: str) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for path, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        writer.writerow([path, f"sha256={digest}", len(content)])
    writer.writerow([record, "", ""])
    return text.getvalue().encode()
