"""Everything that `uninstall` would remove, leave, or stop at. Only reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from psycopg import sql

from clerk_supabase_cli.operate.database import Connection
from clerk_supabase_cli.operate.objects.catalogue import OWN_ROLES, SCHEMA
from clerk_supabase_cli.operate.objects.manifest import Manifest
from clerk_supabase_cli.operate.uninstall.dependents import Dependent, Ours, dependents

_MARK: Final = "clerk-supabase-sync:%"
# Schemas that are never the mirror's, whatever a comment or a table says.
_NEVER: Final = ("public", "auth", "storage", "realtime", "extensions", "graphql_public", "vault")
_SCHEMAS: Final = """
    select n.nspname::text, quote_ident(pg_get_userbyid(n.nspowner)), pg_has_role(n.nspowner, 'usage')
    from pg_namespace as n
    where n.nspname <> all(%(never)s) and n.nspname !~ '^pg_' and (
        n.nspname = 'clerk_sync'
        or obj_description(n.oid, 'pg_namespace') like %(mark)s
        -- A restore without comments.
        or exists (
            select from pg_class as c
            inner join pg_trigger as t on t.tgrelid = c.oid
            inner join pg_proc as p on p.oid = t.tgfoid
            where c.relnamespace = n.oid and c.relname = 'users' and t.tgname = 'users_project_on_update'
            and p.pronamespace = to_regnamespace('clerk_sync')
        )
    )
    and (n.nspname <> 'clerk_sync' or %(has_ours)s)
    order by n.nspname = 'clerk_sync', n.nspname
"""
_TABLES: Final = """
    select n.nspname::text, c.relname::text, format('%%I.%%I', n.nspname, c.relname), c.relkind = 'r'
    from pg_class as c inner join pg_namespace as n on n.oid = c.relnamespace
    where n.nspname = any(%s) and c.relkind in ('r', 'p', 'v', 'm', 'f') order by 1, 2
"""
_COLUMNS: Final = """
    select format('%%I.%%I.%%I', n.nspname, c.relname, a.attname)
    from pg_attribute as a
    inner join pg_class as c on c.oid = a.attrelid
    inner join pg_namespace as n on n.oid = c.relnamespace
    where n.nspname = any(%s) and c.relkind = 'r' and a.attnum > 0 and not a.attisdropped order by 1
"""
_FUNCTIONS_OF_MIRROR: Final = """
    select p.oid::regprocedure::text, quote_ident(n.nspname)
    from pg_proc as p inner join pg_namespace as n on n.oid = p.pronamespace
    where n.nspname = any(%s) and n.nspname <> 'clerk_sync' order by 1
"""
_MENTIONS: Final = """
    select p.oid::regprocedure::text
    from pg_proc as p inner join pg_namespace as n on n.oid = p.pronamespace
    where n.nspname <> all(%(schemas)s) and n.nspname not in ('pg_catalog', 'information_schema')
    and p.prosrc ~ ('\\m(' || array_to_string(%(schemas)s, '|') || ')\\.')
    and not exists (select from pg_depend as d where d.objid = p.oid and d.deptype = 'e')
    order by 1
"""
_PUBLISHED: Final = """
    select quote_ident(p.pubname), string_agg(r.prrelid::regclass::text, ', ' order by r.prrelid::regclass::text)
    from pg_publication_rel as r inner join pg_publication as p on p.oid = r.prpubid
    where r.prrelid = any(%s::oid[]) group by 1 order by 1
"""
_SECURED: Final = """
    select c.relrowsecurity, array(
        select quote_ident(p.polname) from pg_policy as p
        where p.polrelid = c.oid and p.polname not like 'clerk\\_sync\\_%%' order by 1
    )
    from pg_class as c where c.oid = %s::regclass
"""
_ROLES: Final = """
    select
        r.rolname::text,
        array(
            select distinct quote_ident(d.datname)::text
            from pg_shdepend as s inner join pg_database as d on d.oid = s.dbid
            where s.refclassid = 'pg_authid'::regclass and s.refobjid = r.oid and d.datname <> current_database()
        ),
        array(
            select distinct pg_describe_object(s.classid, s.objid, s.objsubid)
            from pg_shdepend as s inner join pg_database as d on d.oid = s.dbid
            where s.refclassid = 'pg_authid'::regclass and s.refobjid = r.oid and d.datname = current_database()
            and s.objid <> all(%(ours)s::oid[])
        ),
        (
            select count(*) from pg_stat_activity as a where a.usesysid = r.oid and a.datname = current_database()
        )
    from pg_roles as r where r.rolname = any(%(roles)s) order by 1
