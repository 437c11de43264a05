"""Who sees what: is row-level security on where it must be?"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from clerk_supabase_cli.doctor.patient import Patient
from clerk_supabase_cli.doctor.verdicts import Finding, fail, ok, warn
from clerk_supabase_cli.migrations import read_migrations

_TABLES: Final = r"""
    select
        format('%I.%I', n.nspname, c.relname),
        n.nspname = 'clerk_sync' or c.oid = to_regclass('public.users_public')
        or c.oid = any(array(select to_regclass(k.relation) from clerk_sync.kinds as k)),
        c.relrowsecurity,
        array(
            select p.polname::text from pg_policy as p where p.polrelid = c.oid and p.polname like 'clerk\_sync\_%'
            order by 1
        ),
        array(
            select p.polname::text from pg_policy as p
            where p.polrelid = c.oid and p.polname not like 'clerk\_sync\_%' and p.polpermissive order by 1
        ),
        array(
            select p.polname::text from pg_policy as p
            where p.polrelid = c.oid and p.polpermissive
            and 'true' in (pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid))
            order by 1
        )
    from pg_class as c inner join pg_namespace as n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p') and n.nspname in ('public', 'clerk_sync')
    order by 1
"""
_SCHEMA_OPEN_TO: Final = """
    select r.rolname::text from pg_roles as r
    where r.rolname in ('anon', 'authenticated') and has_schema_privilege(r.oid, 'clerk_sync', 'usage')
    order by 1
"""
_POLICY: Final = re.compile(r"^create policy (\w+) on ([\w.]+)", re.MULTILINE)
# clerk_sync.secure() makes one each for select, insert, update and delete.
_POLICIES_OF_SECURE: Final = 4


@dataclass(frozen=True, slots=True)
class _Table:
    name: str
    is_ours: bool
    has_security: bool
    policies_of_secure: list[str]
    other_policies: list[str]
    open_policies: list[str]

    @property
    def is_secured(self) -> bool:
        """A table of the app's that clerk_sync.secure() protects."""
        return not self.is_ours and bool(self.policies_of_secure)


def row_level_security(patient: Patient) -> Iterator[Finding]:
    """On for every table of ours and every secured one, with policies; and for every other one in `public`."""
    with patient.database() as connection:
        tables = [_Table(*row) for row in connection.execute(_TABLES)]
        open_to = [name for (name,) in connection.execute(_SCHEMA_OPEN_TO)]
    problems = [*_problems_of_ours(tables, _policies(patient)), *_problems_of_the_apps(tables)]
    if open_to:
        problems.append(
            fail(
                f"{' and '.join(open_to)} may use the schema clerk_sync",
                f"revoke usage on schema clerk_sync from {', '.join(open_to)}; and do not expose it through the API",
            )
        )
    yield from problems
    if not problems:
        ours, secured = sum(table.is_ours for table in tables), sum(table.is_secured for table in tables)
        yield ok(f"on for all {len(tables)} tables: {ours} of ours, {secured} secured, the rest your own")


def _policies(patient: Patient) -> dict[str, set[str]]:
    """Those that the migrations of this checkout make, by table."""
    made: dict[str, set[str]] = {}
    for migration in read_migrations(patient.named.root):
        for name, table in _POLICY.findall(migration.text):
            made.setdefault(table, set()).add(name)
    return made


def _problems_of_ours(tables: list[_Table], policies: Mapping[str, set[str]]) -> Iterator[Finding]:
    for name in sorted(policies.keys() - {table.name for table in tables}):
        yield fail(f"there is no table {name}", "clerk-supabase migrate; if it was dropped, it is in a backup")
    for table in tables:
        if not (table.is_ours or table.is_secured):
            continue
        if not table.has_security:
            yield fail(
                f"row-level security is off for {table.name}: only grants stand before its rows",
                f"alter table {table.name} enable row level security",
            )
        if missing := policies.get(table.name, set()) - set(table.other_policies):
            yield fail(
                f"{table.name} lacks the policies {', '.join(sorted(missing))}",
                "without them nobody sees a row: run their `create policy` of sql/migrations again",
            )
        if table.is_secured and len(table.policies_of_secure) < _POLICIES_OF_SECURE:
            yield fail(
                f"{table.name} has only the policies {', '.join(table.policies_of_secure)}",
                f"clerk-supabase secure {table.name} user, or organization",
            )
        if opened := [*table.open_policies, *(table.other_policies if table.is_secured else ())]:
            yield warn(
                f"{table.name} has policies that allow more: {', '.join(dict.fromkeys(opened))}",
                "drop them, unless that is meant",
            )


def _problems_of_the_apps(tables: list[_Table]) -> Iterator[Finding]:
    bare = [table for table in tables if not (table.is_ours or table.is_secured or table.has_security)]
    if bare:
        yield warn(
            f"row-level security is off for {', '.join(table.name for table in bare)}",
            "clerk-supabase secure TABLE user, or organization",
        )
