"""Pairs of old and new ids of users, after Clerk's import."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from clerk_supabase_cli.adopt.supabase_auth.auth_schema import see_all_rows, users_query
from clerk_supabase_cli.failure import Failure
from clerk_supabase_cli.operate.database import Connection
from clerk_supabase_cli.operate.install.mirror import mirror_schema, rendered

_CREATE: Final = (
    "create schema if not exists clerk_migration",
    "create table if not exists clerk_migration.identities (old_id uuid primary key, clerk_id text not null unique)",
    "alter table clerk_migration.identities enable row level security",
    # Supabase's older default privileges may grant everything on a new schema and a new table.
    "revoke all on schema clerk_migration from public, anon, authenticated, service_role",
    "revoke all on clerk_migration.identities from public, anon, authenticated, service_role",
    """
    create or replace function clerk_migration.clerk_id_of(old_id uuid)
    returns text
    language plpgsql
    stable
    as $$
    begin
        -- No search path of its own, which would cost more than the search: every name has its schema.
        return (
            select i.clerk_id from clerk_migration.identities as i
            where i.old_id operator(pg_catalog.=) clerk_id_of.old_id
        );
    end
    $$
    """,
    # For a column of texts: a value that is no uuid of a user stays.
    """
    create or replace function clerk_migration.clerk_id_of_text(old_id text, empties boolean)
    returns text
    language plpgsql
    stable
    as $$
    begin
        if old_id operator(pg_catalog.!~*) '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then
            return old_id;
        end if;
        return coalesce(
            clerk_migration.clerk_id_of(old_id::pg_catalog.uuid),
            case when not empties or not exists (
                select from auth.users as u where u.id operator(pg_catalog.=) old_id::pg_catalog.uuid
            ) then old_id end
        );
    end
    $$
    """,
    "revoke all on function clerk_migration.clerk_id_of(uuid) from public, anon, authenticated, service_role",
    "revoke all on function clerk_migration.clerk_id_of_text from public, anon, authenticated, service_role",
)
HAS_PAIRS: Final = "select to_regclass('clerk_migration.identities') is not null"
# A living user of Clerk whose external_id is another id of auth.users: the rows of the pair belong to somebody else.
_CONTRADICTED: Final = """
    select i.old_id from clerk_migration.identities as i
    inner join clerk.users as u on u.clerk_id = i.clerk_id and u.deleted_at is null
    inner join auth.users as other on other.id::text = lower(u.external_id) and other.id <> i.old_id
"""
_HAS_MIRROR: Final = "select to_regclass(%s) is not null"

# Two users of Clerk with the same external_id are linked with nobody: a person decides.
_CANDIDATES: Final = """
    create temporary table candidates on commit drop as
    select
        lower(u.external_id)::uuid as old_id, min(u.clerk_id) as clerk_id,
        array_agg(u.clerk_id order by u.clerk_id) as all_ids
    from clerk.users as u
    where u.deleted_at is null and u.external_id ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
    group by 1
"""
_NO_PAIRS: Final = """
    create temporary table pairs on commit drop as select null::uuid as old_id, null::text as clerk_id where false
"""
_PAIRS: Final = """
    create temporary table pairs on commit drop as select i.old_id, i.clerk_id from clerk_migration.identities as i
"""
_LINKED: Final = """
    select
        count(*) filter (where p.old_id is null and taken.old_id is null),
        count(*) filter (where p.clerk_id = c.clerk_id)
    from pg_temp.candidates as c
    inner join auth.users as old on old.id = c.old_id
    left join pg_temp.pairs as p on p.old_id = c.old_id
    left join pg_temp.pairs as taken on taken.clerk_id = c.clerk_id and taken.old_id <> c.old_id
    where cardinality(c.all_ids) = 1
"""
_DOUBLE: Final = """
    select c.old_id::text, c.all_ids from pg_temp.candidates as c where cardinality(c.all_ids) > 1 order by 1
"""
_CHANGED: Final = """
    select p.old_id::text, p.clerk_id, c.clerk_id
    from pg_temp.pairs as p
    left join pg_temp.candidates as c on c.old_id = p.old_id and cardinality(c.all_ids) = 1
    where c.clerk_id is distinct from p.clerk_id
    order by 1
"""
_FOREIGN: Final = """
    select u.clerk_id, u.external_id from clerk.users as u
    where u.deleted_at is null and u.external_id is not null and not exists (
        select from auth.users as old where old.id::text = lower(u.external_id)
    )
    order by 1
