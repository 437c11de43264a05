"""The statements that drop all objects of our schemas, each after everything that depends on it, without `cascade`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Final

from clerk_supabase_cli.operate.database import Connection

# Rules, defaults, triggers, constraints and indexes depend on behalf of their table or view; policies go first.
_THINGS: Final = """
    select
        c.oid::bigint,
        case c.relkind
            when 'v' then 'view' when 'm' then 'materialized view' when 'S' then 'sequence'
            when 'f' then 'foreign table' when 'c' then 'type' else 'table'
        end,
        c.oid::regclass::text
    from pg_class as c
    where c.oid = any(%(classes)s::oid[]) and c.relkind in ('r', 'p', 'v', 'm', 'f', 'c', 'S')
    and not exists (
        select from pg_depend as d
        where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype in ('a', 'i')
        and d.refclassid = 'pg_class'::regclass
    )
    union all
    select
        p.oid::bigint, case p.prokind when 'a' then 'aggregate' when 'p' then 'procedure' else 'function' end,
        p.oid::regprocedure::text
    from pg_proc as p where p.oid = any(%(functions)s::oid[])
    union all
    select t.oid::bigint, case t.typtype when 'd' then 'domain' else 'type' end, t.oid::regtype::text
    from pg_type as t where t.oid = any(%(types)s::oid[]) and t.typtype in ('e', 'd', 'r')
"""
_EDGES: Final = """
    with ends as (
        select d.refclassid, d.refobjid, coalesce(
            case d.classid
                when 'pg_class'::regclass then coalesce(
                    (select i.indrelid from pg_index as i where i.indexrelid = d.objid), d.objid
                )
                when 'pg_proc'::regclass then d.objid
                when 'pg_rewrite'::regclass then (select w.ev_class from pg_rewrite as w where w.oid = d.objid)
                when 'pg_attrdef'::regclass then (select a.adrelid from pg_attrdef as a where a.oid = d.objid)
                when 'pg_trigger'::regclass then (select t.tgrelid from pg_trigger as t where t.oid = d.objid)
                when 'pg_constraint'::regclass then (select c.conrelid from pg_constraint as c where c.oid = d.objid)
                when 'pg_type'::regclass then (
                    select coalesce(nullif(t.typrelid, 0), nullif(t.typelem, 0), t.oid) from pg_type as t
                    where t.oid = d.objid
                )
            end, 0::oid
        ) as dependent
        from pg_depend as d
        where d.deptype <> 'p' and d.classid <> 'pg_policy'::regclass and (
            (d.refclassid = 'pg_class'::regclass and d.refobjid = any(%(classes)s::oid[]))
            or (d.refclassid = 'pg_proc'::regclass and d.refobjid = any(%(functions)s::oid[]))
            or (d.refclassid = 'pg_type'::regclass and d.refobjid = any(%(types)s::oid[]))
        )
    )

    select distinct
        e.dependent::bigint,
        coalesce(nullif(t.typrelid, 0), nullif(x.typrelid, 0), nullif(t.typelem, 0), e.refobjid)::bigint
    from ends as e
    left join pg_type as t on e.refclassid = 'pg_type'::regclass and t.oid = e.refobjid
    left join pg_type as x on x.oid = t.typelem
    where e.dependent <> 0
"""
_POLICIES: Final = """
    select format('drop policy %%I on %%s', p.polname, p.polrelid::regclass)
    from pg_policy as p where p.polrelid = any(%s::oid[]) order by 1
"""


def drops(connection: Connection, given: dict[str, list[int]]) -> Iterator[str]:
    """Statements that drop everything of ours; *given*: the numbers of our relations, functions and types."""
    for (statement,) in connection.execute(_POLICIES, [given["classes"]]).fetchall():
        yield statement
    things = {number: (kind, name) for number, kind, name in connection.execute(_THINGS, given)}
    needed: dict[int, set[int]] = defaultdict(set)
    for dependent, base in connection.execute(_EDGES, given):
        if dependent != base and dependent in things and base in things:
            needed[base].add(dependent)
    while things:
        free = [number for number in things if not (needed[number] & things.keys())]
        # Tables whose keys name each other are dropped by a single statement, which Postgres takes.
        free = free or [number for number, (kind, _) in things.items() if kind == "table"] or list(things)
        by_kind: dict[str, list[str]] = defaultdict(list)
        for number in free:
            kind, name = things.pop(number)
            by_kind[kind].append(name)
        for kind, names in by_kind.items():
            yield f"drop {kind} {', '.join(sorted(names))}"
