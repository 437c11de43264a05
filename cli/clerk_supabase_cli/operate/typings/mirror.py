"""The tables and functions of the mirror, as the catalogue of a database describes them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from psycopg.rows import class_row

from clerk_supabase_cli.failure import Failure
from clerk_supabase_cli.operate.database import Connection

_SCHEMA: Final = """
select n.nspname
from clerk_sync.kinds as k
inner join pg_class as c on c.oid = to_regclass(k.relation)
inner join pg_namespace as n on n.oid = c.relnamespace
where k.kind = 'user'
"""

_TYPE: Final = """
    e.typname as base, format_type({oid}, {modifier}) as written, b.typcategory = 'A' as is_array,
    array(select v.enumlabel::text from pg_enum as v where v.enumtypid = e.oid order by v.enumsortorder) as labels,
    coalesce((select r.relname from pg_class as r where r.oid = e.typrelid and r.relnamespace = {schema}), '')
        as relation
"""
# The type below a domain, and then the type of the elements of an array.
_BELOW: Final = """
inner join pg_type as t on t.oid = {oid}
inner join pg_type as b on b.oid = case t.typtype when 'd' then t.typbasetype else t.oid end
inner join pg_type as e on e.oid = case b.typcategory when 'A' then b.typelem else b.oid end
"""

_TABLES: Final = """
select c.relname, c.relkind in ('v', 'm'), coalesce(obj_description(c.oid, 'pg_class'), '')
from pg_class as c
where c.relnamespace = %(schema)s::regnamespace and c.relkind in ('r', 'p', 'v', 'm') and not c.relispartition
order by c.relname
"""

# A signed-in user of the API writes a column that the role authenticated may write, if a policy lets rows through.
_WRITES: Final = """
    has_column_privilege('authenticated', c.oid, a.attnum, '{privilege}') and (
        not c.relrowsecurity or exists (
            select from pg_policy as p
            where p.polrelid = c.oid and p.polpermissive and p.polcmd in ('{command}', '*')
            and p.polroles && array[0::oid, 'authenticated'::regrole::oid]
        )
    )
"""
_COLUMNS: Final = f"""
select
    c.relname as of, a.attname as name, coalesce(col_description(c.oid, a.attnum), '') as comment,
    not a.attnotnull as is_nullable, pg_get_expr(d.adbin, d.adrelid) as default_, a.attgenerated <> '' as is_generated,
    a.attidentity = 'a' as is_always_identity, a.attidentity = 'd' as is_default_identity,
    {_WRITES.format(privilege="insert", command="a")} as can_insert,
    {_WRITES.format(privilege="update", command="w")} as can_update,
    {_TYPE.format(oid="a.atttypid", modifier="a.atttypmod", schema="c.relnamespace")}
from pg_class as c
inner join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
left join pg_attrdef as d on d.adrelid = c.oid and d.adnum = a.attnum
{_BELOW.format(oid="a.atttypid")}
where c.relnamespace = %(schema)s::regnamespace and c.relkind in ('r', 'p', 'v', 'm') and not c.relispartition
order by c.relname, a.attnum
"""  # noqa: S608 - made of constants

_NAMED: Final = """
array(
    select a.attname::text from unnest({keys}) with ordinality as k (number, place)
    inner join pg_attribute as a on a.attrelid = {table} and a.attnum = k.number order by k.place
)
"""
# Keys to other schemas are left out: neither PostgREST nor these files know the tables there.
_FOREIGN_KEYS: Final = f"""
select
    c.relname as of, f.conname as name, r.relname as to,
    {_NAMED.format(keys="f.conkey", table="f.conrelid")} as columns,
    {_NAMED.format(keys="f.confkey", table="f.confrelid")} as foreign_columns,
    f.confdeltype::text as on_delete, f.confupdtype::text as on_update
from pg_constraint as f
inner join pg_class as c on c.oid = f.conrelid
inner join pg_class as r on r.oid = f.confrelid and r.relnamespace = c.relnamespace
where f.contype = 'f' and f.connamespace = %(schema)s::regnamespace and not c.relispartition
order by c.relname, f.conname
"""  # noqa: S608 - made of constants
# Without indexes of expressions, which the files cannot express.
_INDEXES: Final = f"""
select
    c.relname as of, x.relname as name, i.indisunique as is_unique, i.indisprimary as is_primary,
    coalesce(pg_get_expr(i.indpred, i.indrelid), '') as predicate, m.amname as method,
    {_NAMED.format(keys="(i.indkey::int2[])[0:i.indnkeyatts - 1]", table="i.indrelid")} as columns
