"""Links of the app's rows to users of Clerk: found with proof, written to rows without an id, and undone."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, LiteralString, TypeVar

from psycopg import sql
from psycopg.types.json import Jsonb

from clerk_supabase.model.found_kinds import FACTS
from clerk_supabase_cli.adopt.checking import Checked
from clerk_supabase_cli.adopt.parts import NotKept, Outcome, write_in_parts
from clerk_supabase_cli.adopt.tables import Column, Table, TableMissing, find_table
from clerk_supabase_cli.failure import Failure
from clerk_supabase_cli.operate.database import Connection
from clerk_supabase_cli.operate.locking import in_turns

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

_BATCH: Final = 5_000
_LOCK_SECONDS: Final = 2.0
_FLAGS: Final = ("emailverified", "isemailverified", "emailconfirmed")
_TIMES: Final = ("emailverified", "emailverifiedat", "emailconfirmedat")

# Two addresses are the same if they are equal letter by letter, except for the case of A to Z. Clerk keeps addresses in
# small letters; a table of the app may not. lower() of any other collation would fold more letters: the Kelvin sign
# becomes a k. A plus, a dot, a look-alike and another normal form make another address.
_ADDRESS: Final = """
case when {0}::text collate "C" ~ '^[^@[:space:]]+@[^@[:space:]]+$' then lower({0}::text collate "C") end
"""

_PLAN: Final = """
with {batch}
theirs as materialized (
    select
        {row_key} as row_key, {named_id} as named_id, {own_key} as own_key, {address} as address,
        coalesce({is_verified}, false) as is_verified
    from {table} as theirs where theirs.{key} is null and {is_of_batch}
),

-- Rows with an id count, too: an address of two rows proves neither.
addresses as (
    select a.address, count(*) as rows
    from (select {address} as address from {table} as theirs where {has_address_of_batch}) as a
    where a.address is not null group by a.address
),

taken as (
    select distinct theirs.{key}::text as clerk_id from {table} as theirs
    where theirs.{key} is not null and {is_taken_in_batch}
),

people as materialized (
    select
        mirror.clerk_id, mirror.external_id, mirror.email_verified, {mirror_address} as address,
        taken.clerk_id is not null as is_taken
    from {mirror} as mirror left join taken on taken.clerk_id = mirror.clerk_id
    where mirror.deleted_at is null and {is_named_in_batch}
),

owners as (
    select
        p.address, count(*) filter (where p.email_verified) as verified,
        min(p.clerk_id) filter (where p.email_verified) as clerk_id,
        bool_or(p.is_taken) filter (where p.email_verified) as is_taken
    from people as p where p.address is not null group by p.address
),

by_id as (
    select t.row_key, 1 as rank, 'id' as found_by, t.named_id as clerk_id, t.address, t.own_key, case
        when p.clerk_id is null then 'unknown'
        when p.is_taken then 'taken'
        when count(*) over (partition by t.named_id) > 1 then 'ambiguous'
    end as reason
    from theirs as t left join people as p on p.clerk_id = t.named_id
    where t.named_id is not null
),

by_external_id as (
    select
        t.row_key, 2 as rank, 'external_id' as found_by, min(p.clerk_id) as clerk_id, t.address, t.own_key, case
            when count(*) > 1 then 'ambiguous'
            when bool_or(p.is_taken) then 'taken'
            -- An external_id such as 7 may be the number of something else.
            when bool_or(o.verified = 1 and o.clerk_id <> p.clerk_id and a.rows = 1 and t.is_verified)
                then 'contradicted'
        end as reason
    from theirs as t
    inner join people as p on p.external_id = t.own_key
    left join owners as o on o.address = t.address
    left join addresses as a on a.address = t.address
    where t.named_id is null
    group by t.row_key, t.address, t.own_key
),