"""
_OIDS_OF_SCHEMAS: Final = """
    select array(
        select n.oid from pg_namespace as n where n.nspname = any(%(schemas)s)
        union all
        select p.oid from pg_policy as p where p.polrelid = any(%(classes)s::oid[])
    )
"""
_PUSHED: Final = """
    select string_agg(split_part(m.name, '_', 1), ' ' order by m.name) from clerk_sync.migrations as m
"""


@dataclass(frozen=True, slots=True)
class Secured:
    """A table of the app whose policies of this project are removed, and what becomes of the table."""

    table: str
    statements: Sequence[str]
    afterwards: str


@dataclass(frozen=True, slots=True)
class Stop:
    """An object of the app that must go, or move, first; and the statement that does this."""

    what: str
    statement: str


@dataclass(frozen=True, slots=True)
class Role:
    """A role of this project; it is kept for a reason, or dropped without one."""

    name: str
    kept_because: str


@dataclass(frozen=True, slots=True)
class Removal:
    """All findings."""

    schemas: Sequence[str]
    rows: Mapping[str, int]
    """Rows of each table that holds any."""
    columns: Sequence[str]
    """Columns that the app added to tables of ours, lost with the tables."""
    secured: Sequence[Secured]
    others: Sequence[str]
    """Statements that remove further objects made by this project on tables of the app."""
    stops: Sequence[Stop]
    roles: Sequence[Role]
    notes: Sequence[str]

    @property
    def is_empty(self) -> bool:
        """Tells whether nothing of this project is there."""
        return not self.schemas and not any(not role.kept_because for role in self.roles)


def plan(connection: Connection, manifest: Manifest, *, has_ours: bool) -> Removal:
    """Reads what there is. *has_ours*: whether the schema clerk_sync is this project's."""
    rows = connection.execute(_SCHEMAS, {"never": list(_NEVER), "mark": _MARK, "has_ours": has_ours}).fetchall()
    schemas = [name for name, _, _ in rows]
    ours = Ours.read(connection, schemas)
    found = dependents(connection, ours) if schemas else []
    stops = [
        Stop(f"the schema {name} belongs to {owner}", f"connect as {owner}")
        for name, owner, is_ours in rows
        if not is_ours
    ]
    stops += [Stop(_words(each), each.statement) for each in found if not each.is_ours]
    stops += _strangers(connection, schemas, manifest)
    secured = list(_secured(connection, found))
    others = [each.statement for each in found if each.is_ours and each.kind not in {"policy", "default"}]
    return Removal(
        schemas,
        _rows(connection, schemas),
        _added_columns(connection, schemas, manifest),
        secured,
        others,
        stops,
        _roles(connection, schemas, ours),
        list(_notes(connection, schemas, ours)),
    )


def _words(each: Dependent) -> str:
    is_whole = each.kind in {"function", "type", "view", "materialized view"}
    place = each.table or "a domain"
    what = f"the {each.statement.removeprefix('drop ')}" if is_whole else f"a {each.kind} of {place}"
    if each.kind == "restrictive policy":
        return f"{what} needs an object of this project; without it the table's other policies decide alone"
    return f"{what} needs an object of this project"


def _strangers(connection: Connection, schemas: Sequence[str], manifest: Manifest) -> Iterator[Stop]:
    """Relations in our schemas, and functions in the mirror's schema, that no migration makes."""
    known = {each.name.partition(".")[2] for each in manifest.things if each.kind in {"table", "view", "function"}}
    for _, name, called, _ in connection.execute(_TABLES, [list(schemas)]):
        if name not in known:
            yield Stop(f"{called} is none of this project's", f"alter table {called} set schema public")
    for called, schema in connection.execute(_FUNCTIONS_OF_MIRROR, [list(schemas)]):
        if called.removeprefix(f"{schema}.").replace(f"{schema}.", "clerk.") not in known:
            yield Stop(f"the function {called} is none of this project's", f"alter function {called} set schema public")


