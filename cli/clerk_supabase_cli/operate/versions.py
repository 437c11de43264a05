"""The versions of the database, the deployed functions and this command, compared with each other."""

from __future__ import annotations

from typing import Final

from clerk_supabase.version import MAJOR, VERSION
from clerk_supabase_cli.operate.database import Connection

UPGRADE: Final = "docs/upgrade.md"
_HAS_VERSION: Final = "select to_regprocedure('clerk_sync.version()') is not null"
_VERSION: Final = "select clerk_sync.version()"


def database_version(connection: Connection) -> str | None:
    """The version of the database; None for a database without migrations, or older than 1.0.0."""
    [(has_version,)] = connection.execute(_HAS_VERSION).fetchall()
    if not has_version:
        return None
    [(version,)] = connection.execute(_VERSION).fetchall()
    return str(version)


def major_of(version: str) -> int:
    """The first number of a version such as 1.2.3."""
    return int(version.partition(".")[0])


def is_newer(version: str, than: str) -> bool:
    """Tells whether a version is later than another."""
    numbers = [tuple(map(int, each.split("."))) for each in (version, than)]
    return numbers[0] > numbers[1]


def why_of_another_major(version: str | None) -> str | None:
    """A sentence about a database of another major version than this command; None for any other database."""
    if version is None or major_of(version) == MAJOR:
        return None
    return (
        f"the database is of version {version}, and this command of version {VERSION}: use the command of version "
        f"{major_of(version)}, and see {UPGRADE}"
    )
