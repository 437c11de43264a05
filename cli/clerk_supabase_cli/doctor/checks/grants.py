"""Checks of the grants to the API's roles by the migrations."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from clerk_supabase_cli.doctor.patient import Patient
from clerk_supabase_cli.doctor.verdicts import Finding, fail, ok
from clerk_supabase_cli.operate.database import Connection
from clerk_supabase_cli.operate.install.migrations import Migration, applied, read_migrations
from clerk_supabase_cli.operate.install.mirror import mirror_schema

_API_ROLES: Final = {"anon", "authenticated", "service_role"}
_GRANT: Final = re.compile(r"^grant\s+([^;]+?)\s+on\s+(function\s+|schema\s+)?([^;]+?)\s+to\s+([^;]+);", re.MULTILINE)
_RIGHT: Final = re.compile(r"(\w+)(?:\s*\(([^)]*)\))?")
_OBJECT: Final = re.compile(r"[\w.]+(?:\([^)]*\))?")
_COMMA: Final = re.compile(r"\s*,\s*")

# All rights in one statement: there are hundreds of them. Null where there is no such function, schema, table or view.
_HELD: Final = """
    select case
        when a.is_schema then has_schema_privilege(a.role, to_regnamespace(a.thing), a.privilege)
        when a.privilege = 'execute' then has_function_privilege(a.role, to_regprocedure(a.thing), a.privilege)
        when a.columns = '' then has_table_privilege(a.role, to_regclass(a.thing), a.privilege)
        else (
            select bool_and(has_column_privilege(a.role, to_regclass(a.thing), c, a.privilege))
            from string_to_table(a.columns, ',') as c
        )
    end
    from unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::boolean[])
        with ordinality as a (role, privilege, columns, thing, is_schema, place)
    order by a.place
"""


@dataclass(frozen=True, slots=True)
class _Right:
    """A privilege of a role on a function, schema, table or view, or on some columns."""

    role: str
    privilege: str
    columns: tuple[str, ...]
    thing: str
    is_schema: bool

    @property
    def what(self) -> str:
        """The name of the object, with the word `schema` before the name of a schema."""
        return f"schema {self.thing}" if self.is_schema else self.thing

    @property
    def act(self) -> str:
        """The privilege, with its columns."""
        if self.is_schema:
            return "use the schema" if self.privilege == "usage" else f"{self.privilege} in the schema"
        return f"{self.privilege} ({', '.join(self.columns)}) of" if self.columns else self.privilege


@dataclass(frozen=True, slots=True)
class _Grant:
    """A statement of a migration with the rights given by it."""

    statement: str
    rights: tuple[_Right, ...]


def grants(patient: Patient) -> Iterator[Finding]:
    """Checks every privilege granted to the API's roles by the migrations."""
    with patient.database() as connection:
        names = applied(connection)
        migrations = read_migrations(patient.named.root, mirror_schema(connection))
        granted = list(_grants([migration for migration in migrations if migration.name in names]))
        if not granted:
            yield fail("no migration is applied", "clerk-supabase migrate")
            return
        held = _held(connection, [right for grant in granted for right in grant.rights])
    problems = [problem for grant in granted for problem in _problems(grant, held)]
    yield from problems
    if not problems:
        number = sum(len(grant.rights) for grant in granted)
        yield ok(f"the API's roles have all {number} rights that policies and apps need")


def _grants(migrations: Sequence[Migration]) -> Iterator[_Grant]:
    """Grants to the API's roles in these migrations."""
    for migration in migrations:
        for match in _GRANT.finditer(migration.text):
            roles = _COMMA.split(match[4])
            if _API_ROLES.issuperset(roles):
                yield _Grant(" ".join(match[0].split()), tuple(_rights(match, roles)))


def _rights(statement: re.Match[str], roles: list[str]) -> Iterator[_Right]:
    """The rights given by one `grant`."""
    is_schema = (statement[2] or "").startswith("schema")
    for thing in _OBJECT.findall(statement[3]):
        for privilege, columns in _RIGHT.findall(statement[1]):
            named = tuple(_COMMA.split(columns)) if columns else ()
            yield from (_Right(role, privilege, named, thing, is_schema) for role in roles)


def _held(connection: Connection, rights: Sequence[_Right]) -> dict[_Right, bool | None]:
    """Answers for each right whether its role has it; None: there is no such object."""
    asked = [
        [right.role for right in rights],
        [right.privilege for right in rights],
        [",".join(right.columns) for right in rights],
        [right.thing for right in rights],
        [right.is_schema for right in rights],
    ]
    answers = connection.execute(_HELD, asked).fetchall()
    return {right: answer for right, (answer,) in zip(rights, answers, strict=True)}


def _problems(grant: _Grant, held: Mapping[_Right, bool | None]) -> Iterator[Finding]:
    answers = {right: held[right] for right in grant.rights}
    for thing in dict.fromkeys(right.what for right, holds in answers.items() if holds is None):
        yield fail(f"there is no {thing}", "run its `create` and its grants of sql/migrations again")
    missing = [right for right, holds in answers.items() if holds is False]
    if missing:
        yield fail("; ".join(_in_words(missing)), f"in SQL, as the owner: {grant.statement}")


def _in_words(missing: list[_Right]) -> Iterator[str]:
    """A sentence for each role and privilege."""
    by_role = sorted(missing, key=lambda right: (right.role, right.act))
    for (role, act), rights in groupby(by_role, key=lambda right: (right.role, right.act)):
        yield f"{role} may not {act} {', '.join(right.thing for right in rights)}"
