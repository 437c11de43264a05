"""The roles and rights that the missing migrations need."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from clerk_supabase_cli.operate.database import Connection
from clerk_supabase_cli.operate.install.preflight_types import InTheWay, Plan
from clerk_supabase_cli.operate.objects.catalogue import API_ROLES, SCHEMA

_MADE_ROLE: Final = re.compile(r"^\s*create role (\w+)", re.MULTILINE)
_ALTERED_ROLE: Final = re.compile(r"^\s*alter role (\w+)", re.MULTILINE)
_GRANTED_ROLE: Final = re.compile(r"^\s*grant (\w+) to (\w+);", re.MULTILINE)
# From this version on, CREATEROLE alone is no right on the roles of others.
# https://www.postgresql.org/docs/16/release-16.html
_ADMIN_SINCE: Final = 16

_LOGIN: Final = """
    select
        quote_ident(current_user), r.rolsuper, r.rolcreaterole,
        current_setting('server_version_num')::integer / 10000,
        quote_ident(current_database()), quote_ident(pg_get_userbyid(d.datdba)),
        has_database_privilege(d.oid, 'create')
    from pg_roles as r cross join pg_database as d
    where r.rolname = current_user and d.datname = current_database()
"""
_ROLES: Final = """
    select
        r.rolname::text, r.rolsuper,
        exists (
            select from pg_auth_members as m
            where m.roleid = r.oid and m.admin_option and pg_has_role(m.member, 'usage')
        )
    from pg_roles as r where r.rolname = any(%s)
"""
_OWNERS: Final = """
    select n.nspname::text, quote_ident(pg_get_userbyid(n.nspowner)), pg_has_role(n.nspowner, 'usage')
    from pg_namespace as n where n.nspname = any(%s)
"""


_Known = Mapping[str, tuple[bool, bool]]
"""Roles of the server: whether a superuser, and whether the role of the connection has the admin option."""


@dataclass(frozen=True, slots=True)
class _Login:
    """The role of the connection, and its rights."""

    role: str
    is_superuser: bool
    may_create_roles: bool
    major: int
    database: str
    owner_of_database: str
    may_create_schemas: bool


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Roles in the missing migrations: created, altered, and granted (with the member)."""

    created: set[str]
    altered: set[str]
    granted: dict[str, str]

    @classmethod
    def by(cls, plan: Plan) -> _Wanted:
        text = "\n".join(plan.missing.values())
        return cls(set(_MADE_ROLE.findall(text)), set(_ALTERED_ROLE.findall(text)), dict(_GRANTED_ROLE.findall(text)))


def rights(connection: Connection, plan: Plan) -> Iterator[InTheWay]:
    """Missing roles of Supabase, and rights that the role of the connection lacks."""
    [row] = connection.execute(_LOGIN).fetchall()
    login = _Login(*row)
    wanted = _Wanted.by(plan)
    names = sorted({*API_ROLES, *wanted.created, *wanted.altered, *wanted.granted})
    known = {name: (is_super, has_admin) for name, is_super, has_admin in connection.execute(_ROLES, [names])}
    yield from _api_roles(known.keys())
    yield from _schemas(connection, plan, login)
    if not login.is_superuser:
        yield from _new_roles(wanted, known, login)
        yield from _old_roles(wanted, known, login)
        yield from _grants(wanted, known, login)


def _new_roles(wanted: _Wanted, known: _Known, login: _Login) -> Iterator[InTheWay]:
    for role in sorted(wanted.created - known.keys()):
        if not login.may_create_roles:
            yield InTheWay(
                f"{login.role} may not create the role {role}",
                f"as a superuser: alter role {login.role} createrole; or connect as a role that may",
            )


def _old_roles(wanted: _Wanted, known: _Known, login: _Login) -> Iterator[InTheWay]:
    for role in sorted(wanted.altered & known.keys()):
        is_super, has_admin = known[role]
        if not login.may_create_roles or (login.major >= _ADMIN_SINCE and not has_admin) or is_super:
            more = "" if login.may_create_roles else f"; alter role {login.role} createrole"
            yield InTheWay(
                f"the role {role} exists already (of another database of this server?), and {login.role} may not "
                "alter it",
                f"as a superuser: grant {role} to {login.role} with admin option{more}",
            )


def _grants(wanted: _Wanted, known: _Known, login: _Login) -> Iterator[InTheWay]:
    is_enough = login.major < _ADMIN_SINCE and login.may_create_roles
    for role, member in sorted(wanted.granted.items()):
        if role in known and not known[role][1] and not is_enough:
            yield InTheWay(
                f"{login.role} may not grant {role} to {member}: it lacks the admin option on {role}",
                f"as a superuser: grant {role} to {login.role} with admin option; or connect as the owner of the "
                "project (at Supabase: postgres)",
            )


def _api_roles(known: Collection[str]) -> Iterator[InTheWay]:
    missing = [role for role in API_ROLES if role not in known]
    if missing:
        yield InTheWay(
            f"the server has no role {', '.join(missing)}: it is not Supabase",
            "for a plain Postgres: clerk-supabase migrate --plain-postgres, or psql -f sql/plain_postgres.sql",
        )


def _schemas(connection: Connection, plan: Plan, login: _Login) -> Iterator[InTheWay]:
    owners = {name: (owner, is_ours) for name, owner, is_ours in connection.execute(_OWNERS, [[SCHEMA, plan.mirror]])}
    if owners.keys() != {SCHEMA, plan.mirror} and not login.may_create_schemas:
        yield InTheWay(
            f"{login.role} may not create a schema in the database {login.database}",
            f"connect as {login.owner_of_database}, who owns the database; or, as {login.owner_of_database}: "
            f"grant create on database {login.database} to {login.role}",
        )
    for name, (owner, is_ours) in sorted(owners.items()):
        if not is_ours and (name == SCHEMA or not plan.begins):
            yield InTheWay(
                f"the schema {name} belongs to {owner}, and {login.role} is no member of {owner}",
                f"connect as {owner}",
            )