by_email as (
    select
        t.row_key, 3 as rank, 'email' as found_by, case when o.verified = 1 then o.clerk_id end as clerk_id, t.address,
        t.own_key, case
            when t.address is null then 'no_address'
            when o.address is null then 'nobody'
            when o.verified = 0 then 'unverified'
            when o.verified > 1 or a.rows > 1 then 'ambiguous'
            when not t.is_verified then 'unverified_here'
            when o.is_taken then 'taken'
        end as reason
    from theirs as t left join owners as o on o.address = t.address left join addresses as a on a.address = t.address
    where t.named_id is null and not exists (select from by_external_id as e where e.row_key = t.row_key)
),

judged as (
    select * from by_id union all select * from by_external_id union all select * from by_email
),

-- Two proofs may name the same user for two rows: the stronger proof counts.
plan as (
    select
        j.row_key, j.found_by, j.clerk_id, j.address, j.own_key, coalesce(j.reason, case
            when row_number() over (
                partition by j.clerk_id, j.reason is null order by j.rank, j.row_key
            ) > 1 then 'taken'
        end) as reason
    from judged as j
)
"""
_LIST: Final = """
select p.row_key::text, p.found_by, p.clerk_id, p.reason from plan as p order by p.reason nulls first, p.row_key
"""
# A plan of a whole table takes seconds, so a batch is judged with the rows and users that matter to the batch alone.
_BATCH_OF_PLAN: Final[Mapping[str, LiteralString]] = {
    "batch": """
        batch as materialized (
            select b.row_key, b.row_key::jsonb as "row", b.clerk_id, {primary_of_batch}
            from jsonb_to_recordset({links}) as b (row_key text, clerk_id text)
            cross join lateral jsonb_to_record(b.row_key::jsonb) as k ({key_types})
        ),
    """,
    "is_of_batch": """(
        ({primary}) in (select {primary_names} from batch as b) or {names_id_of_batch} or {has_external_id_of_batch}
    )""",
    "has_address_of_batch": 'lower({email}::text collate "C") in (select t.address from theirs as t)',
    "is_taken_in_batch": "theirs.{key}::text in (select b.clerk_id from batch as b)",
    "is_named_in_batch": """(
        mirror.clerk_id in (select b.clerk_id from batch as b)
        or mirror.external_id in (select t.own_key from theirs as t)
        or lower(mirror.email::text collate "C") in (select t.address from theirs as t)
    )""",
}
# A row of another batch may have a proof for a user of this batch, and a stronger proof.
_NAMES_ID_OF_BATCH: Final = "{named_id} in (select b.clerk_id from batch as b)"
_HAS_EXTERNAL_ID_OF_BATCH: Final = """
{own_key} in (
    select u.external_id from {mirror} as u inner join batch as b on b.clerk_id = u.clerk_id
    where u.external_id is not null and u.deleted_at is null
)
"""
_CHOSEN: Final = """
select b.row_key, p.found_by, p.clerk_id, p.address, p.own_key from plan as p
inner join batch as b on b."row" = p.row_key and b.clerk_id = p.clerk_id
where p.reason is null order by p.row_key
"""
# Postgres takes a batch for a few rows, and would read the whole batch again for each of its rows.
_NO_NESTED_LOOPS: Final = "set local enable_nestloop = off"
# A few rows of a large table are written through its index.
_NESTED_LOOPS: Final = "set local enable_nestloop to default"
_THESE: Final = """
with chosen as materialized (
    select c.place, c.row_key::jsonb as row_key, c.found_by, c.clerk_id, c.address, c.own_key
    from jsonb_to_recordset({chosen})
    as c (place integer, row_key text, found_by text, clerk_id text, address text, own_key text)
)
"""
# The row of the user is locked and read again: an address may have changed since the rows were chosen.
_WRITE: Final = """
, proven as materialized (
    select mirror.clerk_id, c.place from {mirror} as mirror inner join chosen as c on c.clerk_id = mirror.clerk_id
    where mirror.deleted_at is null and case c.found_by
        when 'email' then mirror.email_verified and {mirror_address} = c.address
        when 'external_id' then mirror.external_id = c.own_key
        else true
    end
    for share of mirror
),

written as (
    update {table} as theirs set {key} = p.clerk_id::{type}
    from proven as p
    inner join chosen as c on c.place = p.place
    cross join lateral jsonb_to_record(c.row_key) as k ({key_types})
    where theirs.{key} is null and {is_row}
)

