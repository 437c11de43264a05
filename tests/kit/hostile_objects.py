"""Database objects of an attacker, named like everything that the bodies of our functions use.

The code in these objects raises a notice with the user it runs as.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import psycopg
from psycopg import sql

from tests.kit.databases import Connection

Shape = Literal["domains and tables", "casts and views"]
"""A name can be a domain or a type with casts to it, a table or a view, and never both at once."""
SHAPES: Final[tuple[Shape, ...]] = ("domains and tables", "casts and views")
# Postgres never looks for functions and operators in pg_temp, so the attacker has a schema as well.
SCHEMA: Final = "attackers"
_PLACES: Final = ("pg_temp", SCHEMA)
_MARK: Final = "code of the attacker runs as "

# The text of our functions, views, triggers and policies.
_TEXTS: Final = """
    select prosrc from pg_proc where pronamespace in ('clerk_sync'::regnamespace, 'clerk'::regnamespace)
    union all select pg_get_function_arguments(oid) from pg_proc where pronamespace = 'clerk_sync'::regnamespace
    union all select pg_get_viewdef(oid) from pg_class where relkind = 'v' and relnamespace = 'clerk_sync'::regnamespace
    union all select pg_get_triggerdef(oid) from pg_trigger where not tgisinternal
    union all select concat(pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid)) from pg_policy
"""
# Each type with what a domain of its name is made of.
_TYPES: Final = """
    select typname::text, format('pg_catalog.%I', typname) from pg_type
    where typnamespace = 'pg_catalog'::regnamespace and typtype in ('b', 'r', 'm') and typcategory <> 'A'
    and typname !~ '^_'
    union all
    select t.typname, 'integer' from pg_type as t left join pg_class as c on c.oid = t.typrelid
    where t.typnamespace = 'clerk_sync'::regnamespace and t.typtype in ('c', 'e') and coalesce(c.relkind, 'c') = 'c'
    order by 1
"""
# Each relation with its columns as in a table and as in a view. A column of a type of ours becomes a number.
_RELATIONS: Final = """
    select c.relname::text, string_agg(format('%%I %%s', a.attname, a.type), ', '),
        string_agg(format('null::%%s as %%I', a.type, a.attname), ', ')
    from pg_class as c inner join (
        select b.attrelid, b.attname, case
            when t.typnamespace <> 'pg_catalog'::regnamespace then 'integer'
            when t.typtype = 'p' then 'text'
            else format_type(b.atttypid, b.atttypmod)
        end as type
        from pg_attribute as b inner join pg_type as t on t.oid = b.atttypid
        where b.attnum > 0 and not b.attisdropped
    ) as a on a.attrelid = c.oid
    where c.relkind in ('r', 'v') and (
        c.relnamespace in ('clerk_sync'::regnamespace, 'clerk'::regnamespace)
        or c.relnamespace = 'pg_catalog'::regnamespace and c.relname = any(%(words)s)
    )
    group by c.relname
"""
# Without functions that have an argument which only Postgres itself can give.
_FUNCTIONS: Final = """
    select distinct proname::text, pg_get_function_arguments(oid), pg_get_function_result(oid),
        proretset or 'o' = any(proargmodes) or 't' = any(proargmodes) or prorettype = 'void'::regtype
    from pg_proc
    where pronamespace = 'pg_catalog'::regnamespace and proname = any(%(words)s) and prokind in ('f', 'a', 'w')
    and pg_get_function_arguments(oid) not like '%%ORDER BY%%'
    and prorettype not in ('internal'::regtype, 'cstring'::regtype, 'trigger'::regtype)
    and not proargtypes::oid[] && array['internal'::regtype, 'cstring'::regtype, '"any"'::regtype]::oid[]
"""
_OPERATORS: Final = """
    select oprname::text, nullif(oprleft, 0)::regtype::text, oprright::regtype::text, oprresult::regtype::text
    from pg_operator
    where oprnamespace = 'pg_catalog'::regnamespace and oprright <> 0 and strpos(%(text)s, oprname) > 0
    and (oprleft = 0 or oprleft = any(%(types)s::regtype[])) and oprright = any(%(types)s::regtype[])
