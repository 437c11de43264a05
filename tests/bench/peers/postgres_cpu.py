"""The time of the processor that a Postgres server has spent, with all its processes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import psycopg

from clerk_supabase_cli.local.postgres import EmbeddedPostgres


@dataclass(frozen=True)
class PostgresCpu:
    """The processes of one server; counts nothing where there is no /proc."""

    postmaster: int

    @classmethod
    def of(cls, server: EmbeddedPostgres) -> PostgresCpu:
        """Finds the server's first process."""
        with psycopg.connect(server.url("postgres")) as connection:
            stat = Path(f"/proc/{connection.info.backend_pid}/stat")
            return cls(_parent(stat) if stat.exists() else 0)

    def seconds(self) -> float:
        """Seconds until now: of living processes to the nanosecond, of those that have ended to a hundredth."""
        if not self.postmaster:
            return 0.0
        folder = Path(f"/proc/{self.postmaster}")
        children = (folder / f"task/{self.postmaster}/children").read_text().split()
        living = sum(map(_nanoseconds, (self.postmaster, *map(int, children)))) / 1e9
        ended = sum(map(int, _fields(folder / "stat")[13:15])) / os.sysconf("SC_CLK_TCK")
        return living + ended


def _nanoseconds(process: int) -> int:
    try:
        return int(Path(f"/proc/{process}/schedstat").read_text().split()[0])
    except FileNotFoundError:  # has ended meanwhile
        return 0


def _parent(stat: Path) -> int:
    return int(_fields(stat)[1])


def _fields(stat: Path) -> list[str]:
    """The fields after the name, which may hold spaces: state, parent and so on."""
    return stat.read_text().rpartition(")")[2].split()
