"""Checks of row-level security: policies protect every table, and no way leads around the policies."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from clerk_supabase_cli.doctor.patient import Patient
from clerk_supabase_cli.doctor.verdicts import Finding, fail, ok, warn
from clerk_supabase_cli.operate.database import Connection
from clerk_supabase_cli.operate.install.migrations import Migration, read_migrations
from clerk_supabase_cli.operate.install.mirror import mirror_schema

# Our tables, the tables protected by secure(), and the app's others in `public` or `clerk`, or shown to the API.
_TABLES: Final = r"""
    select
        c.oid,
        format('%I.%I', n.nspname, c.relname),
        named.is_ours,
        named.is_secured,
        c.relrowsecurity,
        array(
            select p.polname::text from pg_policy as p
            where p.polrelid = c.oid and p.polpermissive order by 1
        ),
        array(
            select p.polname::text from pg_policy as p
            where p.polrelid = c.oid and p.polpermissive
            and 'true' in (pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid))
            order by 1
        ),
        c.relkind = 'p' or c.relispartition,
        -- secure() fills the column of the owner from the token.
        exists (
            select from pg_attrdef as d
            where d.adrelid = c.oid
            and pg_get_expr(d.adbin, d.adrelid) ~ '\mrequesting_(user|organization)_id\(\)'
        )
    from pg_class as c inner join pg_namespace as n on n.oid = c.relnamespace
    cross join lateral (
        select
            n.nspname = 'clerk_sync' or c.oid = to_regclass(clerk_sync.mirror_schema() || '.users_public')
            or c.oid = any(array(select to_regclass(k.relation) from clerk_sync.kinds as k)),
            clerk_sync.is_schema_of_app(n.nspname) and exists (
                select from pg_policy as p
                where p.polrelid = c.oid
                and p.polname in ('clerk_sync_select', 'clerk_sync_insert', 'clerk_sync_update', 'clerk_sync_delete')
            )
    ) as named (is_ours, is_secured)
    where c.relkind in ('r', 'p')
    and (
        named.is_ours or named.is_secured or n.nspname in ('public', clerk_sync.mirror_schema())
        or (clerk_sync.is_schema_of_app(n.nspname) and clerk_sync.relation_shown_to(c.oid) is not null)
    )
    order by 2
"""
_OPENINGS: Final = """
    select t.id, o.verdict, o.found, o.todo
    from unnest(%s::oid[]) as t (id) cross join clerk_sync.openings(t.id::regclass) as o
    where o.verdict <> 'note'
"""
# Not clerk_sync.detours(): its search of all functions finds only possible detours, for a person to judge.
# A warning about each function with the word `users` would be too many: Supabase has such a table, too.
_DETOURS_TO_OURS: Final = """
    select t.id, d.verdict, d.found, d.todo
    from unnest(%s::oid[]) as t (id)
    cross join lateral (
        select r.* from clerk_sync.detours_by_relations(t.id::regclass) as r
        union all
        select r.* from clerk_sync.detours_by_roles(t.id::regclass) as r
    ) as d
    where d.verdict = 'fail'
"""
_OPEN_BUCKETS: Final = """
    select format('the bucket %s: %s', b.id, o.found), o.verdict, o.todo
    from storage.buckets as b cross join clerk_sync.bucket_openings(b.id) as o
    where clerk_sync.statements_to_unsecure_bucket(b.id) <> '{}' and o.verdict <> 'note'
    order by 1
"""
_SCHEMA_OPEN_TO: Final = """
    select r.rolname::text from pg_roles as r
    where r.rolname in ('anon', 'authenticated') and has_schema_privilege(r.oid, 'clerk_sync', 'usage')
    order by 1
"""
_PROFILES_VISIBLE_TO: Final = "select visible_to from clerk_sync.profile_visibility"
_TO_SECURE: Final = "clerk-supabase secure TABLE user, or organization"
_TO_SECURE_PARTITIONS: Final = (
    "alter table TABLE enable row level security, and write policies of your own for the table with the partitions: "
    "secure takes no such tables"
)
_POLICY: Final = re.compile(r"^create policy (\w+) on ([\w.]+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class _Table:
    oid: int
    name: str
    is_ours: bool
    is_secured: bool
    """True: the table is the app's, protected by clerk_sync.secure()."""
    has_security: bool
    policies: list[str]
    """Names of its permissive policies."""
    open_policies: list[str]
    """Names of its permissive policies with `true` as their condition."""
    is_partitioned: bool
    """True: the table has partitions, or is one. clerk_sync.secure() takes neither."""
    takes_owner_of_token: bool
    """True: a column of the table is filled from the caller's token, as by clerk_sync.secure()."""