from pg_index as i
inner join pg_class as c on c.oid = i.indrelid
inner join pg_class as x on x.oid = i.indexrelid
inner join pg_am as m on m.oid = x.relam
where c.relnamespace = %(schema)s::regnamespace and not c.relispartition and i.indexprs is null and i.indisvalid
order by c.relname, x.relname
"""  # noqa: S608 - made of constants

# What a signed-in user of the API may call.
_FUNCTIONS: Final = f"""
select
    p.oid::text as of, p.proname as name, coalesce(obj_description(p.oid, 'pg_proc'), '') as comment,
    p.proretset as is_set, p.prorows = 1 as is_one_row, p.proallargtypes is not null as has_other_results,
    {_TYPE.format(oid="p.prorettype", modifier="null", schema="p.pronamespace")}
from pg_proc as p
{_BELOW.format(oid="p.prorettype")}
where p.pronamespace = %(schema)s::regnamespace and p.prokind = 'f'
and p.prorettype not in ('trigger'::regtype, 'event_trigger'::regtype)
and has_function_privilege('authenticated', p.oid, 'execute')
order by p.proname, pg_get_function_identity_arguments(p.oid)
"""  # noqa: S608 - made of constants
_ARGUMENTS: Final = f"""
select
    p.oid::text as of, coalesce(p.proargnames[g.place], '') as name,
    g.place > p.pronargs - p.pronargdefaults as has_default,
    {_TYPE.format(oid="g.type", modifier="null", schema="p.pronamespace")}
from pg_proc as p
cross join lateral unnest(p.proargtypes) with ordinality as g (type, place)
{_BELOW.format(oid="g.type")}
where p.pronamespace = %(schema)s::regnamespace
order by p.oid, g.place
"""  # noqa: S608 - made of constants

# Views that show a table of the mirror with the rights and policies of their reader, as `clerk-supabase expose` makes
# them; and whether name and columns are those of the table.
_EXPOSED: Final = """
select
    v.relname,
    bool_or(c.relname = v.relname and array(
        select a.attname from pg_attribute as a where a.attrelid = v.oid and a.attnum > 0 order by a.attname
    ) = array(
        select a.attname from pg_attribute as a
        where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped order by a.attname
    ))
from pg_class as v
inner join pg_rewrite as w on w.ev_class = v.oid
inner join pg_depend as d on d.classid = 'pg_rewrite'::regclass and d.objid = w.oid
inner join pg_class as c
    on d.refclassid = 'pg_class'::regclass and c.oid = d.refobjid
    and c.relnamespace = %(schema)s::regnamespace and c.relkind in ('r', 'p')
