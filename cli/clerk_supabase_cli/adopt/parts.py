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
    """The written rows, and the rejected rows with the reasons."""

    written: list[Row] = field(default_factory=list)
    rejected: list[tuple[Row, str]] = field(default_factory=list)
    not_reached: list[list[Row]] = field(default_factory=list)
    """The parts with which the next transaction goes on."""


def write_in_parts(
    connection: Connection, parts: Sequence[Sequence[Row]], write: Callable[[Sequence[Row]], Sequence[Row]]
) -> Outcome[Row]:
    """Calls *write* for each part in a savepoint, and for each half of the part again if the app rejects a row of it.

    Needs an open transaction. *write* returns the written rows; after NotKept its part is rolled back, and written
    without the rows of the exception. When the search ends early, a row was written or rejected.
    """
    outcome: Outcome[Row] = Outcome()
    stack = [[*part] for part in reversed(parts) if part]
    ends_at = time.monotonic() + _SECONDS
    while stack and (time.monotonic() < ends_at or not (outcome.written or outcome.rejected)):
        part = stack.pop()
        try:
            with connection.transaction():
                written = write(part)
            outcome.written.extend(written)
        except NotKept as error:
            outcome.rejected.extend((part[place], _NOT_KEPT) for place in error.places)
            stack.append([row for place, row in enumerate(part) if place not in error.places])
        except psycopg.Error as error:
            if connection.broken or isinstance(
                error, psycopg.errors.LockNotAvailable | psycopg.errors.DeadlockDetected
            ):
                raise
            if middle := len(part) // 2:
                stack += [part[middle:], part[:middle]]
            else:
                outcome.rejected.append((part[0], error.diag.message_primary or str(error)))
        stack = [each for each in stack if each]
    outcome.not_reached.extend(reversed(stack))
    return outcome
