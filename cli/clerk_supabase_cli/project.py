"""The checkout in which the command works."""

from __future__ import annotations

from pathlib import Path

from clerk_supabase_cli.failure import Failure


class ProjectNotFound(Failure):
    """Neither this folder nor a folder above is a checkout, with template.yaml and sql/migrations."""

    def __init__(self, start: Path) -> None:
        super().__init__(
            f"neither {start} nor a folder above it holds template.yaml and sql/migrations; "
            "run this inside a checkout of clerk-supabase-sync"
        )


def find_root(start: Path | None = None) -> Path:
    """The nearest checkout: *start* (by default the current folder) or a folder above.

    Raises ProjectNotFound.
    """
    start = (start or Path.cwd()).resolve()
    for folder in (start, *start.parents):
        if (folder / "template.yaml").is_file() and (folder / "sql" / "migrations").is_dir():
            return folder
    raise ProjectNotFound(start)
