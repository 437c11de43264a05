"""A store of builds, so that stacks with the same inputs share one build.

An entry has the name of its inputs, and holds a fingerprint of its files. Of several processes that need the same
build, one makes it and the others wait. A damaged entry is not used: it is made anew. An entry in use is never removed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self

from clerk_supabase_cli.local.processes import Guard

_KEPT: Final = 3
"""The number of entries that stay, newest use first; an entry has 75 MB."""
_LOCK: Final = "lock"
_FINGERPRINT: Final = "fingerprint"
_PARTIAL: Final = "partial-"

Start = Callable[[Path], subprocess.Popen[bytes]]
"""Starts the program that fills a new folder."""


class Build:
    """A build, shared with other processes during the `with` block.

    `begin` starts the program if no entry is there; `finish` waits and returns the folder of the build, which the
    caller may read and must not change. A store that cannot be written is not used.
    """

    def __init__(self, store: Path, name: str, start: Start, *, guard: Guard, log: Path) -> None:
        """*name* stands for the inputs of the build; *log* is the log of the program that *start* starts."""
        self._store = store
        self._entry = store / name
        self._start = start
        self._guard = guard
        self._log = log
        self._kept = contextlib.ExitStack()
        self._making = contextlib.ExitStack()
        self._found: Path | None = None
        self._program: subprocess.Popen[bytes] | None = None
        self._partial = store

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._making.close()
        self._kept.close()

    def begin(self) -> None:
        """Looks for the entry, and starts the program if nobody makes the entry. Returns at once."""
        self._found = self._intact_entry()
        if self._found is None and (not self._is_usable() or self._lock_store(wait=False)):
            self._find_or_start()

    def finish(self) -> Path:
        """The folder of the build. Raises CommandFailed if the program fails."""
        if self._found is None and self._program is None:
            self._lock_store(wait=True)
            self._find_or_start()
        found = self._found or self._finished()
        self._making.close()
        return found

    def _find_or_start(self) -> None:
        """Takes the entry that another process has made meanwhile, or starts the program."""
        self._found = self._intact_entry()
        if self._found is not None:
            self._making.close()
            return
        self._partial = self._guard.folder(_PARTIAL, self._store if self._is_usable() else None)
        self._program = self._start(self._partial)

    def _finished(self) -> Path:
        """The folder of a build whose program has ended well."""
        if self._program is not None:
            self._guard.finish(self._program, log=self._log)
            self._program = None
        return self._stored(self._partial)

    def _stored(self, built: Path) -> Path:
        """Moves a build to its place, and removes entries that nobody needs. A build without a place stays."""
        if not self._is_usable() or not _removed(self._entry):
            return built
        (built / _LOCK).touch()
        (built / _FINGERPRINT).write_text(fingerprint(built))
        built.rename(self._entry)
        found = self._intact_entry()
        for old in self._entries()[_KEPT:]:
            _removed(old)
        return found or self._entry

    def _intact_entry(self) -> Path | None:
        """The entry, kept from removal; None if there is none or it is damaged."""
        with contextlib.ExitStack() as undo:
            try:
                lock = undo.enter_context((self._entry / _LOCK).open("rb"))
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
                is_intact = (self._entry / _FINGERPRINT).read_text() == fingerprint(self._entry)
                # Else the lock is that of an entry which was removed and made again.
                is_same = os.path.samestat(os.fstat(lock.fileno()), (self._entry / _LOCK).stat())
            except OSError:
                return None
            if not is_intact or not is_same:
                return None
            with contextlib.suppress(OSError):
                os.utime(self._entry / _LOCK)
            self._kept = undo.pop_all()
        return self._entry

    def _entries(self) -> list[Path]:
        """The entries, newest use first."""
        locks = [each for each in self._store.glob(f"*/{_LOCK}") if not each.parent.name.startswith(_PARTIAL)]
        return [each.parent for each in sorted(locks, key=_time_of_use, reverse=True)]

    def _is_usable(self) -> bool:
        with contextlib.suppress(OSError):
            self._store.mkdir(parents=True, exist_ok=True)
        return self._store.is_dir() and os.access(self._store, os.W_OK)

    def _lock_store(self, *, wait: bool) -> bool:
        """Tells whether this process is now the only one that makes or removes entries."""
        lock = (self._store / _LOCK).open("ab")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            lock.close()
            return False
        self._making.enter_context(lock)
        return True


def _removed(entry: Path) -> bool:
    """Tells whether an entry is gone: it is removed, unless a process uses it."""
    try:
        with (entry / _LOCK).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(entry)
    except FileNotFoundError:
        # Whoever removed it was interrupted, and nobody can use it.
        shutil.rmtree(entry, ignore_errors=True)
    except OSError:
        return False
    return not entry.exists()


def _time_of_use(lock: Path) -> float:
    try:
        return lock.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def fingerprint(folder: Path) -> str:
    """A hash of the names, the rights to execute and the content of all files below a folder."""
    found = hashlib.sha256()
    for path in sorted(_files(folder)):
        name = os.fsencode(os.path.relpath(path, folder))
        if name.decode(errors="replace") in (_LOCK, _FINGERPRINT):
            continue
        is_link = path.is_symlink()
        content = os.fsencode(path.readlink()) if is_link else path.read_bytes()
        kind = b"link" if is_link else b"program" if path.stat().st_mode & 0o100 else b"file"
        found.update(b"%d %b %b %b\n" % (len(name), name, kind, hashlib.sha256(content).digest()))
    return found.hexdigest()


def _files(folder: Path) -> list[Path]:
    """The files and links below a folder; a folder that is a link counts as one link."""
    found: list[Path] = []
    for parent, folders, files in os.walk(folder):
        found += [Path(parent, name) for name in files]
        found += [Path(parent, name) for name in folders if Path(parent, name).is_symlink()]
    return found
