"""Files of the command: a full disk or a kill in the middle leaves the file of before, and never half of a file."""

from __future__ import annotations

import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.kit.databases import Connection, Database
from tests.kit.parked import Command
from tests.kit.supabase_auth import AUTH

WRITERS = {
    "adopt.toml": ("adopt", "inspect", "--force", "--output", "adopt.toml"),
    "types.ts": ("types", "--typescript", "--output", "types.ts"),
    "sql/0001_create_schema_and_worker_role.sql": ("migrate", "--render", "sql"),
    "users/users.json": ("adopt", "supabase-auth", "export", "users"),
}


def writer(name: str, folder: Path) -> list[str]:
    """The command that writes a file of this name below the folder."""
    *command, where = WRITERS[name]
    return [*command, str(folder / where)]


@contextmanager
def no_room_for_more_than(most: int) -> Iterator[None]:
    """No file of this process may grow over *most* bytes, as on a disk that becomes full."""
    before, never_more = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, never_more))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, never_more))


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_is_written_whole_or_stays_as_it_was(
    name: str, database: Database, admin: Connection, tmp_path: Path
) -> None:
    admin.execute(AUTH)
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text("mine")
    left_by_a_kill = file.with_name(f"{file.name}.new")
    left_by_a_kill.write_text("half of")
    command = Command({"DATABASE_URL": database.url})
    with no_room_for_more_than(2):
        assert "File too large" in str(command.run(*writer(name, tmp_path), status=1).exception)
    assert (file.read_text(), left_by_a_kill.exists()) == ("mine", False)
    command.run(*writer(name, tmp_path))
    assert file.read_text() != "mine"
    assert not left_by_a_kill.exists()


def test_a_link_to_a_file_stays_a_link_and_other_things_of_the_name_stay(database: Database, tmp_path: Path) -> None:
    kept = tmp_path / "kept.ts"
    kept.write_text("")
    kept.chmod(0o600)
    link = tmp_path / "types.ts"
    link.symlink_to(kept)
    command = Command({"DATABASE_URL": database.url})
    command.run(*writer("types.ts", tmp_path))
    assert (link.is_symlink(), "Database" in kept.read_text(), kept.stat().st_mode & 0o777) == (True, True, 0o600)
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(tmp_path / "adopt.toml"))
    assert "name another file" in str(command.run(*writer("adopt.toml", tmp_path), status=1).exception)
    assert (tmp_path / "adopt.toml").is_socket()
