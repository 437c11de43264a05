"""The folders of the command: the files of the project, and the places for what the command writes."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Final

from clerk_supabase_cli.failure import Failure
from clerk_supabase_cli.printing import printable, say

CHECKOUT_VARIABLE: Final = "CLERK_SUPABASE_CHECKOUT"
_CODE: Final = Path(__file__).resolve().parent
_BUNDLE: Final = _CODE / "bundle"
"""The files of the project in an installed package."""


class ProjectNotFound(Failure):
    """The folder named by CLERK_SUPABASE_CHECKOUT is no checkout, or nothing is where the command belongs."""


class NotInstalled(Failure):
    """An installed command lacks a part of the checkout."""


class NoPlace(Failure):
    """There is no folder for files of this user."""


def find_root(start: Path | None = None) -> Path:
    """The folder with template.yaml, sql, functions and layers.

    The checkout of the command's own code, or the folder in an installed package: code and files are of one version,
    and the current folder does not count, because SQL of a foreign folder would run as the owner of the database.
    CLERK_SUPABASE_CHECKOUT names another checkout. *start*: the nearest checkout from there. Raises ProjectNotFound.
    """
    if start is not None:
        return _nearest(start) or _missing(f"neither {start} nor a folder above it")
    if named := os.environ.get(CHECKOUT_VARIABLE):
        return _nearest(Path(named)) or _missing(f"neither {named} of {CHECKOUT_VARIABLE} nor a folder above it")
    found = _BUNDLE if _BUNDLE.is_dir() else _nearest(_CODE)
    if found is None:
        return _missing(f"neither {_CODE} nor a folder above it")
    _note_another(found)
    return found


def find_checkout(command: str) -> Path:
    """The checkout. Raises NotInstalled in an installed package, for a *command* that needs more than its files."""
    root = find_root()
    if is_installed(root):
        raise NotInstalled(
            f"`clerk-supabase {command}` needs the tools of a checkout: run `make {command}` in a checkout of "
            "clerk-supabase-sync"
        )
    return root


def workplace(root: Path) -> Path:
    """The folder of stack.toml and of a build: the checkout, or for an installed package the current folder.

    Raises NoPlace.
    """
    return _current_folder() if is_installed(root) else root


def certificates(root: Path) -> Path:
    """The folder of the files that DatabaseCaFile may name: in the layer, or `ca` in the current folder.

    Raises NoPlace.
    """
    return _current_folder() / "ca" if is_installed(root) else root / "layers" / "shared" / "ca"


def caches(root: Path) -> dict[str, str]:
    """The variable for uv's cache: in `.tools` as in the Makefile, so that nothing is written into the home folder."""
    tools = root / ".tools"
    return {"UV_CACHE_DIR": os.environ.get("UV_CACHE_DIR") or str(tools / "cache" / "uv")} if tools.is_dir() else {}


def private_place() -> Path:
    """The folder that holds `.local`: the checkout, or for an installed package a folder of the user.

    Raises NoPlace.
    """
    root = find_root()
    if not is_installed(root):
        return root
    try:
        state = Path(os.environ.get("XDG_STATE_HOME", ""))
        # The standard says: an application ignores a path that is not absolute.
        folder = (state if state.is_absolute() else Path.home() / ".local" / "state") / "clerk-supabase"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise NoPlace(f"no folder for keys ({reason}): set XDG_STATE_HOME to a folder that you may write") from error
    return folder


def is_installed(root: Path) -> bool:
    """Tells whether these files lie in an installed package."""
    return root == _BUNDLE


def _current_folder() -> Path:
    try:
        return Path.cwd()
    except OSError as error:
        raise NoPlace(f"the current folder cannot be used ({error.strerror}): change to another") from error


@functools.cache
def _note_another(root: Path) -> None:
    """Tells once that the files of the current checkout are not read."""
    try:
        here = _nearest(Path.cwd())
    except OSError:
        return  # the current folder was deleted
    if here not in (None, root):
        words = f"note: the command reads its own files, none of {here}; {CHECKOUT_VARIABLE}={here} changes this"
        say(printable(words), err=True)


def _nearest(start: Path) -> Path | None:
    start = start.resolve()
    for folder in (start, *start.parents):
        if (folder / "template.yaml").is_file() and (folder / "sql" / "migrations").is_dir():
            return folder
    return None


def _missing(where: str) -> Path:
    raise ProjectNotFound(
        f"{where} holds template.yaml and sql/migrations: name a checkout of clerk-supabase-sync, or install again"
    )
