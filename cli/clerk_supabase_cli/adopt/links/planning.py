"""Plan of the links of a table, which writes nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, LiteralString

from psycopg import sql
from psycopg.types.json import Jsonb

from clerk_supabase.model.found_kinds import FACTS
from clerk_supabase_cli.adopt.checking import Checked
from clerk_supabase_cli.adopt.links.proofs import NotLinked, Proofs
from clerk_supabase_cli.adopt.links.statements import BATCH_OF_PLAN, CHOSEN, LIST, PLAN, SETTINGS, statement_parts
from clerk_supabase_cli.adopt.tables import Column
from clerk_supabase_cli.operate.database import Connection

FoundBy = Literal["id", "external_id", "email"]
Reason = Literal[
    "unknown", "taken", "ambiguous", "contradicted", "unverified", "unverified_here", "no_address", "nobody", "changed"
]

REASONS: Final[Mapping[Reason, str]] = {
    "unknown": "the row names an id that no user has",
    "taken": "the user has another row",
    "ambiguous": "several rows or several users fit",
    "contradicted": "another user has verified the address of the row",
    "unverified": "the user has not verified the address in Clerk",
    "unverified_here": "the app has not verified the address",
    "no_address": "the row has no e-mail address",
    "nobody": "no user has this address",
    "changed": "the row or its user has changed meanwhile: look again",
}
"""Reasons for which a row is left to a person."""


@dataclass(frozen=True, slots=True)
class Link:
    """A row that is, or could be, linked to a user."""

    row_key: str
    """The primary key of the row, as the text of Postgres: no number in it loses a digit."""
    found_by: FoundBy
    clerk_id: str

    @property
    def row(self) -> Mapping[str, Any]:
        """The primary key of the row."""
        row: Mapping[str, Any] = json.loads(self.row_key)
        return row


@dataclass(frozen=True, slots=True)
class Left:
    """A row that is left to a person."""

    row: Mapping[str, Any]
    reason: str
    clerk_id: str | None


@dataclass(frozen=True, slots=True)
class Plan:
    """The result of a dry run."""

    links: Sequence[Link]
    left: Sequence[Left]


class Links:
    """The links of a table of the app's users."""

    def __init__(self, checked: Checked, proofs: Proofs) -> None:
        """Raises NotLinked for a table whose rows cannot be linked."""
        self.table = checked.table
        keys = [name for name, text in checked.mapping.key.items() if text == f"mirror.{FACTS['user'].key}"]
        if len(keys) != 1 or checked.mapping.kind != "user":
            raise NotLinked(f"[{checked.mapping.name}] has no single column with the id of a user")
        if not self.table.primary:
            raise NotLinked(f"{self.table.name} has no primary key, so a link could not be recorded and undone")
        self._key: Column = self.table.columns[keys[0]]
        self._is_complete = self._key.not_null
        self._proofs = proofs
        self._check_columns()
        self._parts = statement_parts(self.table, self._key, checked.mirror, proofs)

    def plan(self, connection: Connection) -> Plan:
        """Every row without an id, with its user or with the reason why it is left to a person. Writes nothing."""
        if self._is_complete:
            return Plan([], [])
        links: list[Link] = []
        left: list[Left] = []
        connection.execute(SETTINGS)
        for row_key, found_by, clerk_id, reason in connection.execute(self._planning(), binary=True):
            if reason is None:
                links.append(Link(row_key, found_by, clerk_id))
            else:
                left.append(Left(json.loads(row_key), reason, clerk_id))
        return Plan(links, left)

    def choosing(self, batch: Sequence[Link]) -> sql.Composed:
        """The statement that judges the links of a batch again, and returns those that still hold, with their proof."""
        pairs = [{"row_key": each.row_key, "clerk_id": each.clerk_id} for each in batch]
        parts = self._parts | {"links": sql.Literal(Jsonb(pairs))}
        of_batch = {name: sql.SQL(text).format(**parts) for name, text in BATCH_OF_PLAN.items()}
        return sql.SQL(f"{PLAN}{CHOSEN}").format(**parts, **of_batch)

    def statement(self, statement: LiteralString, **values: Any) -> sql.Composed:
        """A statement about the rows of the table, with values of its own."""
        literals = {name: sql.Literal(value) for name, value in values.items()}
        return sql.SQL(statement).format(**self._parts, **literals)

    def _planning(self) -> sql.Composed:
        everything: dict[str, sql.Composable] = {name: sql.SQL("true") for name in BATCH_OF_PLAN}
        return sql.SQL(f"{PLAN}{LIST}").format(**self._parts, **everything | {"batch": sql.SQL("")})

    def _check_columns(self) -> None:
        for name in (self._proofs.id_column, self._proofs.own_key, self._proofs.email_column):
            if name is not None and name not in self.table.columns:
                raise NotLinked(f"{self.table.name} has no column {name}")


def key_of(row: Mapping[str, Any]) -> str:
    """A primary key as a text, to be compared."""
    return json.dumps(row, sort_keys=True)
