"""Objects of the app that depend on objects of this project, read from Postgres's own record of dependencies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from clerk_supabase_cli.operate.database import Connection

# Relations, functions and types in our schemas.
_OURS: Final = """
    select
        array(select c.oid from pg_class as c where c.relnamespace = any(s.oids)),
        array(select p.oid from pg_proc as p where p.pronamespace = any(s.oids)),
        array(select t.oid from pg_type as t where t.typnamespace = any(s.oids))
    from (select array(select n.oid from pg_namespace as n where n.nspname = any(%s)) as oids) as s
"""
# Each dependency names a part: a constraint, a policy, a rule of a view. Its home is the table or view with that part.
_DEPENDENTS: Final = """
    with reached as (
        select distinct d.classid, d.objid, d.objsubid
        from pg_depend as d
        where d.deptype <> 'p' and (
            (d.refclassid = 'pg_class'::regclass and d.refobjid = any(%(classes)s::oid[]))
            or (d.refclassid = 'pg_proc'::regclass and d.refobjid = any(%(functions)s::oid[]))
            or (d.refclassid = 'pg_type'::regclass and d.refobjid = any(%(types)s::oid[]))
        )
    ),

    found as (
        select
            case when p.polpermissive then 'policy' else 'restrictive policy' end as kind,
            p.polrelid as home, p.oid as id, 0 as class_id, 0 as function_id,
            format('drop policy %%I on %%s', p.polname, p.polrelid::regclass) as statement,
            p.polpermissive and p.polname like 'clerk\\_sync\\_%%' as is_ours
        from pg_policy as p inner join reached as r on r.classid = 'pg_policy'::regclass and r.objid = p.oid
        union all
        select
            'default', a.adrelid, a.oid, 0, 0,
            format(
                'alter table %%s alter column %%I drop %%s', a.adrelid::regclass, t.attname,
                case t.attgenerated when '' then 'default' else 'expression' end
            ),
            t.attgenerated = ''
            and pg_get_expr(a.adbin, a.adrelid) ~ '^\\(?clerk_sync\\.\\w+\\([^()]*\\)\\)?$'
            and exists (
                select from pg_policy as p where p.polrelid = a.adrelid and p.polname like 'clerk\\_sync\\_%%'
            )
        from pg_attrdef as a
        inner join reached as r on r.classid = 'pg_attrdef'::regclass and r.objid = a.oid
        inner join pg_attribute as t on t.attrelid = a.adrelid and t.attnum = a.adnum
        union all
        select
            case c.contype when 'f' then 'foreign key' else 'constraint' end, c.conrelid, c.oid, 0, 0,
            format('alter table %%s drop constraint %%I', c.conrelid::regclass, c.conname), false
        from pg_constraint as c
        inner join reached as r on r.classid = 'pg_constraint'::regclass and r.objid = c.oid
        where c.conrelid <> 0 and c.conparentid = 0
        union all
        select
            'constraint', null, c.oid, 0, 0,
            format('alter domain %%s drop constraint %%I', c.contypid::regtype, c.conname), false
        from pg_constraint as c
        inner join reached as r on r.classid = 'pg_constraint'::regclass and r.objid = c.oid
        inner join pg_type as t on t.oid = c.contypid
        where c.contypid <> all(%(types)s::oid[])
        union all
        select
            'trigger', t.tgrelid, t.oid, 0, 0,
            format('drop trigger %%I on %%s', t.tgname, t.tgrelid::regclass),
            n.nspname = 'clerk_sync'
        from pg_trigger as t
        inner join reached as r on r.classid = 'pg_trigger'::regclass and r.objid = t.oid
        inner join pg_proc as p on p.oid = t.tgfoid
        inner join pg_namespace as n on n.oid = p.pronamespace
        where not t.tgisinternal and t.tgparentid = 0
        union all
        select
            case c.relkind when 'v' then 'view' when 'm' then 'materialized view' else 'rule' end,
            w.ev_class, w.oid, case when c.relkind in ('v', 'm') then c.oid::bigint else 0 end, 0,
            case c.relkind
                when 'v' then format('drop view %%s', c.oid::regclass)
                when 'm' then format('drop materialized view %%s', c.oid::regclass)
                else format('drop rule %%I on %%s', w.rulename, c.oid::regclass)
            end,
            false
        from pg_rewrite as w
        inner join reached as r on r.classid = 'pg_rewrite'::regclass and r.objid = w.oid
        inner join pg_class as c on c.oid = w.ev_class
        union all
        select
            'function', null, p.oid, 0, p.oid::bigint,
            format(
                'drop %%s %%s', case p.prokind when 'a' then 'aggregate' when 'p' then 'procedure' else 'function' end,
                p.oid::regprocedure
            ),
            false
        from pg_proc as p inner join reached as r on r.classid = 'pg_proc'::regclass and r.objid = p.oid
        union all
        select
            'column', c.oid, c.oid, 0, 0,
            -- Only a virtual column has no values to keep.
            format(
                case
                    when c.relkind = 'c' then 'alter type %%s drop attribute %%I'
                    when a.attgenerated = 's' then 'alter table %%s alter column %%I drop expression'
                    when a.attgenerated = 'v' then 'alter table %%s drop column %%I'
                    else 'alter table %%s alter column %%I type text using %%I::text'
                end, c.oid::regclass, a.attname, a.attname
            ), false
        from pg_class as c
        inner join reached as r on r.classid = 'pg_class'::regclass and r.objid = c.oid and r.objsubid > 0
        inner join pg_attribute as a on a.attrelid = c.oid and a.attnum = r.objsubid
        where c.relkind in ('r', 'p', 'f', 'c')
        union all
        select
            case c.relkind when 'i' then 'index' when 'I' then 'index' else 'table' end,
            coalesce(i.indrelid, c.oid), c.oid, 0, 0,
            case
                when c.relkind in ('i', 'I') then format('drop index %%s', c.oid::regclass)
                else format(
                    'alter table %%s no inherit %%s', c.oid::regclass,
                    (select h.inhparent::regclass from pg_inherits as h where h.inhrelid = c.oid limit 1)
                )
            end,
            false
        from pg_class as c
        inner join reached as r on r.classid = 'pg_class'::regclass and r.objid = c.oid and r.objsubid = 0
        left join pg_index as i on i.indexrelid = c.oid
        where c.relkind in ('i', 'I', 'r', 'p', 'f') and not exists (
            select from pg_constraint as k where k.conindid = c.oid and k.contype in ('p', 'u', 'x')
        )
        union all
        select
            'type', null, t.oid, 0, 0,
            format('drop %%s %%s', case t.typtype when 'd' then 'domain' else 'type' end, t.oid::regtype), false
        from pg_type as t
        inner join reached as r on r.classid = 'pg_type'::regclass and r.objid = t.oid
        where t.typtype in ('d', 'r') or (t.typtype = 'c' and exists (
            select from pg_class as c where c.oid = t.typrelid and c.relkind = 'c'
        ))
    )

    select f.kind, f.statement, f.is_ours, f.home::bigint, f.home::regclass::text, f.class_id, f.function_id
    from found as f
    where not (f.home is not null and f.home = any(%(classes)s::oid[]))
    and not (f.kind = 'function' and f.id = any(%(functions)s::oid[]))
    and not (f.kind = 'type' and f.id = any(%(types)s::oid[]))
    order by f.kind, f.statement
