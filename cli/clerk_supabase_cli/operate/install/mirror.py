"""The name of the mirror's schema: `clerk`, or a name chosen before the first migration, recorded in the database."""

from __future__ import annotations

import re
from typing import Any, Final

import psycopg

from clerk_supabase_cli.failure import Failure

DEFAULT: Final = "clerk"

# The name as a part of SQL: before a dot, after the word `schema`, or alone between quotes. Not in an address, and not
# in `clerk-supabase` or `clerk_sync`.
_MENTION: Final = re.compile(r"""(?<![\w/.@-])clerk(?=\.)|(?<=\bschema )clerk\b(?!-)|(?<=(['"]))clerk(?=\1)""")
_PLAIN: Final = re.compile(r"[a-z_][a-z0-9_]{0,62}")
# Names in which Postgres, Supabase, its extensions or this project make objects of their own.
_TAKEN: Final = """
    information_schema auth cron dbdev extensions graphql graphql_public net pgbouncer pgmq pgmq_public pgsodium
    pgsodium_masks pgtle realtime storage supabase_functions supabase_migrations tiger tiger_data topology vault
    _analytics _realtime _supavisor
"""
# All words of Postgres 15 to 18 that are no name without quotes.
_QUOTED: Final = """
    all analyse analyze and any array as asc asymmetric authorization between bigint binary bit boolean both case
    cast char character check coalesce collate collation column concurrently constraint create cross current_catalog
    current_date current_role current_schema current_time current_timestamp current_user dec decimal default
    deferrable desc distinct do else end except exists extract false fetch float for foreign freeze from full grant
    greatest group grouping having ilike in initially inner inout int integer intersect interval into is isnull join
    json json_array json_arrayagg json_exists json_object json_objectagg json_query json_scalar json_serialize
    json_table json_value lateral leading least left like limit localtime localtimestamp merge_action national
    natural nchar none normalize not notnull null nullif numeric offset on only or order out outer overlaps overlay
    placing position precision primary real references returning right row select session_user setof similar
    smallint some substring symmetric system_user table tablesample then time timestamp to trailing treat trim true
    union unique user using values varchar variadic verbose when where window with xmlattributes xmlconcat
    xmlelement xmlexists xmlforest xmlnamespaces xmlparse xmlpi xmlroot xmlserialize xmltable
"""

_PLACES: Final = """
    select
        exists (
            select from pg_catalog.pg_proc as p inner join pg_catalog.pg_namespace as n on n.oid = p.pronamespace
            where n.nspname = 'clerk_sync' and p.proname = 'mirror_schema'
        ),
        exists (
            select from pg_catalog.pg_class as c inner join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
            where n.nspname = 'clerk_sync' and c.relname = 'kinds'
        )
"""
# The body and not the result: a role without rights on our functions is told by the preflight what it lacks.
_RECORDED: Final = r"""
    select substring(p.prosrc from '''(.+)''')
    from pg_catalog.pg_proc as p inner join pg_catalog.pg_namespace as n on n.oid = p.pronamespace
    where n.nspname = 'clerk_sync' and p.proname = 'mirror_schema'
"""
_OF_KIND: Final = "select split_part(k.relation, '.', 1) from clerk_sync.kinds as k where k.kind = 'user'"


class NameNotUsable(Failure):
    """The name cannot be the name of the mirror's schema, for the reason in the message."""


def checked_name(name: str) -> str:
    """The name, if it may be the name of the mirror's schema. Raises NameNotUsable."""
    if not _PLAIN.fullmatch(name) or name in _QUOTED.split():
        reason = "a name without quotes is needed: at most 63 of a-z, 0-9 and _, no digit first, and no word of SQL"
    elif name == "public":
        reason = (
            "the names there are the app's, and tools of the app change or drop tables there; "
            "`clerk-supabase expose` adds views to public"
        )
    elif name in _TAKEN.split() or name.startswith(("pg_", "supabase_", "clerk_sync")):
        reason = "Postgres, Supabase or this project has a schema of this name for other objects"
    else:
        return name
    raise NameNotUsable(f"the mirror's schema cannot have the name {name!r}: {reason}")


def rendered(text: str, schema: str) -> str:
    """SQL of this project for another name of the mirror's schema."""
    return text if schema == DEFAULT else _MENTION.sub(schema, text)


def recorded_schema(connection: psycopg.Connection[Any]) -> str | None:
    """Name of the mirror's schema in a database; None if the database has no mirror."""
    [(has_function, has_kinds)] = connection.execute(_PLACES).fetchall()
    found: list[tuple[str]] = []
    if has_function:
        found = connection.execute(_RECORDED).fetchall()
    elif has_kinds:
        # A damaged database: the repair makes the function again, for the schema of the tables.
        found = connection.execute(_OF_KIND).fetchall()
    return str(found[0][0]) if found else None


def mirror_schema(connection: psycopg.Connection[Any]) -> str:
    """Name of the mirror's schema in a database, which is the default without a mirror."""
    return recorded_schema(connection) or DEFAULT
