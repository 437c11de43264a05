"""The comparison of the app's tables with the mirror, by a mapping."""

from __future__ import annotations

from collections.abc import Mapping as Mapped
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg import sql

from clerk_supabase.model.facts import Kind
from clerk_supabase.model.found_kinds import FACTS
from clerk_supabase_cli.adopt.checking import Checked, check_mappings, value_of
from clerk_supabase_cli.adopt.mapping import Clear, Mapping, MappingWrong
from clerk_supabase_cli.adopt.tables import Column, reading
from clerk_supabase_cli.operate.database import Connection

SECONDS: Final = 600.0
"""Longest time of one statement of a comparison."""

ROWS: Final = ("missing", "unknown", "deleted", "not_cleared", "double")
"""Faults of whole rows, by which rows can be listed."""

_IS_CLERKS: Final = "^(user|org|orgmem|orginv|orgdmn|dmn)_"

# One pass over both tables. `ours`: one row for each object of the mirror; of several objects with the same key, as
# after a member left and joined again, the one that is not deleted. `theirs`: one row for each row of the app.
_PAIRS: Final = """
with ours as materialized (
    select {distinct} mirror.{id} as id, mirror.deleted_at is not null as is_deleted, {our_keys}, {our_values}
    from {mirror} as mirror {order}
),

theirs as (
    select true as is_there, {their_keys}, {their_values}, {is_cleared} as is_cleared,
        {number} as number
    from {table} as theirs
    where {is_linked}
),

pairs as (
    select
        coalesce(ours.id, {shown_key}) as id, ours.id is not null as is_ours, ours.is_deleted,
        theirs.is_there is not null as is_theirs, theirs.is_cleared, theirs.number, {is_clerks} as is_clerks, {columns}
    from ours full join theirs on {same_key}
)
"""
_COUNTS: Final = """
select
    count(*) filter (where is_theirs and number = 1), count(*) filter (where is_ours and not is_deleted),
    count(*) filter (where {missing}), count(*) filter (where {unknown}), count(*) filter (where {deleted}),
    count(*) filter (where {not_cleared}), count(*) filter (where {double}),
    count(*) filter (where is_theirs and not is_ours and not is_clerks), {differing}
from pairs
"""
_UNLINKED: Final = "select count(*) from {table} as theirs where not ({is_linked})"


@dataclass(frozen=True, slots=True)
class Sample:
    """A row with a difference; its values only on request."""

    id: str
    mirror: str | None = None
    app: str | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """The result for one kind."""

    name: str
    table: str
    objects: int
    """Objects of the mirror that are not deleted."""
    rows: int
    """Rows of the app with a key."""
    unlinked: int
    """Rows of the app without a Clerk id: no fault."""
    missing: int
    """Objects without a row."""
    unknown: int
    """Rows with an id of Clerk's that the mirror does not have."""
    deleted: int
    """Rows of deleted objects, where the mapping says that such rows are deleted."""
    kept: int
    """Rows of deleted objects that stay, as the mapping says: no fault."""
    not_cleared: int
    """Rows of deleted objects with values in columns that the mapping clears."""
    double: int
    """Rows with the key of another row."""
    columns: Mapped[str, int]
    """Number of rows that differ, by column."""
    samples: Mapped[str, Sequence[Sample]]
    """Some rows of each fault, by the name of the column or of the fault."""

    @property
    def is_equal(self) -> bool:
        """True: no fault."""
        faults = self.missing + self.unknown + self.deleted + self.not_cleared + self.double
        return not faults and not any(self.columns.values())


def compare(
    connection: Connection,
    mappings: Sequence[Mapping],
    *,
    show: Sequence[str] = (),
    limit: int = 5,
    with_values: bool = False,
) -> list[Comparison]:
    """Compares the tables of each mapping with the mirror, in one read-only transaction.

    *show*: columns or faults of which up to *limit* rows are sampled; without a name, all of them. Raises MappingWrong.
    """
    with reading(connection, seconds=SECONDS):
        return [
            _Pairs(connection, checked).compared(show, limit, with_values=with_values)
            for checked in check_mappings(connection, mappings)
        ]