def row_level_security(patient: Patient) -> Iterator[Finding]:
    """Checks that policies protect our tables and secured tables, without a way around, and the app's other tables."""
    with patient.database() as connection:
        tables = [_Table(*row) for row in connection.execute(_TABLES)]
        open_to = [name for (name,) in connection.execute(_SCHEMA_OPEN_TO)]
        openings = [*_openings(connection, tables), *_open_buckets(connection)]
        visible_to = connection.execute(_PROFILES_VISIBLE_TO).fetchone()
        migrations = read_migrations(patient.named.root, mirror_schema(connection))
    problems = [*_problems_of_ours(tables, _policies(migrations)), *openings, *_problems_of_the_apps(tables)]
    if open_to:
        problems.append(
            fail(
                f"{' and '.join(open_to)} may use the schema clerk_sync",
                f"revoke usage on schema clerk_sync from {', '.join(open_to)}; and do not expose it through the API",
            )
        )
    if visible_to is None:
        problems.append(
            warn(
                "each user sees only their own profile: a restore lost the setting in clerk_sync.profile_visibility",
                "clerk-supabase secure --profiles everybody, or organizations, or nobody",
            )
        )
    yield from problems
    if not problems and visible_to is not None:
        ours, secured = sum(table.is_ours for table in tables), sum(table.is_secured for table in tables)
        yield ok(
            f"on for all {len(tables)} tables: {ours} of ours, {secured} secured, the rest your own; "
            f"profiles are visible to {visible_to[0]}"
        )


def _open_buckets(connection: Connection) -> Iterator[Finding]:
    """Ways to the files of secured buckets, without the policies of secure_bucket()."""
    if connection.execute("select to_regclass('storage.buckets') is null").fetchall() == [(True,)]:
        return
    for words, verdict, todo in connection.execute(_OPEN_BUCKETS):
        yield warn(words, todo) if verdict == "warn" else fail(words, todo)


def _policies(migrations: Sequence[Migration]) -> dict[str, set[str]]:
    """Names of the policies made by these migrations, by table."""
    made: dict[str, set[str]] = {}
    for migration in migrations:
        for name, table in _POLICY.findall(migration.text):
            made.setdefault(table, set()).add(name)
    return made


def _problems_of_ours(tables: Sequence[_Table], policies: Mapping[str, set[str]]) -> Iterator[Finding]:
    for name in sorted(policies.keys() - {table.name for table in tables}):
        yield fail(f"there is no table {name}", "clerk-supabase migrate; the rows of a dropped table are in a backup")
    for table in tables:
        if not table.is_ours:
            continue
        if not table.has_security:
            yield fail(
                f"row-level security is off for {table.name}: only grants stand before its rows",
                f"alter table {table.name} enable row level security",
            )
        if missing := policies.get(table.name, set()) - set(table.policies):
            yield fail(
                f"{table.name} lacks the policies {', '.join(sorted(missing))}",
                "without these policies no user sees a row: run their `create policy` of sql/migrations again",
            )
        if table.open_policies:
            yield warn(
                f"{table.name} has policies that allow more: {', '.join(table.open_policies)}",
                "drop them, unless that is meant",
            )


def _openings(connection: Connection, tables: Sequence[_Table]) -> Iterator[Finding]:
    """Names each way around the policies of secured tables and of ours, once with all tables behind it."""
    names = {table.oid: table.name for table in tables}
    found: dict[tuple[str, str, str], list[str]] = {}
    for query, oids in (
        (_OPENINGS, [table.oid for table in tables if table.is_secured]),
        (_DETOURS_TO_OURS, [table.oid for table in tables if table.is_ours]),
    ):
        for oid, verdict, words, todo in connection.execute(query, [oids]):
            found.setdefault((verdict, words, todo), []).append(names[oid])
    for (verdict, words, todo), of in found.items():
        yield (fail if verdict == "fail" else warn)(f"{', '.join(of)}: {words}", todo)


def _problems_of_the_apps(tables: Sequence[_Table]) -> Iterator[Finding]:
    for table in tables:
        if table.takes_owner_of_token and table.open_policies and not (table.is_ours or table.is_secured):
            yield fail(
                f"{table.name} was secured, and its policies now let everybody in: {', '.join(table.open_policies)}",
                f"drop these policies, and: {_TO_SECURE}; if that is meant, drop the default of the owner's column",
            )
    bare = [table for table in tables if not (table.is_ours or table.is_secured or table.has_security)]
    for of, todo in (
        ([table for table in bare if not table.is_partitioned], _TO_SECURE),
        ([table for table in bare if table.is_partitioned], _TO_SECURE_PARTITIONS),
    ):
        if of:
            yield warn(f"row-level security is off for {', '.join(table.name for table in of)}", todo)
