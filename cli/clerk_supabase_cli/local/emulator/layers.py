"""Layers extracted once for all functions, as Lambda mounts one copy of a layer at /opt.

MiniStack extracts the layer, two thousand files, anew for each process of a function, which takes most of a cold start.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import threading
import zipfile
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

_LARGE: Final = 1_000_000
"""Bytes of an archive from which on its content is shared. The code of a function is smaller."""
_lock = threading.Lock()
_extracted: dict[str, Path] = {}


def extracting_once() -> SimpleNamespace:
    """A stand-in for the module zipfile, for a module of MiniStack."""
    return SimpleNamespace(**{**vars(zipfile), "ZipFile": _Archive})


class _Archive(zipfile.ZipFile):
    """An archive whose content is extracted once if it is large: the folders of a function link to this copy."""

    def namelist(self) -> list[str]:
        """The names, which MiniStack checks one by one; none if the content was extracted before, after this check."""
        return [] if self._is_large and self._digest in _extracted else super().namelist()

    def extractall(self, path: Any = None, members: Any = None, pwd: Any = None) -> None:
        """Extracts the content, or links to the content that was extracted before."""
        if not self._is_large or path is None or members is not None:
            super().extractall(path, members, pwd)
            return
        for entry in self._shared().iterdir():
            (Path(path) / entry.name).symlink_to(entry)

    def _shared(self) -> Path:
        with _lock:
            if self._digest not in _extracted:
                folder = Path(tempfile.mkdtemp(prefix="ministack-layer-"))
                try:
                    super().extractall(folder)
                except BaseException:
                    shutil.rmtree(folder, ignore_errors=True)
                    raise
                _extracted[self._digest] = folder
            return _extracted[self._digest]

    @cached_property
    def _is_large(self) -> bool:
        return sum(each.file_size for each in self.infolist()) >= _LARGE

    @cached_property
    def _digest(self) -> str:
        with Path(str(self.filename)).open("rb") as archive:
            return hashlib.file_digest(archive, "sha256").hexdigest()