def _secured(connection: Connection, found: Sequence[Dependent]) -> Iterator[Secured]:
    tables = dict.fromkeys(each.table for each in found if each.is_ours and each.kind in {"policy", "default"})
    for table in tables:
        [(is_on, policies)] = connection.execute(_SECURED, [table]).fetchall()
        if not is_on:
            words = "row-level security is off already, so its policies have no effect today"
        elif policies:
            words = f"row-level security stays on, and the app's own policies decide: {', '.join(policies)}"
        else:
            words = "row-level security stays on: without a policy only its owner and service_role see its rows"
        statements = [each.statement for each in found if each.is_ours and each.table == table]
        yield Secured(str(table), [each for each in statements if not each.startswith("drop trigger")], words)


def _rows(connection: Connection, schemas: Sequence[str]) -> dict[str, int]:
    tables = [row[:2] for row in connection.execute(_TABLES, [list(schemas)]) if row[3]]
    if not tables:
        return {}
    counts = [
        sql.SQL("select {}, count(*) from {}").format(f"{schema}.{name}", sql.Identifier(schema, name))
        for schema, name in tables
    ]
    found = connection.execute(sql.SQL(" union all ").join(counts)).fetchall()
    return {name: number for name, number in sorted(found) if number}


def _added_columns(connection: Connection, schemas: Sequence[str], manifest: Manifest) -> list[str]:
    known = {each.name.partition(".")[2] for each in manifest.things if each.kind in {"table", "column"}}
    names = [name for (name,) in connection.execute(_COLUMNS, [list(schemas)])]
    # A table unknown to the migrations is none of ours, and named elsewhere.
    return [
        name
        for name in names
        if name.partition(".")[2] not in known and name.partition(".")[2].rpartition(".")[0] in known
    ]


def _roles(connection: Connection, schemas: Sequence[str], ours: Ours) -> list[Role]:
    given = {"schemas": list(schemas), "classes": ours.classes}
    [(more,)] = connection.execute(_OIDS_OF_SCHEMAS, given).fetchall()
    numbers = [*ours.classes, *ours.functions, *ours.types, *more]
    found = connection.execute(_ROLES, {"ours": numbers, "roles": list(OWN_ROLES)}).fetchall()
    return [Role(name, _why_kept(elsewhere, here)) for name, elsewhere, here, _ in found]


def _why_kept(elsewhere: Sequence[str], here: Sequence[str]) -> str:
    if elsewhere:
        return f"used in the database {', '.join(elsewhere)}"
    return f"has rights on, or owns: {', '.join(here)}" if here else ""


def _notes(connection: Connection, schemas: Sequence[str], ours: Ours) -> Iterator[str]:
    given = {"ours": [], "roles": list(OWN_ROLES)}
    for name, _, _, sessions in connection.execute(_ROLES, given):
        if sessions and schemas:
            yield f"{name} is connected: a stack still writes; delete the stack first, or its events will fail"
    for name, tables in connection.execute(_PUBLISHED, [ours.classes]):
        yield f"the publication {name} loses {tables}"
    if not schemas:
        return
    for name in schemas:
        if name != SCHEMA:
            yield (
                f"Supabase's API answers nothing while {name} is missing but exposed: with SUPABASE_ACCESS_TOKEN and a "
                f"connection string from Supabase this command takes {name} out of the exposed schemas; otherwise do "
                "it first: Integrations, Data API, Settings. Clerk stays a third-party provider: remove it under "
                "Authentication, Sign In / Providers"
            )
    for (function,) in connection.execute(_MENTIONS, {"schemas": list(schemas)}):
        yield f"the function {function} may name an object that is removed: look at its text"
    [(is_pushed,)] = connection.execute(
        "select to_regclass('supabase_migrations.schema_migrations') is not null "
        "and to_regclass('clerk_sync.migrations') is not null"
    ).fetchall()
    if is_pushed and SCHEMA in schemas:
        [(numbers,)] = connection.execute(_PUSHED).fetchall()
        if numbers:
            yield f"if `supabase db push` applied the files: supabase migration repair --status reverted {numbers}"
