"""Objects of the app that ask Supabase Auth for the caller: policies, defaults, functions, views, triggers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from clerk_supabase_cli.adopt.supabase_auth.auth_schema import NOT_THE_APPS
from clerk_supabase_cli.adopt.supabase_auth.claims import missing_claims
from clerk_supabase_cli.adopt.supabase_auth.rewriting import without_literals
from clerk_supabase_cli.operate.database import Connection
from clerk_supabase_cli.operate.install.mirror import mirror_schema

_CALL: Final = re.compile(r"""\bauth"?\s*\.\s*"?(uid|jwt|role|email)"?\s*\(|(request\.jwt)""", re.IGNORECASE)
# As text, this claim is Clerk's id, and right; as a uuid, an error.
_SUB: Final = (
    r"(?:(?:auth\.jwt\(\)|'request\.jwt\.claims'[^;]{0,60}?)\s*->>?\s*'sub'(?:::text)?|'request\.jwt\.claim\.sub'[^;:]{0,9}"
    r"(?:::text, true)?)[\s)]*::\s*"
)
# The type uuid, and every domain over uuid.
_UUIDS: Final = """
    with recursive uuids (oid) as (
        select 'uuid'::regtype::oid
        union
        select t.oid from pg_type as t inner join uuids on t.typbasetype = uuids.oid where t.typtype = 'd'
    )
    select t.oid, t.typname::text from pg_type as t inner join uuids on uuids.oid = t.oid order by 2
"""

