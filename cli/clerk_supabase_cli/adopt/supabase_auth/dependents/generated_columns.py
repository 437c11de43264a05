"""Generated columns that Postgres computes from a moved column, and statements for making these columns again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from clerk_supabase_cli.adopt.supabase_auth.user_columns import UserColumn
from clerk_supabase_cli.operate.database import Connection

# Dropping a column also drops its indexes, constraints, rights and comment.
_GENERATED: Final = """
    select
        c.oid, c.oid::regclass::text, a.attnum::int, n.nspname::text, c.relname::text, a.attname::text,
        quote_ident(a.attname), a.attnotnull,
        pg_get_expr(d.adbin, d.adrelid),
        format_type(a.atttypid, a.atttypmod)
        || coalesce((select format(' collate %%s', l.oid::regcollation) from pg_collation as l
            where l.oid = a.attcollation and l.oid <> t.typcollation), ''),
        'uuid'::regtype in (t.oid, t.typbasetype),
        c.relkind = 'p' or exists (select from pg_inherits as i where c.oid in (i.inhparent, i.inhrelid)),
        a.attgenerated = 's',
        array(
            select format('alter table %%s add constraint %%I %%s', c.oid::regclass, k.conname,
                pg_get_constraintdef(k.oid))
            from pg_constraint as k
            where k.conrelid = c.oid and k.contype not in ('f', 'n') and a.attnum = any(k.conkey)
            order by k.contype = 'c', k.conname
        ) || array(
            select pg_get_indexdef(i.objid) from (
                select distinct d.objid from pg_depend as d inner join pg_index as i on i.indexrelid = d.objid
                where d.classid = 'pg_class'::regclass and d.refclassid = 'pg_class'::regclass
                and (d.refobjid, d.refobjsubid) = (c.oid, a.attnum)
            ) as i order by 1
        ) || array(
            select pg_get_statisticsobjdef(s.oid) from pg_statistic_ext as s
            where s.stxrelid = c.oid and a.attnum = any(s.stxkeys) order by s.stxname
        ) || array(
            select format('grant %%s (%%I) on %%s to %%s%%s', lower(g.privilege_type), a.attname, c.oid::regclass,
                coalesce(quote_ident(r.rolname), 'public'),
                case when g.is_grantable then ' with grant option' else '' end)
            from aclexplode(a.attacl) as g left join pg_roles as r on r.oid = g.grantee order by 1
        ) || array(
            select format('alter table %%s alter column %%I set %%s', c.oid::regclass, a.attname, s.setting)
            from (values
                ('statistics ' || nullif(a.attstattarget, -1)),
                ('compression ' || case a.attcompression when 'p' then 'pglz' when 'l' then 'lz4' end),
                ('storage ' || case when a.attstorage <> t.typstorage then case a.attstorage
                    when 'p' then 'plain' when 'e' then 'external' when 'x' then 'extended' else 'main'
                end end),
                ((select '(' || string_agg(format('%%I = %%L', o.option_name, o.option_value), ', ') || ')'
                    from pg_options_to_table(a.attoptions) as o))
            ) as s (setting) where s.setting is not null
        ) || array(
            select format('comment on %%s is %%L', o.object, m.description)
            from (
                select 'pg_class'::regclass, c.oid, a.attnum, format('column %%s.%%I', c.oid::regclass, a.attname)
                union all
                select 'pg_constraint'::regclass, k.oid, 0, format('constraint %%I on %%s', k.conname, c.oid::regclass)
                from pg_constraint as k where k.conrelid = c.oid and k.contype <> 'f' and a.attnum = any(k.conkey)
                union all
                select 'pg_class'::regclass, i.indexrelid, 0, format('index %%s', i.indexrelid::regclass)
                from pg_index as i where i.indrelid = c.oid and exists (
                    select from pg_depend as d
                    left join pg_constraint as k
                        on d.classid = 'pg_constraint'::regclass and k.oid = d.objid and k.contype <> 'f'
                    where d.refclassid = 'pg_class'::regclass and (d.refobjid, d.refobjsubid) = (c.oid, a.attnum)
                    and (k.conindid = i.indexrelid or (d.classid, d.objid) = ('pg_class'::regclass, i.indexrelid))
                )
                union all
                select 'pg_statistic_ext'::regclass, s.oid, 0,
                    format('statistics %%I.%%I', s.stxnamespace::regnamespace, s.stxname)
                from pg_statistic_ext as s where s.stxrelid = c.oid and a.attnum = any(s.stxkeys)
            ) as o (class, id, part, object)
            inner join pg_description as m on (m.classoid, m.objoid, m.objsubid) = (o.class, o.id, o.part)
            order by 1
        )
    from pg_attrdef as d
    inner join pg_attribute as a on a.attrelid = d.adrelid and a.attnum = d.adnum and a.attgenerated <> ''
    inner join pg_class as c on c.oid = d.adrelid
    inner join pg_namespace as n on n.oid = c.relnamespace
    inner join pg_type as t on t.oid = a.atttypid
    where exists (
        select from pg_depend as x
        inner join unnest(%(relations)s::oid[], %(numbers)s::int[]) as moved (relation, number)
            on (x.refobjid, x.refobjsubid) = (moved.relation, moved.number)
        where x.classid = 'pg_attrdef'::regclass and x.objid = d.oid and x.refclassid = 'pg_class'::regclass
        and moved.number <> a.attnum
    )
    order by 2, a.attnum
"""


@dataclass(frozen=True, slots=True)
class GeneratedColumn:
    """A column that is dropped before a column in its expression gets another type, and made again afterwards."""

    column: UserColumn
    type: str
    is_uuid: bool
    has_relatives: bool
    """The table has partitions, children or a parent, whose own objects on the column would be lost."""
    is_stored: bool
    after: list[str]
    """Statements for all that is dropped along; a constraint of two columns is in the list of both."""

    @property
    def fault(self) -> str | None:
        """The reason why the column cannot be made again, with the remedy; None: it can be made again."""
        if self.is_uuid:
            return f"{self.column.at} is a uuid that Postgres computes from a moved column: {self.drop}"
        if self.has_relatives:
            return (
                f"{self.column.at} is computed from a moved column, and {self.column.printed_table} has partitions or "
                f"inherits: {self.drop}, and add the column again after the move"
            )
        return None

    @property
    def drop(self) -> str:
        """The statement that drops the column."""
        return f"alter table {self.column.of.as_string()} drop column {self.column.name.as_string()}"

    @property
    def add(self) -> str:
        """The statement that adds the column again, without `after`."""
        expression = f"({self.column.default}) {'stored' if self.is_stored else 'virtual'}"
        name = f"{self.column.name.as_string()} {self.type}{' not null' if self.column.required else ''}"
        return f"alter table {self.column.of.as_string()} add column {name} generated always as {expression}"


def generated_columns(connection: Connection, columns: Sequence[UserColumn]) -> list[GeneratedColumn]:
    """The generated columns with one of the *columns* in their expressions."""
    where = {"relations": [c.relation for c in columns], "numbers": [c.number for c in columns]}
    return [GeneratedColumn(UserColumn(*row[:9]), *row[9:]) for row in connection.execute(_GENERATED, where)]
