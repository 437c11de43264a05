"""Files that are written whole or not at all, also when the process is killed or the disk is full."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def whole_file(file: Path, *, is_private: bool = False, replaces: bool = True) -> Iterator[IO[str]]:
    """A text that becomes *file* in one step when the block has ended well; until then the text is in `NAME.new`.

    *is_private*: only the owner can read the file. Any other file keeps its rights when the file is replaced, and a
    symbolic link to such a file stays a link. Raises FileExistsError for a device or a folder of this name, and without
    *replaces* for every file of this name. Raises OSError.
    """
    target = file if is_private else Path(os.path.realpath(file))
    new = target.with_name(f"{target.name}.new")
    _check(target, replaces=replaces)
    # Left by a process that was killed.
    new.unlink(missing_ok=True)
    try:
        mode = 0o600 if is_private else 0o666
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as text:
            if not is_private and target.exists():
                os.fchmod(text.fileno(), target.stat().st_mode & 0o777)
            yield text
            text.flush()
            os.fsync(text.fileno())
        _check(target, replaces=replaces)
        new.replace(target)
    finally:
        new.unlink(missing_ok=True)


def write_whole(file: Path, content: str, *, is_private: bool = False, replaces: bool = True) -> None:
    """Writes a file as `whole_file` does, with the same errors."""
    with whole_file(file, is_private=is_private, replaces=replaces) as text:
        text.write(content)


def _check(target: Path, *, replaces: bool) -> None:
    if os.path.lexists(target) and not (replaces and (target.is_file() or target.is_symlink())):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
