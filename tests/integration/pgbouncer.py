"""A connection pooler in transaction mode, as Supabase has one in front of every database."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from clerk_supabase_cli.processes import free_port
from tests.polling import eventually

_PATIENCE_SECONDS = 20


@contextmanager
def pooled(url: str, folder: Path) -> Iterator[str]:
    """The URL of a pooler with one connection to a database: whoever comes next gets the connection of the last."""
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip("pgbouncer is not installed (Debian, Ubuntu: apt install pgbouncer)")
    parts = urlsplit(url)
    database, port = parts.path.removeprefix("/"), free_port()
    configuration = folder / "pgbouncer.ini"
    configuration.write_text(
        f"""
[databases]
{database} = host=127.0.0.1 port={parts.port} user={parts.username} password={parts.password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 1
"""
    )
    # It refuses to run as root, and reads nothing that only root can.
    as_root = os.geteuid() == 0
    command = [program, "-u", "nobody", str(configuration)] if as_root else [program, str(configuration)]
    if as_root:
        for each in (folder, *folder.parents[:-1]):
            if not each.stat().st_mode & 0o001 and each.owner() == "root":
                each.chmod(each.stat().st_mode | 0o001)
        configuration.chmod(0o644)
    through = f"postgresql://anybody@127.0.0.1:{port}/{database}?sslmode=disable"
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            eventually(lambda: _answers(through), bool, seconds=_PATIENCE_SECONDS)
            yield through
        finally:
            process.terminate()


def _answers(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True
