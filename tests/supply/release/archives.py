"""Archives and checksums of a release: the same files give the same bytes, on any machine and at any time."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import Final

BEGINNING: Final = (1980, 1, 1, 0, 0, 0)
"""The time of every file in an archive: no other time belongs to the content."""
_FILE: Final = 0o100644
_PROGRAM: Final = 0o100755


class NotPlain(ValueError):
    """A folder holds something that is neither a file nor a folder, such as a link."""


def pack(folder: Path, archive: Path) -> None:
    """Writes the files of a folder into a zip archive, sorted by their names. Raises NotPlain."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as written:
        for file in sorted(folder.rglob("*"), key=lambda each: each.relative_to(folder).as_posix()):
            if file.is_symlink() or not (file.is_file() or file.is_dir()):
                raise NotPlain(f"{file.relative_to(folder)} is neither a file nor a folder")
            if file.is_file():
                entry = zipfile.ZipInfo(file.relative_to(folder).as_posix(), BEGINNING)
                entry.create_system = 3  # Unix, also when the archive is written elsewhere
                entry.external_attr = (_PROGRAM if file.stat().st_mode & 0o100 else _FILE) << 16
                written.writestr(entry, file.read_bytes(), zipfile.ZIP_DEFLATED)


def checksums(folder: Path) -> str:
    """A line of `sha256sum` for each file of a folder, sorted by name."""
    files = sorted(file for file in folder.iterdir() if file.is_file())
    return "".join(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files)