select p.place from proven as p
"""
# In a statement of its own, which sees what triggers of the app have done.
_RECORD: Final = """
insert into clerk_sync.links (kind, relation, key_column, row_key, clerk_id, found_by, linked_by)
select 'user', {relation}, {key_name}, c.row_key, c.clerk_id, c.found_by, {operator}
from chosen as c
cross join lateral jsonb_to_record(c.row_key) as k ({key_types})
inner join {table} as theirs on {is_row} and theirs.{key}::text = c.clerk_id
where c.place = any({places}::integer[])
returning row_key::text
"""
# Keys of rows are written and compared in the same zone of time, whoever connects.
_SETTINGS: Final = "select set_config('row_security', 'off', true), set_config('TimeZone', 'UTC', true)"
# Otherwise a foreign key of the app may reject a row when the transaction ends.
_CONSTRAINTS: Final = "set constraints all immediate"
_HAS_LINKS: Final = "select to_regclass('clerk_sync.links') is not null"
_RECORDED: Final = """
select l.relation, l.key_column, count(*) from clerk_sync.links as l
where l.undone_at is null and (%(relation)s::text is null or l.relation = %(relation)s)
group by l.relation, l.key_column order by 1, 2
"""
_UNDO: Final = """
with recorded as (
    select l.link_id, l.row_key, l.clerk_id from clerk_sync.links as l
    where l.undone_at is null and l.relation = {relation} and l.key_column = {key_name} for update
),

undone as (
    update {table} as theirs set {key} = null from recorded as r
    where theirs.{key}::text = r.clerk_id and {row_key} = r.row_key returning r.link_id
)

