"""The folder `.local` of a checkout: keys and secrets for this machine, which nobody but the developer can read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from clerk_supabase_cli.deliveries import generate_secret

_FOLDER: Final = ".local"


def private_folder(root: Path) -> Path:
    """The folder of the checkout at *root*; closes one that others could read until now."""
    folder = root / _FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    folder.chmod(0o700)
    return folder


def write_privately(file: Path, content: str) -> None:
    """Replaces a file in one step. Whoever reads it meanwhile reads all of the old content or all of the new one."""
    new = file.with_name(f"{file.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as text:
        text.write(content)
    new.replace(file)


def webhook_secret_of(root: Path) -> str:
    """The signing secret that the checkout at *root* keeps for local use, made when there is none.

    One that every checkout had would let anybody on this machine sign events for a database that `dev` was given.
    """
    file = private_folder(root) / "webhook-secret"
    if not file.exists():
        write_privately(file, generate_secret())
    return file.read_text()
