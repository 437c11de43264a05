"""Schemas and objects that have the names of objects which the missing migrations make."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from clerk_supabase_cli.operate.database import Connection
from clerk_supabase_cli.operate.install.preflight_types import InTheWay, Plan
from clerk_supabase_cli.operate.objects.catalogue import SCHEMA
from clerk_supabase_cli.operate.objects.manifest import Manifest

_MOST_NAMED: Final = 5
_REPAIR: Final = (
    "clerk-supabase migrate --repair --dry-run prints the statements that take it over, and --repair runs them"
)
_MADE: Final = re.compile(
    r"^create (table|view|type|function) ([a-z_]+\.\w+)|^create (?:unique )?(index) (\w+) on (\w+)\.", re.MULTILINE
)
_DROPPED: Final = re.compile(r"^drop (?:table|view|type|function|index) (?:if exists )?([a-z_]+\.\w+)", re.MULTILINE)

# The kind, the name without arguments, the name in a statement, and the server of a foreign table.
_OBJECTS: Final = """
    select
        case c.relkind
            when 'v' then 'view' when 'm' then 'materialized view' when 'f' then 'foreign table'
            when 'S' then 'sequence' when 'i' then 'index' when 'I' then 'index' when 'c' then 'type' else 'table'
        end,
        n.nspname || '.' || c.relname, c.oid::regclass::text, coalesce(s.srvname, '')
    from pg_class as c
    inner join pg_namespace as n on n.oid = c.relnamespace
    left join pg_foreign_table as f on f.ftrelid = c.oid
    left join pg_foreign_server as s on s.oid = f.ftserver
    where n.nspname = any(%(schemas)s) and c.relkind <> 't'
    union all
    select 'function', n.nspname || '.' || p.proname, p.oid::regprocedure::text, ''
    from pg_proc as p inner join pg_namespace as n on n.oid = p.pronamespace
    where n.nspname = any(%(schemas)s)
    union all
    select 'type', n.nspname || '.' || t.typname, t.oid::regtype::text, ''
    from pg_type as t inner join pg_namespace as n on n.oid = t.typnamespace
    where n.nspname = any(%(schemas)s) and t.typtype in ('e', 'd', 'r')
    order by 1, 3
"""
_SCHEMAS: Final = (
    "select n.nspname::text, quote_ident(pg_get_userbyid(n.nspowner)) from pg_namespace as n where n.nspname = any(%s)"
)
_COLUMNS_OF_LIST: Final = """
    select array(
        select a.attname::text from pg_attribute as a
        inner join pg_class as c on c.oid = a.attrelid
        inner join pg_namespace as n on n.oid = c.relnamespace
        where n.nspname = 'clerk_sync' and c.relname = 'migrations' and a.attnum > 0 and not a.attisdropped
    )
"""


def is_list_of_another(connection: Connection) -> bool:
    """Tells whether a relation has the name of our list of migrations, but other columns."""
    [(columns,)] = connection.execute(_COLUMNS_OF_LIST).fetchall()
    return bool(columns) and not {"name", "checksum", "applied_at"} <= set(columns)


def holds_ours(connection: Connection, manifest: Manifest) -> bool:
    """Tells whether the schema of the machinery holds an object made by our migrations, besides the list."""
    ours = {
        each.name.partition("(")[0] for each in manifest.things if each.kind in {"table", "view", "function", "type"}
    }
    there = {name for _, name, _, _ in connection.execute(_OBJECTS, {"schemas": [SCHEMA]})}
    return bool((ours - {f"{SCHEMA}.migrations"}) & there)


def schemas(connection: Connection, plan: Plan) -> Iterator[InTheWay]:
    """Schemas with our names that are another's."""
    if not plan.begins:
        return
    owners: dict[str, str] = dict(connection.execute(_SCHEMAS, [[SCHEMA, plan.mirror]]).fetchall())
    if SCHEMA in owners and (held := _held(connection, SCHEMA)):
        yield InTheWay(
            f"the schema {SCHEMA} is there, and is not this project's: it belongs to {owners[SCHEMA]} and holds {held}",
            f"this name is fixed; give the schema another: alter schema {SCHEMA} rename to another_name",
        )
    if plan.mirror in owners:
        yield _mirror_taken(connection, plan.mirror, owners[plan.mirror])


def _mirror_taken(connection: Connection, mirror: str, owner: str) -> InTheWay:
    another = "take another name for the mirror, and leave the schema as it is: clerk-supabase migrate --schema NAME"
    things = connection.execute(_OBJECTS, {"schemas": [mirror]}).fetchall()
    servers = sorted({server for *_, server in things if server})
    if servers:
        return InTheWay(
            f"the schema {mirror} is there, and is not this project's: it holds the foreign tables of the server "
            f"{', '.join(servers)}, as Supabase's guide to its Clerk wrapper makes them ({_few(things)})",
            another,
        )
    if not things:
        return InTheWay(
            f"the schema {mirror} is there already, without any object; it belongs to {owner}",
            f"{another}; or, if nobody needs it: drop schema {mirror}",
        )
    return InTheWay(
        f"the schema {mirror} is there, and is not this project's: it belongs to {owner} and holds {_few(things)}",
        another,
    )


def _held(connection: Connection, schema: str) -> str:
    """The objects of a schema besides an empty list of migrations, in words; empty without any."""
    things = connection.execute(_OBJECTS, {"schemas": [schema]}).fetchall()
    its_list = () if is_list_of_another(connection) else (f"{schema}.migrations", f"{schema}.migrations_pkey")
    return _few([thing for thing in things if thing[1] not in its_list])


def _few(things: list[tuple[str, str, str, str]]) -> str:
    # Tables say more than the indexes and functions around them.
    kinds = ("foreign table", "table", "view", "materialized view", "function", "type", "sequence", "index")
    found = sorted(things, key=lambda thing: (kinds.index(thing[0]), thing[2]))
    named = ", ".join(f"the {kind} {called}" for kind, _, called, _ in found[:_MOST_NAMED])
    return f"{named} and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else named


def clashes(connection: Connection, plan: Plan, manifest: Manifest) -> Iterator[InTheWay]:
    """Objects with the name of an object that a missing migration makes, in schemas of ours."""
    if plan.begins:
        return
    dropped = {name for text in plan.missing.values() for name in _DROPPED.findall(text)}
    made = {name: file for file, text in plan.missing.items() for name in _made(text)}
    before = {name for text in plan.applied.values() for name in _made(text)}
    signatures = {each.name for each in manifest.things if each.kind == "function"}
    for kind, name, called, _ in connection.execute(_OBJECTS, {"schemas": [SCHEMA, plan.mirror]}):
        is_another = kind == "function" and called not in signatures
        if name in made and name not in {*dropped, *before} and not is_another:
            aside = "rename to another_name" if kind == "index" else "set schema public"
            yield InTheWay(
                f"{made[name]}: the {kind} {called} already exists; the list of migrations does not name this file",
                f"if this project made it: {_REPAIR}; if the app made it: alter {kind} {called} {aside}",
            )


def _made(text: str) -> Iterator[str]:
    for _, name, _, index, schema in _MADE.findall(text):
        yield name or f"{schema}.{index}"
