"""The files that SAM builds: a checkout, or a copy of the files of an installed package."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from clerk_supabase_cli.failure import Failure
from clerk_supabase_cli.project import certificates, is_installed, workplace

_FOLDER: Final = ".aws-sam"


class NotCopied(Failure):
    """The current folder takes no copy of the package's files."""


def source_of(root: Path) -> Path:
    """The folder to build in: a checkout itself; for an installed package a new copy, with the certificates.

    The copy lies in `.aws-sam` of the current folder, beside stack.toml. Raises NotCopied.
    """
    if not is_installed(root):
        return root
    copy = workplace(root) / _FOLDER / "package"
    try:
        copy.mkdir(parents=True, exist_ok=True)
        for old in copy.iterdir():
            # SAM's own folder speeds up the next build.
            if old.name != _FOLDER:
                shutil.rmtree(old) if old.is_dir() else old.unlink()
        shutil.copytree(root, copy, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        if (given := certificates(root)).is_dir():
            shutil.copytree(given, certificates(copy))
    except OSError as error:
        # shutil's own error, of several files, has no reason.
        reason = error.strerror or "files could not be copied"
        raise NotCopied(f"nothing was built: {copy}: {reason}; run this in a folder that you may write") from error
    return copy