# Expressions are printed with the schema of each function, because the search path holds pg_catalog only.
_EXPRESSIONS: Final = """
    select 'policy', quote_ident(p.polname), p.polrelid::regclass::text,
        concat_ws(' ', pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)), p.oid
    from pg_policy as p
    union all
    select case a.attgenerated when '' then 'default' else 'generated column' end, a.attname::text,
        d.adrelid::regclass::text, pg_get_expr(d.adbin, d.adrelid), d.oid
    from pg_attrdef as d
    inner join pg_attribute as a on a.attrelid = d.adrelid and a.attnum = d.adnum
    inner join pg_class as c on c.oid = d.adrelid
    where c.relnamespace::regnamespace::text <> all(%(not_the_apps)s)
    union all
    select 'constraint', k.conname::text, k.conrelid::regclass::text, pg_get_constraintdef(k.oid), k.oid
    from pg_constraint as k
    where k.contype = 'c' and k.conrelid <> 0 and k.connamespace::regnamespace::text <> all(%(not_the_apps)s)
    union all
    select 'view', c.relname::text, c.oid::regclass::text, pg_get_viewdef(c.oid), w.oid
    from pg_class as c
    inner join pg_rewrite as w on w.ev_class = c.oid and w.rulename = '_RETURN'
    where c.relkind in ('v', 'm') and c.relnamespace::regnamespace::text <> all(%(not_the_apps)s)
    and c.relnamespace <> 'pg_catalog'::regnamespace
    union all
    select 'trigger', t.tgname::text, t.tgrelid::regclass::text, pg_get_triggerdef(t.oid), t.oid
    from pg_trigger as t
    inner join pg_class as c on c.oid = t.tgrelid
    where not t.tgisinternal and t.tgqual is not null
    and c.relnamespace::regnamespace::text <> all(%(not_the_apps)s)
    order by 1, 3, 2
"""
_FUNCTIONS: Final = """
    select p.oid, p.oid::regprocedure::text, p.proname::text, concat_ws(' ', p.prosrc, pg_get_function_sqlbody(p.oid)),
        p.prorettype = any(%(uuids)s::oid[])
    from pg_proc as p
    where p.prokind in ('f', 'p') and p.pronamespace::regnamespace::text <> all(%(not_the_apps)s)
    and p.pronamespace <> 'pg_catalog'::regnamespace
    and not exists (
        select from pg_depend as d where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e'
    )
    order by 2
"""
# Policies, defaults, constraints, triggers and views depend on the functions in their expressions.
_USES: Final = """
    select d.objid, d.refobjid from pg_depend as d
    where d.refclassid = 'pg_proc'::regclass and d.refobjid = any(%(functions)s::oid[])
    and d.classid in (
        'pg_policy'::regclass, 'pg_attrdef'::regclass, 'pg_constraint'::regclass, 'pg_rewrite'::regclass,
        'pg_trigger'::regclass
    )
"""
_VIEWS: Final = """
    select w.oid, w.ev_class::regclass::text
    from pg_rewrite as w inner join pg_class as c on c.oid = w.ev_class
    where c.relkind = 'v'
"""
_TRIGGERS: Final = """
    select t.tgname::text, t.tgrelid::regclass::text, t.tgfoid::regprocedure::text
    from pg_trigger as t
    inner join pg_class as c on c.oid = t.tgrelid
    inner join pg_proc as p on p.oid = t.tgfoid
    where not t.tgisinternal and c.relnamespace = to_regnamespace('auth')
    and p.pronamespace is distinct from to_regnamespace('auth')
    order by 2, 1
"""
# Realtime reads each change as the subscriber, so that policies for reading decide.
_POLICIES_FOR_READING: Final = """
    select p.oid, p.polrelid::regclass::text, c.relrowsecurity, exists (
        select from pg_publication_tables as t
        where t.pubname = 'supabase_realtime' and p.polrelid = format('%I.%I', t.schemaname, t.tablename)::regclass
    )
    from pg_policy as p inner join pg_class as c on c.oid = p.polrelid
    where p.polcmd in ('r', '*') and exists (
        select from unnest(p.polroles) as r (id)
        where r.id = 0 or pg_has_role(to_regrole('authenticated')::oid, r.id, 'usage')
    )
"""
# The relations that policies and views read, of tables only if the policies of the table count for the reader: a view
# without security_invoker reads its tables as its owner.
_READS: Final = """
    select d.objid, d.refobjid::regclass::text
    from pg_depend as d
    inner join pg_class as c on c.oid = d.refobjid
    left join pg_rewrite as w on d.classid = 'pg_rewrite'::regclass and w.oid = d.objid
    left join pg_class as v on v.oid = w.ev_class
    where d.refclassid = 'pg_class'::regclass and c.relkind in ('r', 'p', 'v') and (
        d.classid = 'pg_policy'::regclass
        or (v.relkind = 'v' and v.oid <> c.oid and (
            c.relkind = 'v' or exists (
                select from pg_options_to_table(v.reloptions) as o
                where o.option_name = 'security_invoker' and o.option_value::boolean
            )
        ))
    )
"""


@dataclass(frozen=True, slots=True)
class Caller:
    """An object of the app that asks for the caller, itself or through functions of the app."""

    kind: str
    name: str
    table: str | None
    calls: list[str]
    """`auth.uid()` and the like, as far as the object calls them itself."""
    through: list[str]
    """Functions of the app in the object's expression that call them."""
    fails: bool
    """With Clerk's token, the object raises an error (22P02): Clerk's ids are no uuid."""
    claims: list[str]
    """Claims that the object reads, and Clerk's token lacks: null, without an error."""


@dataclass(frozen=True, slots=True)
class SignUpTrigger:
    """A trigger of the app on a table of the schema auth, which no user of Clerk fires."""

    name: str
    table: str
    function: str


@dataclass(frozen=True, slots=True)
class Callers:
    """All callers in a database."""

    callers: list[Caller]
    triggers: list[SignUpTrigger]
    realtime: list[str]
    """Tables published to Realtime with a policy that fails, or that reads a view or another table that fails.

    A single subscriber of Clerk's breaks the batch of all.
    """


@dataclass(frozen=True, slots=True)
class _Function:
    oid: int
    name: str
    bare_name: str
    body: str
    returns_uuid: bool


