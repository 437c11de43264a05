"""Views and functions in a schema of the app, as clerk_sync.expose() makes and removes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Final, Literal

import psycopg

from clerk_supabase_cli.failure import Failure
from clerk_supabase_cli.operate.database import Connection

Outcome = Literal["made", "there", "corrected", "left", "removed", "gone"]

_EXISTS: Final = "select to_regprocedure('clerk_sync.expose(name)') is not null"
_EXPOSE: Final = "select kind, name, outcome, reason from clerk_sync.expose(%s)"
_UNEXPOSE: Final = "select kind, name, outcome, reason from clerk_sync.unexpose(%s)"
_FAULTS: Final = "select verdict, found, todo from clerk_sync.faults_of_all_exposed()"


class NotExposed(Failure):
    """Nothing was changed, for the reason in the message."""


@dataclass(frozen=True, slots=True)
class Exposed:
    """A view or a function, and what became of it."""

    kind: Literal["view", "function"]
    name: str
    outcome: Outcome
    """made, there (since an earlier call), corrected; removed, gone (dropped or replaced by the app); left alone."""
    reason: str | None

    def as_json(self) -> Mapping[str, object]:
        """The fields."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault of a view or a function, with advice."""

    verdict: Literal["warn", "fail"]
    found: str
    todo: str


def expose(connection: Connection, schema: str) -> Sequence[Exposed]:
    """Makes the views and functions whose names are free in a schema of the app. Raises NotExposed."""
    _check(connection)
    try:
        return [Exposed(*row) for row in connection.execute(_EXPOSE, [schema]).fetchall()]
    except psycopg.errors.InvalidParameterValue as error:
        raise NotExposed(
            f"{error.diag.message_primary}: --schema takes one of your schemas, which must exist"
        ) from error


def unexpose(connection: Connection, schema: str | None) -> Sequence[Exposed]:
    """Removes the views and functions made by expose() in a schema, or in all schemas. Raises NotExposed."""
    _check(connection)
    return [Exposed(*row) for row in connection.execute(_UNEXPOSE, [schema]).fetchall()]


def faults(connection: Connection) -> Sequence[Fault]:
    """The faults of all views and functions made by expose(); none before the migration that brings expose()."""
    [(exists,)] = connection.execute(_EXISTS).fetchall()
    return [Fault(*row) for row in connection.execute(_FAULTS).fetchall()] if exists else []


def _check(connection: Connection) -> None:
    [(exists,)] = connection.execute(_EXISTS).fetchall()
    if not exists:
        raise NotExposed("clerk_sync.expose() is missing; run: clerk-supabase migrate")
