"""Paths of programs that these tests run and this project does not contain."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


class ProgramMissing(Exception):
    """A program is not installed. These tests check the outside world, so none of them is skipped."""


def installed(root: Path, path: str) -> Path:
    """A file of `.tools`. Raises ProgramMissing."""
    file = root / ".tools" / path
    if not file.exists():
        raise ProgramMissing(f"{file} is missing: run `make outside`, which installs it (on Linux, x86-64)")
    return file


def pgbouncer() -> str:
    """The pooler. Raises ProgramMissing."""
    # Debian keeps it where only root looks for programs.
    found = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
    if found is None:
        raise ProgramMissing("pgbouncer is missing: install it (Debian, Ubuntu: apt install pgbouncer)")
    return found
