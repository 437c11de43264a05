"""Objects of the database around a table of the app: keys, triggers, views, policies, and the tool of its schema."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from psycopg.rows import class_row

from clerk_supabase_cli.adopt.tables import OTHER_SCHEMAS, Table
from clerk_supabase_cli.operate.database import Connection

_KEYS: Final = """
select
    c.confrelid::bigint as table_oid, c.conname as name, c.conrelid::regclass::text as from_table,
    array(
        select a.attname from unnest(c.conkey) with ordinality as k (number, place)
        inner join pg_attribute as a on a.attrelid = c.conrelid and a.attnum = k.number order by k.place
    )::text[] as from_columns,
    array(
        select a.attname from unnest(c.confkey) with ordinality as k (number, place)
        inner join pg_attribute as a on a.attrelid = c.confrelid and a.attnum = k.number order by k.place
    )::text[] as columns,
    case c.confdeltype
        when 'c' then 'cascade' when 'r' then 'restrict' when 'n' then 'set null' when 'd' then 'set default'
        else 'no action'
    end as on_delete
from pg_constraint as c
where c.contype = 'f' and c.conparentid = 0 and c.confrelid = any(%s)
order by 1, 3, 2
"""
_TRIGGERS: Final = """
select t.tgrelid::bigint as table_oid, t.tgname as name, t.tgfoid::regproc::text as calls, t.tgenabled <> 'D' as is_on
from pg_trigger as t
where not t.tgisinternal and t.tgparentid = 0 and t.tgrelid = any(%s)
order by 1, 2
"""
_VIEWS: Final = """
select distinct d.refobjid::bigint, r.ev_class::regclass::text
from pg_depend as d inner join pg_rewrite as r on r.oid = d.objid
where d.classid = 'pg_rewrite'::regclass and d.refclassid = 'pg_class'::regclass and d.refobjid = any(%s)
and r.ev_class <> d.refobjid
order by 1, 2
"""
# Only the text is known of most functions, so a word of a comment counts, too.
_CODE: Final = """
with code as (
    select 'function' as kind, p.oid::regprocedure::text as name, null::bigint as table_oid, null::text as table_name,
        case when p.prosqlbody is null then p.prosrc else pg_get_functiondef(p.oid) end as content,
        p.pronamespace as schema
    from pg_proc as p
    where p.prokind in ('f', 'p') and not exists (
        select from pg_depend as d where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e'
    ) and p.prolang in (select l.oid from pg_language as l where l.lanname in ('sql', 'plpgsql'))
    union all
    select 'policy', o.polname, o.polrelid::bigint, o.polrelid::regclass::text,
        concat_ws(' ', pg_get_expr(o.polqual, o.polrelid), pg_get_expr(o.polwithcheck, o.polrelid)), c.relnamespace
    from pg_policy as o inner join pg_class as c on c.oid = o.polrelid
    union all
    select 'default', a.attname, d.adrelid::bigint, d.adrelid::regclass::text, pg_get_expr(d.adbin, d.adrelid),
        c.relnamespace
    from pg_attrdef as d inner join pg_class as c on c.oid = d.adrelid
    inner join pg_attribute as a on a.attrelid = d.adrelid and a.attnum = d.adnum
    where not c.relispartition
    union all
    select 'view', c.oid::regclass::text, null, null, pg_get_viewdef(c.oid), c.relnamespace
    from pg_class as c where c.relkind in ('v', 'm')
)

select c.kind, c.name, c.table_name as on_table, c.table_oid,
    array(
        select distinct lower(m.words[1]) from regexp_matches(
            c.content, '\\m(requesting_user_id|auth\\.jwt|auth\\.uid|request\\.jwt)', 'gi'
        ) as m (words) order by 1
    ) as asks,
    array(
        select t.oid from unnest(%(oids)s::bigint[], %(bare)s::text[], %(names)s::text[]) as t (oid, bare_name, name)
        where (t.oid = c.table_oid and c.kind = 'policy')
        -- The search for a text is a thousand times cheaper than the compilation of a pattern.
        or strpos(c.words, lower(t.bare_name)) > 0
        and c.content ~* ('(^|[^[:alnum:]_])' || t.name || '($|[^[:alnum:]_])')
    ) as names