class _Pairs:
    """The pairs of objects and rows of one kind."""

    def __init__(self, connection: Connection, checked: Checked) -> None:
        self._connection = connection
        self._checked = checked
        self._mapping = checked.mapping
        self._columns = checked.table.columns
        self._pairs = sql.SQL(_PAIRS).format(**self._parts())
        self._is_deleted = sql.SQL("is_theirs and is_ours and is_deleted")
        clears = isinstance(self._mapping.on_delete, Clear)
        never = sql.SQL("false")
        self._faults: dict[str, sql.Composable] = {
            "missing": sql.SQL("is_ours and not is_deleted and not is_theirs") if self._mapping.insert else never,
            "unknown": sql.SQL("is_theirs and not is_ours and is_clerks"),
            "deleted": self._is_deleted if self._mapping.on_delete == "delete" else never,
            "not_cleared": sql.SQL("{} and not is_cleared").format(self._is_deleted) if clears else never,
            "double": sql.SQL("is_theirs and number > 1"),
        }

    def compared(self, show: Sequence[str], limit: int, *, with_values: bool) -> Comparison:
        places = [f"differs_{number}" for number in range(len(self._mapping.update))]
        counts = sql.SQL(_COUNTS).format(
            **{name: fault for name, fault in self._faults.items() if name != "deleted"},
            deleted=self._is_deleted,
            differing=_listed(
                [sql.SQL("count(*) filter (where {})").format(sql.Identifier(place)) for place in places],
                "null",
            ),
        )
        [row] = self._rows(sql.SQL("{} {}").format(self._pairs, counts))
        rows, objects, missing, unknown, deleted, not_cleared, double, not_clerks, *differing = row
        columns = dict(zip(self._mapping.update, differing, strict=False))
        is_fault = self._mapping.on_delete == "delete"
        found = {
            "missing": missing,
            "unknown": unknown,
            "deleted": deleted if is_fault else 0,
            "not_cleared": not_cleared,
            "double": double,
        }
        wanted = [name for name, number in {**found, **columns}.items() if number and (not show or name in show)]
        return Comparison(
            name=self._mapping.name,
            table=self._checked.table.name,
            objects=objects,
            rows=rows,
            unlinked=self._unlinked() + not_clerks,
            **found,
            kept=0 if is_fault else deleted - not_cleared,
            columns=columns,
            samples={name: self._samples(name, limit, with_values=with_values) for name in wanted},
        )

    def _unlinked(self) -> int:
        query = sql.SQL(_UNLINKED).format(table=self._checked.table.reference, is_linked=self._is_linked())
        return int(self._connection.execute(query, binary=True).fetchall()[0][0])

    def _samples(self, name: str, limit: int, *, with_values: bool) -> list[Sample]:
        number = list(self._mapping.update).index(name) if name in self._mapping.update else None
        fault = self._faults[name] if number is None else sql.Identifier(f"differs_{number}")
        has_values = with_values and number is not None
        values = [sql.Identifier(f"{side}_{number}") for side in ("our", "their")] if has_values else []
        query = sql.SQL("{} select {} from pairs where {} order by id limit {}").format(
            self._pairs,
            _listed([sql.SQL("id"), *(sql.SQL("{}::text").format(each) for each in values)]),
            fault,
            sql.Literal(limit),
        )
        return [Sample(*row) for row in self._rows(query)]

    def _rows(self, query: sql.Composed) -> list[tuple[Any, ...]]:
        try:
            return self._connection.execute(query, binary=True).fetchall()
        except psycopg.DataError as error:
            reason = f"an expression fails for an object of the mirror: {error.diag.message_primary}"
            raise MappingWrong(f"[{self._mapping.name}] {reason}") from None

    def _is_linked(self) -> sql.Composable:
        columns = [sql.SQL("theirs.{} is not null").format(sql.Identifier(name)) for name in self._mapping.key]
        return sql.SQL(" and ").join(columns)

    def _number(self) -> sql.Composable:
        """The number of a row among the rows with the same key."""
        key = self._mapping.key.keys()
        if any(key >= set(unique) for unique in self._checked.table.uniques):
            return sql.SQL("1")
        columns = _listed([sql.SQL("theirs.{}").format(sql.Identifier(column)) for column in key])
        return sql.SQL("row_number() over (partition by {})").format(columns)

    def _parts(self) -> dict[str, sql.Composable]:
        keys = list(self._mapping.key.items())
        values = list(self._mapping.update.items())
        clerk_key = FACTS[self._mapping.kind].key
        # Only a key that is Clerk's own id is known to be unique in the mirror.
        is_own = [text for _, text in keys] == [f"mirror.{clerk_key}"]
        our_keys = [self._cast(column, value_of(text)) for column, text in keys]
        key_places = [sql.Identifier(f"key_{number}") for number in range(len(keys))]
        their_keys = [self._taken(column) for column, _ in keys]
        cleared = self._mapping.on_delete.columns if isinstance(self._mapping.on_delete, Clear) else ()
        return {
            "id": sql.Identifier(clerk_key),
            "mirror": self._checked.mirror,
            "table": self._checked.table.reference,
            "distinct": sql.SQL("" if is_own else "distinct on ({})").format(_listed(our_keys)),
            "order": sql.SQL("" if is_own else "order by {}, mirror.deleted_at is not null, mirror.{}").format(
                _listed(our_keys), sql.Identifier(clerk_key)
            ),
            "our_keys": _listed(
                [sql.SQL("{} as {}").format(value, place) for value, place in zip(our_keys, key_places, strict=True)]
            ),
            "their_keys": _listed(
                [sql.SQL("{} as {}").format(value, place) for value, place in zip(their_keys, key_places, strict=True)]
            ),
            "our_values": _listed(
                [
                    sql.SQL("{} as {}").format(self._cast(column, value_of(text)), sql.Identifier(f"our_{number}"))
                    for number, (column, text) in enumerate(values)
                ],
                "null as nothing_ours",
            ),
            "their_values": _listed(
                [
                    sql.SQL("{} as {}").format(self._taken(column), sql.Identifier(f"their_{number}"))
                    for number, (column, _) in enumerate(values)
                ],
                "null as nothing_theirs",
            ),
            "is_cleared": sql.SQL(" and ").join(
                sql.SQL("theirs.{} is null").format(sql.Identifier(column)) for column in cleared
            )
            if cleared
            else sql.SQL("true"),
            "number": self._number(),
            "is_linked": self._is_linked(),
            "shown_key": sql.SQL("concat_ws(' ', {})").format(
                _listed([sql.SQL("theirs.{}::text").format(place) for place in key_places])
            ),
            # A key made by expressions, such as a uuid of the app, is nobody's but the mapping's.
            "is_clerks": sql.SQL("theirs.key_0::text ~ {}").format(sql.Literal(_IS_CLERKS))
            if is_own
            else sql.SQL("true"),
            "same_key": sql.SQL(" and ").join(sql.SQL("ours.{0} = theirs.{0}").format(place) for place in key_places),
            "columns": _listed([part for number in range(len(values)) for part in _compared(number)], "null"),
        }

    def _cast(self, name: str, value: sql.Composable) -> sql.Composable:
        """A value of the mirror in the type of the column."""
        column = self._columns[name]
        if _is_text(column):
            return _comparable(column, value)
        return _comparable(column, sql.SQL("{}::{}").format(value, sql.SQL(column.compared_type)))

    def _taken(self, name: str) -> sql.Composable:
        return _comparable(self._columns[name], sql.SQL("theirs.{}").format(sql.Identifier(name)))