update clerk_sync.links as l set undone_at = clock_timestamp(), undone_by = {operator}
from undone as u where u.link_id = l.link_id returning l.link_id
"""


Answer = TypeVar("Answer")


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
class _Chosen(Link):
    """A link with the values that prove it."""

    address: str | None
    own_key: str | None


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


@dataclass(frozen=True, slots=True)
class Unlinked:
    """The undone links of a table."""

    table: str
    undone: int
    changed: int
    """Links that stay, because the row has another id since, or is gone."""
    fault: str = ""
    """The reason why no link of the table was undone."""


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


@dataclass(frozen=True, slots=True)
class Writer:
    """A connection for writes, the name of its operator, and a function to call at each wait for a lock."""

    connection: Connection
    url: str
    operator: str
    report: Callable[[str], None]
    is_trial: bool = False
    """True: everything is rolled back."""

    def in_turns(self, act: Callable[[], Answer]) -> Answer:
        """Runs *act* in a transaction of its own. Raises LockedByOthers."""
        return in_turns(
            self.connection, self.url, act, lock_seconds=_LOCK_SECONDS, is_trial=self.is_trial, report=self.report
        )


class Links:
    """The links of a table of the app's users."""

    def __init__(self, checked: Checked, proofs: Proofs) -> None:
        """Raises NotLinked for a table whose rows cannot be linked."""
        self._table = checked.table
        self._mirror = checked.mirror
        keys = [name for name, text in checked.mapping.key.items() if text == f"mirror.{FACTS['user'].key}"]
        if len(keys) != 1 or checked.mapping.kind != "user":
            raise NotLinked(f"[{checked.mapping.name}] has no single column with the id of a user")
        if not self._table.primary:
            raise NotLinked(f"{self._table.name} has no primary key, so a link could not be recorded and undone")
        self._key: Column = self._table.columns[keys[0]]
        self._is_complete = self._key.not_null
        self._proofs = proofs
        self._check_columns()
        self._parts = self._statement_parts()

    def plan(self, connection: Connection) -> Plan:
        """Every row without an id, with its user or with the reason why it is left to a person. Writes nothing."""
        if self._is_complete:
            return Plan([], [])
        links: list[Link] = []
        left: list[Left] = []
        connection.execute(_SETTINGS)
        for row_key, found_by, clerk_id, reason in connection.execute(self._planning(), binary=True):
            if reason is None:
                links.append(Link(row_key, found_by, clerk_id))
            else:
                left.append(Left(json.loads(row_key), reason, clerk_id))
        return Plan(links, left)

    def write(self, writer: Writer, planned: Sequence[Link], *, most: int = _BATCH) -> tuple[list[Link], list[Left]]:
        """Writes the planned links that still hold. Returns these links, and the rows of all others.

        At most *most* links at once are judged anew, under a lock on the table of the app, and committed.
        """
        links: list[Link] = []
        left: list[Left] = []
        for first in range(0, len(planned), most):
            batch = planned[first : first + most]
            while batch:
                valid, outcome = writer.in_turns(functools.partial(self._write_batch, writer, batch))
                links += outcome.written
                left += [Left(each.row, f"failed: {reason}", None) for each, reason in outcome.rejected]
                done = {each.row_key for each in (*outcome.written, *(each for each, _ in outcome.rejected))}
                # After a long search for rejected rows, the rows that it did not reach are judged anew.
                remaining = valid - done if done else set()
                left += [
                    Left(each.row, "changed", each.clerk_id) for each in batch if each.row_key not in remaining | done
                ]
                batch = [each for each in batch if each.row_key in remaining]
        return links, left

    def _write_batch(self, writer: Writer, batch: Sequence[Link]) -> tuple[set[str], Outcome[_Chosen]]:
        """Returns the keys of the rows whose links still hold, and the outcome of the write of these links."""
        connection = writer.connection
        connection.execute(_SETTINGS)
        connection.execute(sql.SQL("lock table {} in share row exclusive mode").format(self._table.reference))
        connection.execute(_CONSTRAINTS)
        connection.execute(_NO_NESTED_LOOPS)
        rows = [_Chosen(*row) for row in connection.execute(self._choosing(batch), binary=True)]
        connection.execute(_NESTED_LOOPS)
        outcome = write_in_parts(connection, rows, functools.partial(self._write_part, writer))
        return {each.row_key for each in rows}, outcome

    def _write_part(self, writer: Writer, part: Sequence[_Chosen]) -> Sequence[_Chosen]:
        given = Jsonb([{"place": place} | asdict(each) for place, each in enumerate(part)])
        write = self._statement(_THESE + _WRITE, chosen=given)
        places = [place for (place,) in writer.connection.execute(write, binary=True)]
        record = self._statement(_THESE + _RECORD, chosen=given, places=places, operator=writer.operator)
        recorded = {row_key for (row_key,) in writer.connection.execute(record, binary=True)}
        if others := {place for place in places if part[place].row_key not in recorded}:
            raise NotKept(others)
        return [part[place] for place in sorted(places)]

    def _check_columns(self) -> None:
        for name in (self._proofs.id_column, self._proofs.own_key, self._proofs.email_column):
            if name is not None and name not in self._table.columns:
                raise NotLinked(f"{self._table.name} has no column {name}")

    def _planning(self) -> sql.Composed:
        everything: dict[str, sql.Composable] = {name: sql.SQL("true") for name in _BATCH_OF_PLAN}
        return sql.SQL(f"{_PLAN}{_LIST}").format(**self._parts, **everything | {"batch": sql.SQL("")})

    def _choosing(self, batch: Sequence[Link]) -> sql.Composed:
        pairs = [{"row_key": each.row_key, "clerk_id": each.clerk_id} for each in batch]
        parts = self._parts | {"links": sql.Literal(Jsonb(pairs))}
        of_batch = {name: sql.SQL(text).format(**parts) for name, text in _BATCH_OF_PLAN.items()}
        return sql.SQL(f"{_PLAN}{_CHOSEN}").format(**parts, **of_batch)

    def _statement(self, statement: LiteralString, **values: Any) -> sql.Composed:
        literals = {name: sql.Literal(value) for name, value in values.items()}
        return sql.SQL(statement).format(**self._parts, **literals)

    def _statement_parts(self) -> dict[str, sql.Composable]:
        proofs, primary = self._proofs, self._table.primary
        own_key = proofs.own_key or (primary[0] if len(primary) == 1 else None)
        nothing = sql.SQL("null::text")
        email = proofs.email_column
        aliases = {name: sql.Identifier(f"key_{number}") for number, name in enumerate(primary)}
        texts: dict[str, sql.Composable] = {
            "mirror": self._mirror,
            "named_id": _text_of(proofs.id_column) if proofs.id_column else nothing,
            "own_key": _text_of(own_key) if own_key else nothing,
        }
        return texts | {
            "table": self._table.reference,
            "key": sql.Identifier(self._key.name),
            "key_name": sql.Literal(self._key.name),
            "relation": sql.Literal(self._table.name),
            "type": sql.SQL(self._key.compared_type),
            "row_key": row_key(primary),
            "primary": _listed(sql.Identifier("theirs", name) for name in primary),
            "primary_of_batch": _listed(
                sql.SQL("{} as {}").format(sql.Identifier("k", name), alias) for name, alias in aliases.items()
            ),
            "primary_names": _listed(sql.SQL("b.{}").format(alias) for alias in aliases.values()),
            "key_types": _listed(
                sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(self._table.columns[name].type))
                for name in primary
            ),
            "is_row": sql.SQL(" and ").join(
                sql.SQL("{} = {}").format(sql.Identifier("theirs", name), sql.Identifier("k", name)) for name in primary
            ),
            "names_id_of_batch": sql.SQL(_NAMES_ID_OF_BATCH).format(**texts) if proofs.id_column else sql.SQL("false"),
            "has_external_id_of_batch": sql.SQL(_HAS_EXTERNAL_ID_OF_BATCH).format(**texts)
            if own_key
            else sql.SQL("false"),
            "email": sql.Identifier("theirs", email) if email else nothing,
            "address": sql.SQL(_ADDRESS).format(sql.Identifier("theirs", email)) if email else nothing,
            "mirror_address": sql.SQL(_ADDRESS).format(sql.SQL("mirror.email")),
            "is_verified": sql.SQL("({})").format(sql.SQL(proofs.their_verified))
            if proofs.their_verified
            else sql.SQL("true"),
        }