from (select c.*, lower(c.content) as words from code as c offset 0) as c
inner join pg_namespace as n on n.oid = c.schema
where n.nspname not like 'pg\\_%%' and n.nspname <> all(%(others)s)
order by 1, 3, 2
"""
_OWNERS: Final = """
select distinct o.tool, format('%%I.%%I', n.nspname, c.relname)
from pg_class as c inner join pg_namespace as n on n.oid = c.relnamespace
inner join (values
    ('Prisma', '_prisma_migrations'), ('Drizzle', '__drizzle_migrations'), ('Knex', 'knex_migrations'),
    ('TypeORM', 'typeorm_metadata'), ('Alembic', 'alembic_version'), ('Django', 'django_migrations'),
    ('Rails', 'ar_internal_metadata'), ('Sequelize', 'SequelizeMeta'), ('Flyway', 'flyway_schema_history'),
    ('MikroORM', 'mikro_orm_migrations'), ('goose', 'goose_db_version'), ('SQLx', '_sqlx_migrations')
) as o (tool, table_name) on o.table_name = c.relname
where c.relkind in ('r', 'p')
union all
select 'Supabase CLI', 'supabase_migrations.schema_migrations' from pg_class as c
inner join pg_namespace as n on n.oid = c.relnamespace
where n.nspname = 'supabase_migrations' and c.relname = 'schema_migrations'
union all
-- TypeORM's own table has a name that many have: its columns tell.
select 'TypeORM', format('%%I.%%I', n.nspname, c.relname) from pg_class as c
inner join pg_namespace as n on n.oid = c.relnamespace
where c.relname = 'migrations' and c.relkind = 'r' and n.nspname not like 'pg\\_%%' and n.nspname <> all(%(others)s)
and (
    select array_agg(a.attname::text order by a.attname) from pg_attribute as a
    where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
) = '{id,name,timestamp}'
order by 1, 2
"""

_Row = TypeVar("_Row")


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """A foreign key that points to the table."""

    table_oid: int
    name: str
    from_table: str
    from_columns: Sequence[str]
    columns: Sequence[str]
    on_delete: str


@dataclass(frozen=True, slots=True)
class Trigger:
    """A trigger of the app on the table."""

    table_oid: int
    name: str
    calls: str
    is_on: bool


@dataclass(frozen=True, slots=True)
class Code:
    """A function, a view, a policy or a default of the app."""

    kind: str
    name: str
    on_table: str | None
    table_oid: int | None
    asks: Sequence[str]
    """Functions and settings among its words that name the user of a token."""
    names: Sequence[int]
    """Tables among its words."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Everything in the database that depends on some tables."""

    keys: Sequence[ForeignKey]
    triggers: Sequence[Trigger]
    views: Mapping[int, Sequence[str]]
    code: Sequence[Code]
    tools: Mapping[str, str]
    """Tools that own schemas of the database, each with its table of migrations."""


def read_surroundings(connection: Connection, tables: Sequence[Table], mirror_schemas: Sequence[str]) -> Surroundings:
    """The surroundings of the tables."""
    oids = [each.oid for each in tables]
    others = [*OTHER_SCHEMAS, *mirror_schemas]
    views: dict[int, list[str]] = {}
    for oid, view in connection.execute(_VIEWS, [oids]):
        views.setdefault(oid, []).append(view)
    bare = [each.bare_name for each in tables]
    asked = {"oids": oids, "bare": bare, "names": list(map(_as_pattern, bare)), "others": others}
    code = _rows(connection, Code, _CODE, asked)
    return Surroundings(
        keys=_rows(connection, ForeignKey, _KEYS, [oids]),
        triggers=_rows(connection, Trigger, _TRIGGERS, [oids]),
        views=views,
        code=[each for each in code if each.asks or each.names],
        tools=dict(connection.execute(_OWNERS, {"others": others}).fetchall()),
    )


def _rows(
    connection: Connection, made: type[_Row], query: str, parameters: Sequence[object] | Mapping[str, object]
) -> list[_Row]:
    with connection.cursor(row_factory=class_row(made)) as cursor:
        return cursor.execute(query, parameters).fetchall()


def _as_pattern(name: str) -> str:
    """A regular expression of Postgres that matches the name alone."""
    return "".join(each if each.isalnum() or each == "_" else f"\\{each}" for each in name)