"""
_TYPES_OF: Final = "select array(select t.oid from pg_type as t where t.typrelid = any(%s::oid[]))"
_EXPOSED: Final = """
    select array(
        select coalesce(to_regclass(case e.kind when 'view' then e.name end)::oid, to_regprocedure(e.name)::oid)
        from clerk_sync.exposed as e
    )
"""
_MOST_ROUNDS: Final = 20


@dataclass(frozen=True, slots=True)
class Dependent:
    """An object outside of our schemas that depends on an object inside."""

    kind: str
    statement: str
    """The statement that removes the object."""
    is_ours: bool
    """True for an object that this project made on a table of the app."""
    table: str | None
    """The table or view with the object; None for a function or a type."""


@dataclass(frozen=True, slots=True)
class Ours:
    """The numbers of the relations, functions and types in our schemas."""

    classes: list[int]
    functions: list[int]
    types: list[int]

    @classmethod
    def read(cls, connection: Connection, schemas: list[str]) -> Ours:
        """Everything in these schemas."""
        [row] = connection.execute(_OURS, [schemas]).fetchall()
        return cls(*row)


def dependents(connection: Connection, ours: Ours) -> list[Dependent]:
    """All objects outside that depend on ours, in the order in which they can be removed: each before its own base."""
    exposed = set(_exposed(connection))
    classes, functions, types = ours.classes, ours.functions, ours.types
    rounds: list[list[Dependent]] = []
    known: set[str] = set()
    for _ in range(_MOST_ROUNDS):
        given = {"classes": classes, "functions": functions, "types": types}
        rows = [row for row in connection.execute(_DEPENDENTS, given) if row[1] not in known]
        if not rows:
            break
        known |= {row[1] for row in rows}
        rounds.append(
            [
                Dependent(kind, statement, is_ours or bool({class_id, function_id} & exposed), table)
                for kind, statement, is_ours, _, table, class_id, function_id in rows
            ]
        )
        classes, functions = [*classes, *_numbers(rows, 5)], [*functions, *_numbers(rows, 6)]
        [(of_views,)] = connection.execute(_TYPES_OF, [_numbers(rows, 5)]).fetchall()
        types = [*types, *of_views]
    return [each for found in reversed(rounds) for each in found]


def _numbers(rows: list[tuple[object, ...]], place: int) -> list[int]:
    return [int(str(row[place])) for row in rows if row[place]]


def _exposed(connection: Connection) -> Iterator[int]:
    [(there,)] = connection.execute("select to_regclass('clerk_sync.exposed') is not null").fetchall()
    if there:
        [(numbers,)] = connection.execute(_EXPOSED).fetchall()
        yield from (int(number) for number in numbers if number)
