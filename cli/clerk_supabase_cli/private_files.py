"""The folder `.local` of a checkout: keys and secrets for this machine, readable by the developer only."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from clerk_supabase_cli.whole_files import write_whole

_FOLDER: Final = ".local"


def private_folder(root: Path) -> Path:
    """The private folder of the checkout at *root*; a folder readable by others is closed."""
    folder = root / _FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    folder.chmod(0o700)
    return folder


def write_privately(file: Path, content: str) -> None:
    """Replaces a file in one step. A reader sees either the whole old content or the whole new content."""
    write_whole(file, content, is_private=True)