def callers(connection: Connection) -> Callers:
    """Finds every object of the app that asks Supabase Auth for the caller."""
    uuids: dict[int, str] = dict(connection.execute(_UUIDS).fetchall())
    where = {"not_the_apps": [*NOT_THE_APPS, mirror_schema(connection)], "uuids": [*uuids]}
    as_uuid = _cast_to(uuids.values())
    functions = [_Function(*row) for row in connection.execute(_FUNCTIONS, where)]
    asking = _and_their_callers(functions, lambda each: bool(_CALL.search(each.body)))
    failing = {*_and_their_callers(functions, lambda each: _function_fails(each, as_uuid))}
    used: dict[int, list[_Function]] = {}
    for oid, function in connection.execute(_USES, {"functions": [*asking]}):
        used.setdefault(oid, []).append(asking[function])
    found = [
        Caller(
            "function",
            each.name,
            None,
            _calls(each.body),
            [],
            each.oid in failing,
            missing_claims(each.body, is_body=True),
        )
        for each in asking.values()
    ]
    failing_expressions: set[int] = set()
    for kind, name, table, text, oid in connection.execute(_EXPRESSIONS, where):
        expression, its = without_literals(text), used.get(oid, ())
        calls, through = _calls(expression), sorted({function.name for function in its})
        if not calls and not through:
            continue
        # The name of a domain may be quoted.
        fails = (
            _fails(expression, as_uuid)
            or bool(as_uuid.search(text))
            or any(function.oid in failing for function in its)
        )
        found.append(Caller(kind, name, table, calls, through, fails, missing_claims(text)))
        if fails:
            failing_expressions.add(oid)
    triggers = [SignUpTrigger(*row) for row in connection.execute(_TRIGGERS)]
    return Callers(found, triggers, _failing_in_realtime(connection, failing_expressions))


def _failing_in_realtime(connection: Connection, failing: set[int]) -> list[str]:
    """The published tables with a policy that fails. `failing`: policies and rules of views that fail by themselves."""
    policies = connection.execute(_POLICIES_FOR_READING).fetchall()
    reads = connection.execute(_READS).fetchall()
    relations = {oid: table for oid, table, is_on, _ in policies if is_on}
    relations |= dict(connection.execute(_VIEWS).fetchall())
    readers = {oid for oid, *_ in policies} | relations.keys()
    while True:
        failed = {relations[oid] for oid in failing if oid in relations}
        more = {oid for oid, read in reads if oid in readers and read in failed} - failing
        if not more:
            return sorted({table for oid, table, _, is_published in policies if is_published and oid in failing})
        failing = failing | more


def _calls(text: str) -> list[str]:
    return sorted({f"auth.{name.lower()}()" if name else other for name, other in _CALL.findall(text)})


def _cast_to(types: Iterable[str]) -> re.Pattern[str]:
    """Return the pattern of a cast of Clerk's id to one of these types, with or without the schema of the type."""
    names = "|".join(re.escape(each) for each in types)
    return re.compile(rf"""{_SUB}(?:"?[\w$]+"?\s*\.\s*)?"?(?:{names})(?![\w$])""", re.IGNORECASE)


def _fails(text: str, as_uuid: re.Pattern[str]) -> bool:
    return bool(as_uuid.search(text)) or any(name.lower() == "uid" for name, _ in _CALL.findall(text))


def _function_fails(function: _Function, as_uuid: re.Pattern[str]) -> bool:
    # A function such as the requesting_user_id() of Clerk's former guide asks, too, and returns a text.
    return _fails(function.body, as_uuid) or (function.returns_uuid and bool(_CALL.search(function.body)))


def _and_their_callers(functions: list[_Function], is_one: Callable[[_Function], bool]) -> dict[int, _Function]:
    """The functions with a property, and all functions whose bodies name such a function."""
    found = {each.oid: each for each in functions if is_one(each)}
    fresh = [*found.values()]
    while fresh:
        names = "|".join(re.escape(each.bare_name) for each in fresh)
        mention = re.compile(rf'(?<![\w$])"?(?:{names})"?\s*\(', re.IGNORECASE)
        fresh = [each for each in functions if each.oid not in found and mention.search(each.body)]
        found |= {each.oid: each for each in fresh}
    return found
