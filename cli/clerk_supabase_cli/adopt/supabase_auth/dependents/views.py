"""Views that block the new type of a column, and statements for making the views again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from clerk_supabase_cli.adopt.supabase_auth.rewriting import REQUESTING, rewritten
from clerk_supabase_cli.adopt.supabase_auth.user_columns import UserColumn
from clerk_supabase_cli.operate.database import Connection

# A view of a view comes behind, and is dropped before.
_VIEWS: Final = """
    with recursive reading as (
        select w.ev_class as id, moved.relation, 1 as depth
        from unnest(%(relations)s::oid[], %(numbers)s::int[]) as moved (relation, number)
        inner join pg_depend as d
            on d.classid = 'pg_rewrite'::regclass and d.refclassid = 'pg_class'::regclass
            and (d.refobjid, d.refobjsubid) = (moved.relation, moved.number)
        inner join pg_rewrite as w on w.oid = d.objid and w.rulename = '_RETURN'
        union
        select w.ev_class, r.relation, r.depth + 1
        from reading as r
        inner join pg_depend as d
            on d.classid = 'pg_rewrite'::regclass and d.refclassid = 'pg_class'::regclass and d.refobjid = r.id
        inner join pg_rewrite as w on w.oid = d.objid and w.rulename = '_RETURN' and w.ev_class <> r.id
    ),

    found as (select r.id, max(r.depth) as depth, array_agg(distinct r.relation::bigint) as relations
        from reading as r group by 1)

    select
        c.oid::regclass::text,
        c.relname::text,
        case c.relkind when 'm' then 'materialized view' else 'view' end,
        f.relations,
        rtrim(pg_get_viewdef(c.oid), ' ;'),
        (select string_agg(format('%%I = %%L', o.option_name, o.option_value), ', ')
            from pg_options_to_table(c.reloptions) as o),
        c.relispopulated,
        array(
            select 'alter ' || case c.relkind when 'm' then 'materialized view' else 'view' end
            || format(' %%s owner to %%I', c.oid::regclass, pg_get_userbyid(c.relowner))
            where pg_get_userbyid(c.relowner) <> current_user
        ) || array(
            select format('revoke all on %%s from public, %%s', c.oid::regclass, string_agg(r.rolname::text, ', '))
            from pg_roles as r where r.rolname in ('anon', 'authenticated', 'service_role')
            having count(*) > 0
        ) || array(
            select format(
                'grant %%s on %%s to %%s%%s',
                string_agg(
                    lower(a.privilege_type) || coalesce(' (' || quote_ident(a.column_name) || ')', ''), ', '
                    order by a.column_name nulls first, a.privilege_type
                ),
                c.oid::regclass, coalesce(quote_ident(r.rolname), 'public'),
                case when a.is_grantable then ' with grant option' else '' end
            )
            from (
                select null::name as column_name, t.* from aclexplode(c.relacl) as t
                union all
                select k.attname, t.* from pg_attribute as k cross join aclexplode(k.attacl) as t
                where k.attrelid = c.oid
            ) as a
            left join pg_roles as r on r.oid = a.grantee
            where a.grantee <> c.relowner
            group by r.rolname, a.is_grantable
            order by r.rolname nulls first, a.is_grantable
        ) || array(
            select format('alter view %%s alter column %%I set default %%s', c.oid::regclass, k.attname,
                pg_get_expr(d.adbin, d.adrelid))
            from pg_attrdef as d inner join pg_attribute as k on k.attrelid = d.adrelid and k.attnum = d.adnum
            where d.adrelid = c.oid
        ) || array(
            select pg_get_indexdef(i.indexrelid) from pg_index as i where i.indrelid = c.oid
        ) || array(
            select pg_get_triggerdef(t.oid) from pg_trigger as t where t.tgrelid = c.oid and not t.tgisinternal
        ) || array(
            select pg_get_ruledef(w.oid) from pg_rewrite as w where w.ev_class = c.oid and w.rulename <> '_RETURN'
        ) || array(
            select case
                when d.objsubid = 0 then format('comment on %%s %%s is %%L',
                    case c.relkind when 'm' then 'materialized view' else 'view' end, c.oid::regclass, d.description)
                else format('comment on column %%s.%%I is %%L', c.oid::regclass, k.attname, d.description)
            end
            from pg_description as d
            left join pg_attribute as k on k.attrelid = d.objoid and k.attnum = d.objsubid
            where d.classoid = 'pg_class'::regclass and d.objoid = c.oid
        ),
        c.relkind = 'v' and not exists (
            select from pg_options_to_table(c.reloptions) as o
            where o.option_name = 'security_invoker' and o.option_value::boolean
        )
    from found as f
    inner join pg_class as c on c.oid = f.id
    order by f.depth, c.oid::regclass::text
"""


@dataclass(frozen=True, slots=True)
class View:
    """A view of the app, in the order in which views are made."""

    name: str
    bare_name: str
    kind: str
    relations: list[int]
    """Tables whose moved columns the view reads, also through other views."""
    definition: str
    options: str | None
    is_filled: bool
    after: list[str]
    """Statements behind the view's creation: owner, rights, defaults, indexes, triggers, comments."""
    reads_as_owner: bool

    @property
    def drop(self) -> str:
        """The statement for dropping the view alone, without dependent objects."""
        return f"drop {self.kind} {self.name}"

    def statements(self) -> list[str]:
        """Statements for making the view again, with the rights of before."""
        options = f" with ({self.options})" if self.options else ""
        data = "" if self.kind == "view" else f" with{'' if self.is_filled else ' no'} data"
        definition = rewritten(self.definition, REQUESTING)
        return [f"create {self.kind} {self.name}{options} as {definition}{data}", *self.after]


def views(connection: Connection, columns: Sequence[UserColumn]) -> list[View]:
    """The views of the columns, directly or through other views; the deepest comes last."""
    found: list[Any] = connection.execute(
        _VIEWS, {"relations": [c.relation for c in columns], "numbers": [c.number for c in columns]}
    ).fetchall()
    return [View(*row) for row in found]
