"""Write of planned links, in batches that are judged again under a lock on the table of the app."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, starmap
from typing import Final, TypeVar

from psycopg import sql
from psycopg.types.json import Jsonb

from clerk_supabase_cli.adopt.links.planning import Left, Link, Links
from clerk_supabase_cli.adopt.links.statements import SETTINGS
from clerk_supabase_cli.adopt.parts import NotKept, Outcome, write_in_parts
from clerk_supabase_cli.operate.database import Connection
from clerk_supabase_cli.operate.locking import in_turns

_BATCH: Final = 5_000
_LOCK_SECONDS: Final = 2.0

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
# The row of the user is locked and read again: an address may have changed since the rows were chosen. A condition on
# deleted_at of its own would let a Postgres without statistics read the index of all users who are not deleted.
_WRITE: Final = """
, proven as materialized (
    select mirror.clerk_id, c.place from {mirror} as mirror inner join chosen as c on c.clerk_id = mirror.clerk_id
    where case
        when mirror.deleted_at is not null then false
        when c.found_by = 'email' then mirror.email_verified and {mirror_address} = c.address
        when c.found_by = 'external_id' then mirror.external_id = c.own_key
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
# Otherwise a foreign key of the app may reject a row when the transaction ends.
_CONSTRAINTS: Final = "set constraints all immediate"

Answer = TypeVar("Answer")


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


@dataclass(frozen=True, slots=True)
class _Chosen(Link):
    """A link with the values that prove it."""

    address: str | None
    own_key: str | None


def write_links(
    links: Links, writer: Writer, planned: Sequence[Link], *, most: int = _BATCH
) -> tuple[list[Link], list[Left]]:
    """Writes the planned links that still hold. Returns these links, and the rows of all others.

    At most *most* links at once are judged anew, under a lock on the table of the app, and committed.
    """
    written: list[Link] = []
    left: list[Left] = []
    for first in range(0, len(planned), most):
        parts: Sequence[Sequence[Link]] = [planned[first : first + most]]
        while parts:
            outcome = writer.in_turns(functools.partial(_write_batch, links, writer, parts))
            written += outcome.written
            left += [Left(each.row, f"failed: {reason}", None) for each, reason in outcome.rejected]
            known = {each.row_key for each in chain(outcome.written, *outcome.not_reached)}
            known |= {each.row_key for each, _ in outcome.rejected}
            left += [Left(each.row, "changed", each.clerk_id) for each in chain(*parts) if each.row_key not in known]
            # After a long search for rejected rows, the next transaction judges the other rows anew, and goes on.
            parts = outcome.not_reached
    return written, left


def _write_batch(links: Links, writer: Writer, parts: Sequence[Sequence[Link]]) -> Outcome[_Chosen]:
    """Writes the links of the parts that still hold."""
    connection = writer.connection
    connection.execute(SETTINGS)
    connection.execute(sql.SQL("lock table {} in share row exclusive mode").format(links.table.reference))
    connection.execute(_CONSTRAINTS)
    connection.execute(_NO_NESTED_LOOPS)
    statement = links.choosing([*chain(*parts)])
    chosen = {each.row_key: each for each in starmap(_Chosen, connection.execute(statement, binary=True))}
    connection.execute(_NESTED_LOOPS)
    still_valid = [[chosen[each.row_key] for each in part if each.row_key in chosen] for part in parts]
    return write_in_parts(connection, still_valid, functools.partial(_write_part, links, writer))


def _write_part(links: Links, writer: Writer, part: Sequence[_Chosen]) -> Sequence[_Chosen]:
    given = Jsonb([{"place": place} | asdict(each) for place, each in enumerate(part)])
    write = links.statement(_THESE + _WRITE, chosen=given)
    places = [place for (place,) in writer.connection.execute(write, binary=True)]
    record = links.statement(_THESE + _RECORD, chosen=given, places=places, operator=writer.operator)
    recorded = {row_key for (row_key,) in writer.connection.execute(record, binary=True)}
    if others := {place for place in places if part[place].row_key not in recorded}:
        raise NotKept(others)
    return [part[place] for place in sorted(places)]
