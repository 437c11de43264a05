"""Columns of texts that hold the uuids of users, found by a sample of the values in every table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, LiteralString

from psycopg import sql

from clerk_supabase_cli.adopt.samples import Sized, tables_of_the_app
from clerk_supabase_cli.adopt.supabase_auth.auth_schema import NOT_THE_APPS
from clerk_supabase_cli.operate.database import Connection
from clerk_supabase_cli.operate.install.mirror import mirror_schema

TEXTS: Final = ("text", "varchar", "bpchar")
"""The types of such columns, also below a domain."""

_PAGES: Final = 50
_TABLES_AT_ONCE: Final = 40
# The length is known without the value, so that no large value is read.
_LOOKS_LIKE_UUID: Final[LiteralString] = """
    octet_length({value}) = 36 and {value} ~* '^[0-9a-f]{{8}}(-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}$'
"""
_COUNTS: Final[LiteralString] = """
    (
        select {oid}::bigint, array[{counts}]::bigint[] from (
            select {columns} from {source}
        ) as t
    )
"""
_COLUMN: Final[LiteralString] = """
    case when {is_uuid} then {value}::uuid end as {place}
"""
_COUNT: Final[LiteralString] = """
    count(t.{place}), count(*) filter (where exists (select from auth.users as u where u.id = t.{place}))
"""


@dataclass(frozen=True, slots=True)
class TextColumn:
    """A column of texts with uuids of users."""

    relation: int
    column: str
    sampled: int
    """Values of the sample that look like a uuid."""
    matching: int
    """Values of the sample that are ids of users."""


def text_columns(connection: Connection) -> list[TextColumn]:
    """The columns of texts with uuids of users, in all tables whose rows this role sees."""
    tables, _ = tables_of_the_app(connection, [*NOT_THE_APPS, mirror_schema(connection)])
    with_texts = {each.table.oid: (each, texts) for each in tables if (texts := _texts(each))}
    found: list[TextColumn] = []
    oids = [*with_texts]
    for start in range(0, len(oids), _TABLES_AT_ONCE):
        batch = [with_texts[oid] for oid in oids[start : start + _TABLES_AT_ONCE]]
        query = sql.SQL(" union all ").join(_counts(*each) for each in batch)
        for oid, counts in connection.execute(query):
            pairs = zip(with_texts[oid][1], counts[::2], counts[1::2], strict=True)
            found += [TextColumn(oid, name, sampled, matching) for name, sampled, matching in pairs if matching]
    return found


def looks_like_uuid(value: sql.Composable) -> sql.Composed:
    """A condition for a value of a text: Postgres casts the value to uuid."""
    return sql.SQL(_LOOKS_LIKE_UUID).format(value=value)


def _texts(sized: Sized) -> list[str]:
    # The compared type of a domain is the type below the domain.
    kinds = {"text", "character varying", "character"}
    columns = sized.table.columns.values()
    return [each.name for each in columns if each.compared_type.partition("(")[0] in kinds and not each.is_generated]


def _counts(sized: Sized, texts: Sequence[str]) -> sql.Composable:
    places = [sql.Identifier(f"c{number}") for number in range(len(texts))]
    values = [sql.SQL("s.{}::text").format(sql.Identifier(name)) for name in texts]
    columns = [
        sql.SQL(_COLUMN).format(is_uuid=looks_like_uuid(value), value=value, place=place)
        for value, place in zip(values, places, strict=True)
    ]
    return sql.SQL(_COUNTS).format(
        oid=sql.Literal(sized.table.oid),
        counts=sql.SQL(", ").join(sql.SQL(_COUNT).format(place=place) for place in places),
        columns=sql.SQL(", ").join(columns),
        source=sized.sampled(_PAGES, "s"),
    )