def unlink(writer: Writer, relation: str | None = None) -> list[Unlinked]:
    """Takes back the recorded links of a table, or of all tables: exactly the rows that still hold the recorded id."""
    results: list[Unlinked] = []
    if writer.connection.execute(_HAS_LINKS).fetchall() == [(False,)]:
        return results
    for name, key, recorded in writer.connection.execute(_RECORDED, {"relation": relation}).fetchall():
        try:
            table = find_table(writer.connection, name)
            column = table.columns[key]
        except (TableMissing, KeyError):
            results.append(Unlinked(name, 0, recorded, f"{name} has no column {key} any more"))
            continue
        if column.not_null:
            results.append(Unlinked(name, 0, recorded, f"{key} is NOT NULL now"))
            continue
        statement = sql.SQL(_UNDO).format(
            relation=sql.Literal(name),
            key_name=sql.Literal(key),
            table=table.reference,
            key=sql.Identifier(key),
            row_key=row_key(table.primary),
            operator=sql.Literal(writer.operator),
        )
        undone = writer.in_turns(functools.partial(_undone, writer.connection, statement))
        results.append(Unlinked(name, undone, recorded - undone))
    return results


def _undone(connection: Connection, statement: sql.Composed) -> int:
    connection.execute(_SETTINGS)
    return len(connection.execute(statement, binary=True).fetchall())


def key_of(row: Mapping[str, Any]) -> str:
    """A primary key as a text, to be compared."""
    return json.dumps(row, sort_keys=True)


def _listed(parts: Iterable[sql.Composable]) -> sql.Composed:
    return sql.SQL(", ").join(parts)


def row_key(primary: Sequence[str]) -> sql.Composable:
    """The primary key of a row named `theirs`, as JSON."""
    pairs = [sql.SQL("{}, {}").format(sql.Literal(name), sql.Identifier("theirs", name)) for name in primary]
    return sql.SQL("jsonb_build_object({})").format(sql.SQL(", ").join(pairs))


def _text_of(column: str) -> sql.Composable:
    return sql.SQL("nullif({}::text collate \"C\", '')").format(sql.Identifier("theirs", column))
