"""Columns of the app's table that prove whose a row is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from psycopg import sql

from clerk_supabase_cli.adopt.tables import Table
from clerk_supabase_cli.failure import Failure

_FLAGS: Final = ("emailverified", "isemailverified", "emailconfirmed")
_TIMES: Final = ("emailverified", "emailverifiedat", "emailconfirmedat")


class NotLinked(Failure):
    """Rows cannot be linked, for the reason in the message."""


@dataclass(frozen=True, slots=True)
class Proofs:
    """The columns of the app's table that can prove whose a row is."""

    id_column: str | None = None
    """Another column with Clerk's id."""
    own_key: str | None = None
    """The column that Clerk may know as external_id; None: the primary key, if it is a single column."""
    email_column: str | None = None
    their_verified: str | None = None
    """An expression over the row, named `theirs`: whether the app has verified the address. None: nothing is known."""


def verified_column(table: Table) -> str | None:
    """An expression over `theirs`, if a column of the table says whether the address of a row is verified.

    Raises NotLinked for a column of this name whose values only a person understands.
    """
    for column in table.columns.values():
        if column.name.lower().replace("_", "") not in (*_FLAGS, *_TIMES):
            continue
        reference = sql.Identifier("theirs", column.name).as_string()
        if column.category == "B":
            return reference
        if column.category == "D":
            return f"{reference} is not null"
        raise NotLinked(
            f"{table.name} has a column {column.name} of the type {column.type}: say with --their-verified which "
            f"values mean a verified address, such as '{reference} = 1'; if the column says nothing about it: true"
        )
    return None
