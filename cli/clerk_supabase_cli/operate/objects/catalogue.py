"""Reads this project's objects in a database from Postgres's catalogue, in any version from 15 on.

Postgres prints definitions by the settings of the session, so each setting is fixed before. The body of a function is
read unchanged.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

from clerk_supabase_cli.operate.database import Connection
from clerk_supabase_cli.operate.objects.expressions import flat, without_qualifiers

API_ROLES: Final = ("anon", "authenticated", "service_role")
OWN_ROLES: Final = ("clerk_sync_worker", "clerk_sync_session")
SCHEMA: Final = "clerk_sync"

# Settings for the print of parsed definitions. `set local` ends with the transaction, so it works through a pooler.
_SETTINGS: Final = """
    select
        set_config('search_path', 'pg_catalog, pg_temp', true), set_config('timezone', 'UTC', true),
        set_config('datestyle', 'ISO, YMD', true), set_config('intervalstyle', 'postgres', true),
        set_config('quote_all_identifiers', 'off', true), set_config('bytea_output', 'hex', true),
        set_config('extra_float_digits', '1', true)
"""

# In the order in which a repair makes them.
KINDS: Final = (
    *("role", "schema", "type", "table", "column", "constraint", "row"),
    *("function", "index", "view", "policy", "trigger", "rights"),
)
_HAS_KINDS: Final = "select to_regclass('clerk_sync.kinds') is not null"
_EVERYTHING_IN_MIRROR: Final = """
    select
        array(
            select c.relname::text from pg_class as c
            where c.relnamespace = to_regnamespace(%(mirror)s) and c.relkind in ('r', 'p', 'v')
        ),
        array(select p.oid::regprocedure::text from pg_proc as p where p.pronamespace = to_regnamespace(%(mirror)s))
"""
_PART: Final = b"""
    select 'KIND', row_number() over () as place, q.name::text, q.part_of::text, q.facts, q.statement, q.is_ours
    from (QUERY) as q (name, part_of, facts, statement, is_ours)
"""
_QUERIES: Final = Path(__file__).parent / "queries"

# register() writes these two functions again for each kind, and each kind of the app adds a branch.
DISPATCHERS: Final = (
    f"{SCHEMA}.write_rows(text,jsonb,{SCHEMA}.change[])",
    f"{SCHEMA}.hide_rows({SCHEMA}.change[])",
)
_BRANCH: Final = re.compile(
    r"\s*(?:when '(\w+)' then return clerk_sync\.\w+\(batch, winners\);"
    r"|if kinds && '[^']*' then perform clerk_sync\.hide_(\w+)\(deleted, kinds\); end if;)"
)
_REGISTER: Final = (
    "select clerk_sync.register("
    "k.kind, k.write_order, k.relation::regclass, k.key_column, k.mirrored_columns, k.parents, "
    "accompanies => k.accompanies, is_read_by_id => k.is_read_by_id"
    ") from clerk_sync.kinds as k where k.kind = 'user'"
)
# Facts that Postgres prints from a parsed definition.
_PRINTED: Final = ("definition", "using", "with check")


@dataclass(frozen=True, slots=True)
class Thing:
    """An object of the database, described by the catalogue."""

    kind: str
    """A member of KINDS."""
    name: str
    part_of: str
    """Kind and name of the object on which this object depends; empty for an independent object."""
    facts: Mapping[str, str]
    """The compared facts, by their names in words."""
    create: str = ""
    """The statement that makes the object; for rights, templates of `grant` and `revoke`, with {} for the privilege."""
    is_ours: bool = field(default=True, compare=False)
    """False for an object that the app may have added to a table of ours."""

    @property
    def key(self) -> str:
        """The kind and the name."""
        return f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True)
class Scope:
    """This project's names in the schema of the mirror, where an app may have objects of its own, too."""

    schema: str
    relations: Sequence[str]
    functions: Sequence[str]

    @classmethod
    def of(cls, things: Iterable[Thing], schema: str) -> Scope:
        """The names among these objects."""
        ours = [(each.kind, each.name) for each in things if each.name.startswith(f"{schema}.")]
        return cls(
            schema,
            [name.partition(".")[2] for kind, name in ours if kind in {"table", "view"}],
            [name.partition(".")[2] for kind, name in ours if kind == "function"],
        )

    @classmethod
    def everything(cls, connection: Connection, schema: str) -> Scope:
        """All names in a database where only the migrations made objects."""
        with connection.transaction():
            connection.execute(_SETTINGS)
            [(relations, functions)] = connection.execute(_EVERYTHING_IN_MIRROR, {"mirror": schema}).fetchall()
        return cls(schema, relations, [name.removeprefix(f"{schema}.") for name in functions])


def read(connection: Connection, scope: Scope) -> list[Thing]:
    """The objects of this project in a database, in the order in which a repair makes them."""
    with connection.transaction():
        connection.execute(_SETTINGS)
        given = {
            "mirror": scope.schema,
            "relations": list(scope.relations),
            "functions": [f"{scope.schema}.{name}" for name in scope.functions],
            "names": [name.partition("(")[0] for name in scope.functions],
            "roles": [*API_ROLES, *OWN_ROLES],
        }
        [(has_kinds,)] = connection.execute(_HAS_KINDS).fetchall()
        found = connection.execute(_query_of_all(), given).fetchall()
        rows = connection.execute(_query("row"), given).fetchall() if has_kinds else []
    things = [thing for kind, _, *described in found for thing in _things(kind, [described])]
    things += _things("row", rows)
    return sorted(things, key=lambda thing: KINDS.index(thing.kind))


@cache
def _query_of_all() -> bytes:
    """A single statement for all kinds but rows, because the planning of a statement takes longer than its run."""
    parts = (_PART.replace(b"KIND", kind.encode()).replace(b"QUERY", _query(kind)) for kind in KINDS if kind != "row")
    return _query("scope") + b"union all".join(parts) + b"order by 1, place"


def _query(name: str) -> bytes:
    return (_QUERIES / f"{name}.sql").read_bytes()


def _things(kind: str, rows: Iterable[Sequence[Any]]) -> Iterator[Thing]:
    for name, part_of, facts, create, is_ours in rows:
        described = {fact: str(value) for fact, value in facts.items()}
        if kind == "view":
            described["definition"] = without_qualifiers(described["definition"])
        for fact in _PRINTED:
            if fact in described:
                described[fact] = flat(described[fact])
        makes = create or ""
        if name in DISPATCHERS:
            described["body"], makes = _without_order(described["body"]), _REGISTER
        elif kind == "function":
            described["body"] = hash_of_body(described["body"])
        yield Thing(kind, name, part_of or "", described, makes, is_ours)


def hash_of_body(body: str) -> str:
    """The body of a function as it is compared."""
    return hashlib.sha256(body.encode()).hexdigest()


def _without_order(body: str) -> str:
    """The body with its branches sorted, each on a line: their order depends on when a kind was registered last."""
    known = sorted(found[0].strip() for found in _BRANCH.finditer(body))
    frame = " ".join(_BRANCH.sub("", body).split())
    return "\n".join([frame, *known])