"""
_OPERANDS: Final = (
    *("text", "name", '"char"', "jsonb", "boolean", "integer", "bigint", "numeric", "double precision", "oid"),
    *("timestamptz", "interval", "uuid", "bytea", "anyarray", "anyelement", "anycompatiblearray", "anycompatible"),
    *("record", "anyenum", "jsonpath", "regclass"),
)
_CAST_FROM: Final = ("text", "jsonb", "int4", "int8", "numeric", "bool", "timestamptz", "name", "uuid", "oid")


@dataclass
class Attack:
    """A session of an attacker with the objects in place. `hits`: the users as whom code of the attacker ran."""

    connection: Connection
    hits: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def call(self, statement: str, *parameters: object) -> Any:
        """The first value of a statement. An error is added to `errors`, and the statement changes nothing."""
        try:
            cursor = self.connection.execute(statement, parameters)
        except psycopg.Error as error:
            self.errors.append(f"{statement}: {type(error).__name__}: {error.diag.message_primary}")
            return None
        row = cursor.fetchone() if cursor.description else None
        return row and row[0]


def plant(owner: Connection, connection: Connection, role: str, shape: Shape) -> Attack:
    """Makes all objects as *role*, in pg_temp and in a schema that is searched before every other."""
    attack = Attack(connection)
    connection.add_notice_handler(lambda notice: _hear(attack, notice))
    planted = [statement for place in _PLACES for statement in _statements(owner, place, shape)]
    owner.execute(sql.SQL("create schema if not exists {}").format(sql.Identifier(SCHEMA)))
    owner.execute(sql.SQL("grant all on schema {} to {}").format(sql.Identifier(SCHEMA), sql.Identifier(role)))
    connection.execute(sql.SQL("set session authorization {}").format(sql.Identifier(role)))
    connection.execute("set search_path = pg_catalog, pg_temp")
    connection.execute(";\n".join(planted))
    connection.execute(sql.SQL("set search_path = {}, pg_temp, pg_catalog, public").format(sql.Identifier(SCHEMA)))
    assert not attack.hits
    return attack


def _hear(attack: Attack, notice: psycopg.errors.Diagnostic) -> None:
    if (notice.message_primary or "").startswith(_MARK):
        attack.hits.append((notice.message_primary or "").removeprefix(_MARK))


def _statements(owner: Connection, place: str, shape: Shape) -> Iterator[str]:
    """SQL for one schema, written with the search path of the catalogue alone."""
    text = "\n".join(str(line) for (line,) in owner.execute(_TEXTS))
    words = sorted(set(re.findall(r"\w+", text)))
    yield f"""
        create function {place}.spy() returns boolean language plpgsql set search_path = pg_catalog, pg_temp
        as $$ begin raise notice '{_MARK}%', current_user; return true; end $$;
        create function {place}.spy_trigger() returns trigger language plpgsql set search_path = pg_catalog, pg_temp
        as $$ begin perform {place}.spy(); return null; end $$
    """
    yield from _functions(owner, place, words)
    yield from _operators(owner, place, text)
    relations = owner.execute(_RELATIONS, {"words": words}).fetchall()
    types = owner.execute(_TYPES).fetchall()
    if shape == "domains and tables":
        yield from (_table(place, name, columns) for name, columns, _ in relations)
        yield from (f"create domain {place}.{_quoted(name)} as {base} check ({place}.spy())" for name, base in types)
    else:
        yield from (_view(place, name, columns) for name, _, columns in relations)
        yield from (f"create type {place}.{_quoted(name)} as (x integer)" for name, _ in types)
        yield from (each for name, _ in types if name in words for each in _casts(place, name))


def _functions(owner: Connection, place: str, words: Sequence[str]) -> Iterator[str]:
    for name, arguments, result, returns_rows in owner.execute(_FUNCTIONS, {"words": words}):
        body = "" if returns_rows else " null"
        yield (
            f"create function {place}.{_quoted(name)}({arguments}) returns {result} language plpgsql "
            f"as $$ begin perform {place}.spy(); return{body}; end $$"
        )


def _operators(owner: Connection, place: str, text: str) -> Iterator[str]:
    parameters = {"text": text, "types": list(_OPERANDS)}
    for number, (name, left, right, result) in enumerate(owner.execute(_OPERATORS, parameters).fetchall()):
        yield (
            f"create function {place}.operator_{number}({left + ', ' if left else ''}{right}) returns {result} "
            f"language plpgsql as $$ begin perform {place}.spy(); return null; end $$"
        )
        sides = f"leftarg = {left}, rightarg = {right}" if left else f"rightarg = {right}"
        yield f"create operator {place}.{name} (function = {place}.operator_{number}, {sides})"


def _table(place: str, name: str, columns: str) -> str:
    table = f"{place}.{_quoted(name)}"
    return f"""
        create table {table} ({columns}, check ({place}.spy()));
        grant all on {table} to public;
        create trigger spy before insert or update or delete or truncate on {table}
        for each statement execute function {place}.spy_trigger()
    """


def _view(place: str, name: str, columns: str) -> str:
    view = f"{place}.{_quoted(name)}"
    return f"""
        create view {view} as select {columns} where {place}.spy();
        grant all on {view} to public;
        create trigger spy instead of insert or update or delete on {view}
        for each row execute function {place}.spy_trigger()
    """


def _casts(place: str, name: str) -> Iterator[str]:
    target = f"{place}.{_quoted(name)}"
    for source in _CAST_FROM:
        yield f"""
            create function {place}.make_{name}(given pg_catalog.{source}) returns {target}
            language plpgsql as $$ begin perform {place}.spy(); return null; end $$;
            create cast (pg_catalog.{source} as {target})
            with function {place}.make_{name}(pg_catalog.{source}) as implicit
        """


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
