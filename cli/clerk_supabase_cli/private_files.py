"""The folder `.local` of a checkout: keys and secrets for this machine, readable by the developer only."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from clerk_supabase_cli.failure import Failure
from clerk_supabase_cli.whole_files import write_whole

PROCESS_VARIABLE: Final = "CLERK_SUPABASE_DEV_PROCESS"
"""The process of the `dev` whose `.local/env` a shell has read."""
_FOLDER: Final = ".local"


class NotWritable(Failure):
    """The private folder cannot be made, or is another user's."""


def private_folder(root: Path) -> Path:
    """The private folder of the checkout at *root*; a folder readable by others is closed. Raises NotWritable."""
    folder = root / _FOLDER
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        folder.chmod(0o700)
    except OSError as error:
        raise NotWritable(f"{folder} cannot hold keys: {error.strerror}; make {root} writable for your user") from error
    return folder


def write_privately(file: Path, content: str) -> None:
    """Replaces a file in one step. A reader sees either the whole old content or the whole new content."""
    write_whole(file, content, is_private=True)
