"""Pairs of users of the old and the new Clerk instance, with the proofs of `adopt link`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from psycopg import sql

from clerk_supabase_cli.adopt.links.planning import REASONS
from clerk_supabase_cli.adopt.links.statements import ADDRESS, BATCH_OF_PLAN, PLAN
from clerk_supabase_cli.adopt.tables import mirror_tables
from clerk_supabase_cli.failure import Failure
from clerk_supabase_cli.operate.database import Connection

# After a truncate, Postgres knows nothing of the new rows, and would read all of them again for each old row.
_NO_NESTED_LOOPS: Final = "set local enable_nestloop = off"
_RECORD: Final = """
update clerk_sync.successors as s set
    new_id = case when p.reason is null then p.clerk_id end,
    found_by = case when p.reason is null then p.found_by end,
    reason = p.reason
from plan as p where s.old_id = p.row_key and s.new_id is null
"""
_PAIR: Final = """
update clerk_sync.successors as s set new_id = e.id, found_by = 'operator', reason = null
from clerk_sync.entities as e
where s.old_id = %(old)s and e.id = %(new)s and e.kind = s.kind and e.deleted_at is null
and not exists (select from clerk_sync.successors as o where o.new_id = e.id and o.old_id <> s.old_id)
and (s.new_id is null or s.new_id = e.id)
"""
# Clerk's import keeps the old id as external_id; an app that set external_id itself has the same in both instances.
_THEIRS: Final = """
(
    select s.*, coalesce(m.external_id, s.external_id) as own_key
    from clerk_sync.successors as s
    left join (
        select distinct u.external_id from {mirror} as u where u.deleted_at is null
    ) as m on m.external_id = s.old_id
    where s.kind = 'user' and s.reason is distinct from 'deleted'
)
"""
_COUNTS: Final = """
select coalesce(s.found_by, s.reason), count(*) from clerk_sync.successors as s where s.kind = 'user'
group by 1 order by 1
"""
_WORDS: Final[Mapping[str, str]] = {
    **{str(reason): words for reason, words in REASONS.items()},
    "unverified_here": "the user had not verified the address in the old instance",
    "no_address": "the user had no e-mail address",
    "nobody": "no user of the new instance has this address",
    "taken": "the user of the new instance is the successor of another user",
    "deleted": "the user was deleted in the old instance",
    "other_kind": "only users are paired by proof: name the pair by --pair OLD=NEW",
}


class NoPair(Failure):
    """A pair that the operator named cannot be taken."""


def pair(connection: Connection, named: Sequence[str]) -> dict[str, int]:
    """Finds the successors of the users who have none. *named*: pairs of the operator, OLD=NEW, which come first.

    Returns the number of pairs by proof, and of users without a successor by reason. Raises NoPair.
    """
    connection.execute(_NO_NESTED_LOOPS)
    for each in named:
        old, equal, new = each.partition("=")
        if not equal or connection.execute(_PAIR, {"old": old, "new": new}).rowcount != 1:
            raise NoPair(
                f"--pair {each}: the old id has to be in the archive and without another successor, and the new id "
                "has to be an object of the same kind in the mirror, and nobody else's successor"
            )
    connection.execute(sql.SQL(PLAN + _RECORD).format(**_parts(connection)))
    return {in_words(reason): number for reason, number in connection.execute(_COUNTS)}


def in_words(reason: str) -> str:
    """A reason of the table clerk_sync.successors in words."""
    return _WORDS.get(reason, reason)


def _parts(connection: Connection) -> dict[str, sql.Composable]:
    """The parts of the plan: the archived users in the place of the app's rows, all in one batch."""
    mirror = mirror_tables(connection)["user"]
    everything: dict[str, sql.Composable] = {name: sql.SQL("true") for name in BATCH_OF_PLAN}
    return everything | {
        "batch": sql.SQL(""),
        "table": sql.SQL(_THEIRS).format(mirror=mirror),
        "mirror": mirror,
        "key": sql.SQL("new_id"),
        "row_key": sql.SQL("theirs.old_id"),
        "named_id": sql.SQL("null::text"),
        "own_key": sql.SQL("theirs.own_key"),
        "address": sql.SQL(ADDRESS).format(sql.SQL("theirs.address")),
        "mirror_address": sql.SQL(ADDRESS).format(sql.SQL("mirror.email")),
        "is_verified": sql.SQL("theirs.is_verified"),
    }