"""
_UNLINKED: Final = """
    select old.id::text, old.email, case
        when exists (select from pg_temp.candidates as c where c.old_id = old.id)
            then 'its user of Clerk was linked with another id before: add --write --replace'
        when (to_jsonb(old) ->> 'deleted_at') is not null then 'deleted in Supabase Auth'
        when (to_jsonb(old) ->> 'is_anonymous')::boolean then 'anonymous'
        when (to_jsonb(old) ->> 'email_confirmed_at') is null and (to_jsonb(old) ->> 'phone_confirmed_at') is null
            then 'no verified address or number'
        else 'not imported, or the mirror does not have the user yet'
    end
    from auth.users as old
    where not exists (
        select from pg_temp.candidates as c
        where c.old_id = old.id and (
            cardinality(c.all_ids) > 1 or not exists (select from pg_temp.pairs as p where p.clerk_id = c.clerk_id)
        )
    )
    and not exists (select from pg_temp.pairs as p where p.old_id = old.id)
    order by 3, old.created_at, 1
"""
_INSERT: Final = """
    insert into clerk_migration.identities (old_id, clerk_id)
    select c.old_id, c.clerk_id
    from pg_temp.candidates as c inner join auth.users as old on old.id = c.old_id
    where cardinality(c.all_ids) = 1
    and not exists (select from clerk_migration.identities as i where i.old_id = c.old_id or i.clerk_id = c.clerk_id)
"""
_REPLACE: Final = """
    delete from clerk_migration.identities as i
    where not exists (
        select from pg_temp.candidates as c
        where c.old_id = i.old_id and c.clerk_id = i.clerk_id and cardinality(c.all_ids) = 1
    )
    and exists (
        select from pg_temp.candidates as c where c.old_id = i.old_id and cardinality(c.all_ids) = 1
    )
"""
_REPLACE_CONTRADICTED: Final = f"delete from clerk_migration.identities where old_id in ({_CONTRADICTED})"  # noqa: S608


class NoMirror(Failure):
    """The tables of the mirror are missing."""


@dataclass(frozen=True, slots=True)
class Double:
    """A uuid with several users of Clerk, by external_id."""

    old_id: str
    clerk_ids: list[str]


@dataclass(frozen=True, slots=True)
class Changed:
    """A pair without support in the mirror: the user was deleted in Clerk, or imported again."""

    old_id: str
    clerk_id: str
    now: str | None


@dataclass(frozen=True, slots=True)
class Foreign:
    """A user of Clerk whose external_id is no id of auth.users."""

    clerk_id: str
    external_id: str


@dataclass(frozen=True, slots=True)
class Unlinked:
    """A user of Supabase Auth without a user in Clerk."""

    old_id: str
    email: str | None
    why: str


@dataclass(frozen=True, slots=True)
class Links:
    """The pairs, and everybody without a pair."""

    new: int
    known: int
    double: list[Double]
    changed: list[Changed]
    foreign: list[Foreign]
    unlinked: list[Unlinked]


def link(connection: Connection, *, writes: bool, replaces: bool) -> Links:
    """Finds the pairs by external_id; *writes*: keeps them; *replaces*: also over pairs that have changed.

    Raises NoMirror and NotSupabaseAuth.
    """
    with connection.transaction():
        see_all_rows(connection)
        users_query(connection)
        mirror = mirror_schema(connection)
        [(has_mirror,)] = connection.execute(_HAS_MIRROR, [f"{mirror}.users"]).fetchall()
        if not has_mirror:
            raise NoMirror("the tables of the mirror are missing; run: clerk-supabase migrate")
        if writes:
            for statement in _CREATE:
                connection.execute(statement.encode())
            connection.execute("lock table clerk_migration.identities in share row exclusive mode")
        [(has_pairs,)] = connection.execute(HAS_PAIRS).fetchall()
        connection.execute(rendered(_CANDIDATES, mirror).encode())
        connection.execute(_PAIRS if has_pairs else _NO_PAIRS)
        connection.execute("analyze pg_temp.candidates, pg_temp.pairs")
        changed = [Changed(*row) for row in connection.execute(_CHANGED)]
        if writes and replaces:
            connection.execute(_REPLACE)
            connection.execute(rendered(_REPLACE_CONTRADICTED, mirror).encode())
            connection.execute("drop table pg_temp.pairs")
            connection.execute(_PAIRS)
        links = _found(connection, mirror, changed)
        if writes:
            connection.execute(_INSERT)
            connection.execute("analyze clerk_migration.identities")
        return links


def contradicted(connection: Connection) -> list[str]:
    """Old ids of pairs whose user in Clerk has the id of somebody else as external_id now."""
    with connection.transaction():
        see_all_rows(connection)
        statement = rendered(_CONTRADICTED, mirror_schema(connection))
        return sorted(str(old_id) for (old_id,) in connection.execute(statement.encode()))


def _found(connection: Connection, mirror: str, changed: list[Changed]) -> Links:
    [(new, known)] = connection.execute(_LINKED).fetchall()
    return Links(
        new,
        known,
        [Double(*row) for row in connection.execute(_DOUBLE)],
        changed,
        [Foreign(*row) for row in connection.execute(rendered(_FOREIGN, mirror).encode())],
        [Unlinked(*row) for row in connection.execute(_UNLINKED)],
    )