def _compared(number: int) -> list[sql.Composable]:
    ours, theirs = sql.Identifier(f"our_{number}"), sql.Identifier(f"their_{number}")
    differs = sql.SQL(
        "ours.id is not null and not ours.is_deleted and theirs.is_there and ours.{} is distinct from theirs.{} as {}"
    ).format(ours, theirs, sql.Identifier(f"differs_{number}"))
    return [sql.SQL("ours.{}").format(ours), sql.SQL("theirs.{}").format(theirs), differs]


def _comparable(column: Column, value: sql.Composable) -> sql.Composable:
    """The value in a type whose equality Postgres finds without the search path of the app.

    Texts are compared letter by letter, also in a type or a collation that ignores case: the feed writes what Clerk
    says. JSON has no equality, jsonb has.
    """
    if _is_text(column):
        return sql.SQL('({}::text collate "C")').format(value)
    if column.type_name == "json":
        return sql.SQL("({}::jsonb)").format(value)
    return value


def _is_text(column: Column) -> bool:
    """True for a column compared as text: of a text, an enum, or a type of the app or of an extension."""
    is_foreign = column.category in {"U", "G", "C"} and column.type_name not in {"json", "jsonb", "uuid", "bytea"}
    return column.category in {"S", "E"} or is_foreign


def _listed(parts: Sequence[sql.Composable], otherwise: str = "") -> sql.Composable:
    return sql.SQL(", ").join(parts) if parts else sql.SQL(otherwise)


def shown_names(mappings: Sequence[Mapping]) -> dict[str, list[Kind]]:
    """The possible values of `--show`, each with its kinds."""
    names: dict[str, list[Kind]] = {fault: [each.kind for each in mappings] for fault in ROWS}
    for mapping in mappings:
        for column in mapping.update:
            names.setdefault(column, []).append(mapping.kind)
    return names
