"""The form of an app's tables with the webhook handler that writes them, and ways to look at both."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, LiteralString

from clerk_supabase.model.changes import Upsert
from clerk_supabase_cli.adopt.mapping import Mapping as TableMapping
from clerk_supabase_cli.adopt.mapping import OnDelete
from tests.kit.databases import Connection, rows
from tests.kit.histories import upsert

Person = dict[str, str | None]
"""Parameters of `Shape.upsert`."""


@dataclass(frozen=True)
class Shape:
    """Tables of an app, with rows of user_ada and user_eve, and the statements of the app's webhook handler."""

    name: str
    title: str
    create: LiteralString
    table: str = ""
    """The table of the users, as spelled in a statement; empty: the app has no such table."""
    key: str = ""
    """The column with Clerk's id; empty for a composite key."""
    upsert: LiteralString = ""
    """Writes a user, with the parameters of `person()`."""
    delete: LiteralString = ""
    """Deletes the user %(id)s."""
    keys: Mapping[str, str] = field(default_factory=dict)
    """Columns and expressions of a composite key."""
    update: Mapping[str, str] = field(default_factory=dict)
    """Columns that the handler keeps, with their expressions over the mirror's row."""
    on_insert: Mapping[str, str] = field(default_factory=dict)
    """Other columns that a new row needs, with their expressions."""
    on_delete: OnDelete = "keep"
    """The choice of the app's owner for the rows of deleted users."""
    guard: bool = False
    """True: the app's owner keeps the mapped columns from the old handler."""
    collision: str = ""
    """The constraint that a new user with address, user name and first name of another user would violate."""
    extension: LiteralString = ""
    """Statements of a superuser that come first."""

    def install(self, owner: Connection, superuser: Connection) -> None:
        """Creates the tables and their rows."""
        if self.extension:
            superuser.execute(self.extension.encode(), prepare=False)
        owner.execute(self.create.encode(), prepare=False)

    def old_upsert(self, connection: Connection, person: Person) -> None:
        """Does the work of the handler for user.created and user.updated."""
        if self.upsert:
            connection.execute(self.upsert, person)

    def old_delete(self, connection: Connection, user_id: str) -> None:
        """Does the work of the handler for user.deleted."""
        if self.delete:
            connection.execute(self.delete, {"id": user_id})


def person(user_id: str, **fields: str | None) -> Person:
    """A user as the handler knows the user. The rows of a shape are `person("user_ada")` and `person("user_eve")`."""
    name = user_id.removeprefix("user_")
    made: Person = {
        "id": user_id,
        "email": f"{name}@example.test",
        "username": name,
        "first_name": name.capitalize(),
        "last_name": "Lovelace",
        "image_url": f"https://img.example.test/{name}.png",
    }
    return made | fields


def mirrored(user: str, **fields: Any) -> Upsert:
    """The user of `person()` in the form that Clerk sends."""
    known = person(user)
    address = {"id": "idn_1", "email_address": known.pop("email"), "verification": {"status": "verified"}}
    known.pop("id")
    sent = {**known, "email_addresses": [address], "primary_email_address_id": "idn_1", **fields}
    return upsert(user, **sent)


def fingerprint(admin: Connection) -> list[Any]:
    """Every row of the app's tables, with the transaction that wrote the row."""
    found = []
    for (name,) in rows(
        admin,
        """
        select format('%I.%I', n.nspname, c.relname) from pg_class as c inner join pg_namespace as n
        on n.oid = c.relnamespace where c.relkind = 'r' and n.nspname <> 'information_schema'
        and n.nspname not like 'pg\\_%' order by 1
        """,
    ):
        query = f"select xmin, ctid, t.* from {name} as t order by ctid"  # noqa: S608
        found.append((name, admin.execute(query.encode()).fetchall()))
    return found


def toml(mappings: Sequence[TableMapping]) -> str:
    """The text of adopt.toml."""
    lines: list[str] = []
    for mapping in mappings:
        lines += ["", f"[{mapping.name}]"]
        for name, part in mapping.as_json().items():
            if name == "kind":
                continue
            if isinstance(part, dict):
                pairs = ", ".join(f"{json.dumps(column)} = {json.dumps(text)}" for column, text in part.items())
                lines.append(f"{name} = {{ {pairs} }}")
            else:
                lines.append(f"{name} = {json.dumps(part)}")
    return "\n".join(lines)