where v.relnamespace = 'public'::regnamespace and v.relkind = 'v'
and v.reloptions && array['security_invoker=true', 'security_invoker=on', 'security_invoker=1']
group by v.oid, v.relname
order by v.relname
"""


class MirrorMissing(Failure):
    """The schema has no table to describe."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Type:
    """A type of Postgres, below its domain."""

    base: str
    """Postgres's own name of the type, or of the elements of an array: `int4`, `timestamptz`."""
    written: str
    """The type as a statement spells it, with its domain and length."""
    is_array: bool
    labels: Sequence[str]
    """Values of an enum."""
    relation: str
    """Name of the mirror's table whose rows have this type."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column(Type):
    """A column of a table or view."""

    of: str
    name: str
    comment: str
    is_nullable: bool
    default_: str | None
    """SQL expression of the default, or of a generated column."""
    is_generated: bool
    is_always_identity: bool
    is_default_identity: bool
    can_insert: bool
    can_update: bool

    @property
    def is_given_by_postgres(self) -> bool:
        """Tells whether no statement may give a value."""
        return self.is_generated or self.is_always_identity

    @property
    def may_be_left_out(self) -> bool:
        """Tells whether an insert works without a value."""
        return self.is_nullable or self.default_ is not None or self.is_default_identity


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignKey:
    """A foreign key between two tables of the mirror."""

    of: str
    name: str
    to: str
    columns: Sequence[str]
    foreign_columns: Sequence[str]
    on_delete: str
    """One letter, as in the catalogue: `a` no action, `r` restrict, `c` cascade, `n` set null, `d` set default."""
    on_update: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """An index on columns."""

    of: str
    name: str
    columns: Sequence[str]
    is_unique: bool
    is_primary: bool
    predicate: str
    method: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument(Type):
    """An argument of a function."""

    of: str
    name: str
    has_default: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Function(Type):
    """A function for signed-in users, with the type of its result."""

    of: str
    name: str
    comment: str
    is_set: bool
    is_one_row: bool
    has_other_results: bool


@dataclass(frozen=True, slots=True)
class Table:
    """A table or view with its parts."""

    name: str
    comment: str
    is_view: bool
    columns: Sequence[Column]
    foreign_keys: Sequence[ForeignKey]
    indexes: Sequence[Index]

    @property
    def primary_key(self) -> Sequence[str]:
        """Columns of the primary key; empty without a primary key."""
        return next((index.columns for index in self.indexes if index.is_primary), ())

    def is_unique(self, columns: Sequence[str]) -> bool:
        """Tells whether each combination of values of these columns has at most one row."""
        return any(
            index.is_unique and not index.predicate and set(index.columns) <= set(columns) for index in self.indexes
        )


@dataclass(frozen=True, slots=True)
class Mirror:
    """The schema of the mirror."""

    schema: str
    tables: Sequence[Table]
    views: Sequence[Table]
    functions: Sequence[tuple[Function, Sequence[Argument]]]
    exposed: Mapping[str, bool]
    """Views in `public` that show a table of the mirror; True: with the name and the columns of the table."""


def read_mirror(connection: Connection, schema: str | None = None) -> Mirror:
    """The mirror in this schema; without a name, in the schema that the migrations recorded. Raises MirrorMissing."""
    if schema is None:
        schema = next((name for (name,) in connection.execute(_SCHEMA).fetchall()), None)
    found = connection.execute("select from pg_namespace where nspname = %s", [schema]).fetchall()
    relations = list(_relations(connection, schema)) if schema is not None and found else []
    if schema is None or not relations:
        where = "this database" if schema is None else f"the schema {schema} of this database"
        raise MirrorMissing(f"{where} has no tables of the mirror; run: clerk-supabase migrate")
    arguments = _grouped(_all(connection, Argument, _ARGUMENTS, schema))
    return Mirror(
        schema,
        [table for table in relations if not table.is_view],
        [table for table in relations if table.is_view],
        [(each, arguments[each.of]) for each in _all(connection, Function, _FUNCTIONS, schema)],
        dict(connection.execute(_EXPOSED, {"schema": _quoted(schema)}).fetchall()),
    )


def _relations(connection: Connection, schema: str) -> Iterator[Table]:
    columns = _grouped(_all(connection, Column, _COLUMNS, schema))
    foreign_keys = _grouped(_all(connection, ForeignKey, _FOREIGN_KEYS, schema))
    indexes = _grouped(_all(connection, Index, _INDEXES, schema))
    for name, is_view, comment in connection.execute(_TABLES, {"schema": _quoted(schema)}).fetchall():
        yield Table(name, comment, is_view, columns[name], foreign_keys[name], indexes[name])


Part = TypeVar("Part", Argument, Column, ForeignKey, Function, Index)


def _all(connection: Connection, kind: type[Part], query: str, schema: str) -> list[Part]:
    with connection.cursor(row_factory=class_row(kind)) as cursor:
        return cursor.execute(query.encode(), {"schema": _quoted(schema)}).fetchall()


def _grouped(parts: Sequence[Part]) -> Mapping[str, list[Part]]:
    """The parts of each table or function."""
    groups: defaultdict[str, list[Part]] = defaultdict(list)
    for part in parts:
        groups[part.of].append(part)
    return groups


def _quoted(schema: str) -> str:
    """A name as regnamespace reads it."""
    doubled = schema.replace('"', '""')
    return f'"{doubled}"'
