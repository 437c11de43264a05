"""Writes to many rows of the app in one transaction, in which every row that the app rejects is found alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

import psycopg

from clerk_supabase_cli.operate.database import Connection

_SECONDS: Final = 2.0
"""Longest search for rejected rows in a transaction, because the lock on the table of the app lasts as long."""
_NOT_KEPT: Final = "a trigger of the app keeps another value"

Row = TypeVar("Row")


class NotKept(Exception):
    """Rows of a part do not hold the value although they were written; *places* in the part."""

    def __init__(self, places: Collection[int]) -> None:
        self.places = places


@dataclass(frozen=True, slots=True)
class Outcome(Generic[Row]):
    """The written rows, and the rejected rows with the reasons. A row may be neither: the next transaction tries it."""

    written: list[Row] = field(default_factory=list)
    rejected: list[tuple[Row, str]] = field(default_factory=list)


def write_in_parts(
    connection: Connection, rows: Sequence[Row], write: Callable[[Sequence[Row]], Sequence[Row]]
) -> Outcome[Row]:
    """Calls *write* for the rows in a savepoint, and for each half of them again if the app rejects one of them.

    Needs an open transaction. *write* returns the written rows; after NotKept its part is rolled back, and written
    without the rows of the exception.
    """
    outcome: Outcome[Row] = Outcome()
    parts = [[*rows]] if rows else []
    ends_at = time.monotonic() + _SECONDS
    while parts and (time.monotonic() < ends_at or not (outcome.written or outcome.rejected)):
        part = parts.pop()
        try:
            with connection.transaction():
                written = write(part)
            outcome.written.extend(written)
        except NotKept as error:
            outcome.rejected.extend((part[place], _NOT_KEPT) for place in error.places)
            parts.append([row for place, row in enumerate(part) if place not in error.places])
        except psycopg.Error as error:
            if connection.broken or isinstance(
                error, psycopg.errors.LockNotAvailable | psycopg.errors.DeadlockDetected
            ):
                raise
            if middle := len(part) // 2:
                parts += [part[middle:], part[:middle]]
            else:
                outcome.rejected.append((part[0], error.diag.message_primary or str(error)))
        parts = [each for each in parts if each]
    return outcome
