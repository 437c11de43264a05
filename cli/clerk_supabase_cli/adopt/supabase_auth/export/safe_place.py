"""Folders into which secrets may be written: private, and not part of a git repository."""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from clerk_supabase_cli.failure import Failure
from clerk_supabase_cli.whole_files import whole_file


class UnsafePlace(Failure):
    """Files with secrets must not be written to a folder."""


def prepared_folder(folder: Path, names: list[str]) -> Path:
    """Makes the folder for files of these *names*, readable by the caller only. Raises UnsafePlace."""
    folder = folder.absolute().resolve()
    if inside := _git_folder(folder):
        for name in names:
            if not _is_ignored(inside, folder / name):
                raise UnsafePlace(
                    f"{folder} is part of the git repository {inside}: password hashes could be committed; choose a "
                    "folder outside, or a folder that git ignores, such as .local in a checkout of this project"
                )
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UnsafePlace(f"{folder} cannot be made: {error.strerror}") from error
    return folder


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keeps other exports out of the folder; a killed export leaves no lock. Raises UnsafePlace."""
    with ExitStack() as undo:
        try:
            opened = os.open(folder, os.O_RDONLY)
            undo.callback(os.close, opened)
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            reason = f"another export writes to {folder}: wait until it ends, or choose another folder"
            raise UnsafePlace(reason) from None
        except OSError as error:
            raise UnsafePlace(f"{folder} cannot be locked: {error.strerror}") from error
        yield


@contextmanager
def private_file(file: Path) -> Iterator[IO[str]]:
    """A file that only its owner reads, and that replaces the file of before when the block has ended well."""
    try:
        with whole_file(file, is_private=True) as text:
            yield text
    except OSError as error:
        raise UnsafePlace(f"{file} cannot be written: {error.strerror}") from error


def _git_folder(folder: Path) -> Path | None:
    for each in (folder, *folder.parents):
        if (each / ".git").exists():
            return each
    return None


def _is_ignored(repository: Path, file: Path) -> bool:
    """Tells whether git ignores a file; False for a file that is tracked already, or without git."""
    # Variables such as GIT_DIR would send the question to another repository.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        asked = subprocess.run(
            ["git", "-C", str(repository), "check-ignore", "--quiet", "--", str(file)],
            check=False,
            capture_output=True,
            env=environment,
        )
    except OSError:
        return False
    return asked.returncode == 0
