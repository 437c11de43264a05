"""Repairs the objects of a database by the migrations of this version, without the loss of a row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import psycopg
from psycopg import sql

from clerk_supabase_cli.failure import Failure
from clerk_supabase_cli.operate.database import Connection
from clerk_supabase_cli.operate.objects.catalogue import KINDS, SCHEMA, Thing
from clerk_supabase_cli.operate.objects.comparison import Difference, differences, missing_api_roles
from clerk_supabase_cli.operate.objects.manifest import Manifest

# A new function has the default rights, visible only to the next round.
_ROUNDS: Final = 4
_PREPARE: Final = """
    select
        set_config('search_path', 'pg_catalog, pg_temp', true), set_config('check_function_bodies', 'off', true),
        set_config('lock_timeout', '2s', true)
"""
_HAS_ROWS: Final = "select exists (select from {})"
_RECREATED: Final = {
    "constraint": "alter table {table} drop constraint {name}",
    "policy": "drop policy {name} on {table}",
    "trigger": "drop trigger {name} on {table}",
}
_TABLE_ACTIONS: Final = {
    ("row-level security", "on"): "enable row level security",
    ("row-level security", "off"): "disable row level security",
    ("row-level security for the owner", "on"): "force row level security",
    ("row-level security for the owner", "off"): "no force row level security",
    ("written to the log", "yes"): "set logged",
}
_OWNED: Final = ("schema", "table", "view", "function")


class NotRepaired(Failure):
    """The objects stay unchanged, for the reasons in the message."""


@dataclass(frozen=True, slots=True)
class Obstacle:
    """A difference that needs the decision of a person, and the reason."""

    difference: Difference
    reason: str

    @property
    def words(self) -> str:
        """A sentence: the difference, and the reason why a person must decide."""
        return f"{self.difference.words}: {self.reason}"


def repair(connection: Connection, manifest: Manifest) -> Iterator[str]:
    """Runs statements until nothing differs, and yields each. The caller's transaction makes the repair all or nothing.

    Raises NotRepaired.
    """
    connection.execute(_PREPARE)
    for _ in range(_ROUNDS):
        found = differences(connection, manifest)
        if not found:
            return
        if obstacles := list(_obstacles(connection, found)):
            raise NotRepaired(
                "nothing was changed, because a repair may lose no row: "
                + "; ".join(obstacle.words for obstacle in obstacles)
            )
        for difference, statement in _in_order(found, manifest):
            _run(connection, difference, statement)
            yield statement
    left = differences(connection, manifest)
    if left:
        raise NotRepaired(
            "nothing was changed, because the statements of the repair had no effect: "
            + "; ".join(difference.words for difference in left)
            + " (was the right granted by another role than the owner of clerk_sync?)"
        )


def statements(difference: Difference) -> list[str]:
    """The statements that remove a difference; empty if a person must decide."""
    expected, found = difference.expected, difference.found
    thing = difference.thing
    if thing.kind == "rights":
        return list(_statements_of_rights(difference))
    if expected is None:
        return [_drop(thing)]
    if found is None:
        return [part for part in expected.create.split(";") if part] if thing.kind == "role" else [expected.create]
    return list(_alterations(difference, expected, found))


def _alterations(difference: Difference, expected: Thing, found: Thing) -> Iterator[str]:
    altered = difference.altered
    if "owner" in altered and found.kind in _OWNED:
        yield f"alter {found.kind} {found.name} owner to {{owner}}"
        altered = [name for name in altered if name != "owner"]
    if not altered:
        return
    match found.kind:
        case "table":
            for name in altered:
                yield f"alter table {found.name} {_TABLE_ACTIONS[name, expected.facts[name]]}"
        case "column":
            yield from _alterations_of_column(altered, expected)
        case "trigger" if altered == ["enabled"]:
            name, _, table = found.name.partition(" on ")
            yield f"alter table {table} enable trigger {name}"
        case "function" if {"arguments", "result"} & set(altered):
            yield from (_drop(found), expected.create)
        case "type" if _is_enum(expected):
            yield from _new_values(expected, found)
        case "index" | "constraint" | "policy" | "type":
            yield from (_drop(found), expected.create)
        case _:
            yield expected.create


def _alterations_of_column(altered: Sequence[str], expected: Thing) -> Iterator[str]:
    table, _, column = expected.name.rpartition(".")
    if "default" in altered:
        default = expected.facts["default"]
        action = "drop default" if default == "none" else f"set default {default}"
        yield f"alter table {table} alter column {column} {action}"
    if "not null" in altered:
        action = "set" if expected.facts["not null"] == "yes" else "drop"
        yield f"alter table {table} alter column {column} {action} not null"


def _is_enum(thing: Thing) -> bool:
    return thing.create.startswith(f"create type {thing.name} as enum ")


def _values(enum: Thing) -> list[str]:
    """The values of an enum in their order, quoted."""
    return enum.facts["parts"].split(", ")


def _new_values(expected: Thing, found: Thing) -> Iterator[str]:
    there, wanted = _values(found), _values(expected)
    for place, name in enumerate(wanted):
        if name not in there:
            where = f"after {wanted[place - 1]}" if place else f"before {there[0]}"
            yield f"alter type {found.name} add value {name} {where}"


def _drop(thing: Thing) -> str:
    if thing.kind in _RECREATED:
        name, _, table = thing.name.partition(" of " if thing.kind == "constraint" else " on ")
        return _RECREATED[thing.kind].format(name=name, table=table)
    if thing.kind == "column":
        table, _, column = thing.name.rpartition(".")
        return f"alter table {table} alter column {column} drop not null"
    return f"drop {thing.kind} {thing.name}"


def _statements_of_rights(difference: Difference) -> Iterator[str]:
    wanted = difference.expected.facts if difference.expected else {}
    given = difference.found.facts if difference.found else {}
    grant, revoke = difference.thing.create.split(";")
    for privilege in (name for name, how in given.items() if wanted.get(name) != how):
        yield revoke.format(privilege)
    for privilege in (name for name, how in wanted.items() if given.get(name) != how):
        yield grant.format(privilege)


# Decisions for a person


def _obstacles(connection: Connection, found: Sequence[Difference]) -> Iterator[Obstacle]:
    for difference in found:
        if reason := _reason(connection, difference):
            yield Obstacle(difference, reason)


def _reason(connection: Connection, difference: Difference) -> str:
    expected, altered = difference.expected, difference.altered
    if expected is None:
        return ""
    if missing_api_roles([difference]):
        return "Supabase has that role; elsewhere run: clerk-supabase migrate --plain-postgres"
    if difference.found and expected.kind == "type" and _is_enum(expected):
        kept = [name for name in _values(expected) if name in _values(difference.found)]
        if kept != _values(difference.found):
            return (
                "Postgres neither drops nor sorts values of a type: rename the type, make it again "
                f"({expected.create}), and alter each column of the old type"
            )
    if expected.kind == "column" and {"type", "generated"} & set(altered):
        table, _, column = expected.name.rpartition(".")
        return (
            f"look at its rows, then: alter table {table} alter column {column} type {expected.facts['type']} "
            f"using {column}::{expected.facts['type'].partition(' collate')[0]}"
            if "type" in altered
            else f"must be {expected.facts['generated']}; look at its rows, and alter the column by hand"
        )
    needs_value = expected.kind == "column" and expected.facts["not null"] == "yes"
    if difference.found is None and needs_value and _cannot_be_filled(expected):
        table = expected.name.rpartition(".")[0]
        [(has_rows,)] = connection.execute(
            sql.SQL(_HAS_ROWS).format(sql.Identifier(*table.replace('"', "").split(".")))
        ).fetchall()
        if has_rows:
            return "the existing rows need a value: add the column, fill it, and set it not null"
    return ""


def _cannot_be_filled(column: Thing) -> bool:
    return column.facts["default"] == "none" and column.facts["generated"] == "no"


# Running them


def _in_order(found: Sequence[Difference], manifest: Manifest) -> Iterator[tuple[Difference, str]]:
    """Sorts differences: leftover objects first, but leftover functions last; between these, the rest by kind."""
    places = {kind: place for place, kind in enumerate(KINDS)}
    is_left_over = {difference.thing.key: difference.expected is None for difference in found}

    def place(difference: Difference) -> tuple[bool, int, bool]:
        thing = difference.thing
        goes_last = is_left_over[thing.key] and thing.kind == "function"
        return goes_last, -1 if is_left_over[thing.key] and not goes_last else places[thing.kind], _points(difference)

    misses_tables = any(each.thing.kind == "table" and each.found is None for each in found)
    missing = [each.thing for each in found if each.found is None]
    missing_views = [thing.name for thing in missing if thing.kind == "view"]
    missing_functions = [thing for thing in missing if thing.kind == "function"]
    for difference in sorted(found, key=place):
        if misses_tables and _points(difference):
            continue  # In the next round, the other table has its key.
        if difference.thing.kind == "function" and any(view in difference.thing.create for view in missing_views):
            continue  # In the next round, the view is there.
        if _needs_one_of(missing_functions, difference.thing):
            continue  # In the next round, the other function is there.
        if difference.thing.kind == "type" and difference.altered and not _is_enum(difference.thing):
            yield from _drops_of_users(difference, found, manifest)
        for statement in statements(difference):
            yield difference, statement


def _needs_one_of(functions: Sequence[Thing], thing: Thing) -> bool:
    """Tells whether the body of a function calls one of these when it is made: a body as text is read at its call."""
    if thing.kind != "function" or "$function$" in thing.create:
        return False
    return any(f"{each.name.partition('(')[0]}(" in thing.create for each in functions if each.key != thing.key)


def _points(difference: Difference) -> bool:
    """Tells whether a constraint is a foreign key, which needs the key of another table."""
    return difference.thing.kind == "constraint" and " FOREIGN KEY " in difference.thing.create


def _drops_of_users(
    difference: Difference, found: Sequence[Difference], manifest: Manifest
) -> Iterator[tuple[Difference, str]]:
    """Drops the functions with a replaced type in their signature; the next round makes them again."""
    missing = {each.thing.key for each in found if each.found is None}
    there = {each.found.key: each.found for each in found if each.found is not None}
    functions: Mapping[str, Thing] = {
        thing.key: there.get(thing.key, thing)
        for thing in [*manifest.things, *there.values()]
        if thing.kind == "function" and thing.key not in missing
    }
    for function in functions.values():
        if difference.thing.name in function.facts["arguments"] + function.facts["result"]:
            yield difference, f"drop function if exists {function.name}"


def _run(connection: Connection, difference: Difference, statement: str) -> None:
    if "{owner}" in statement:
        [(owner,)] = connection.execute(
            "select quote_ident(nspowner::regrole::text) from pg_namespace where nspname = %s", [SCHEMA]
        ).fetchall()
        statement = statement.replace("{owner}", owner)
    try:
        connection.execute(statement.encode())
    except psycopg.errors.LockNotAvailable as error:
        raise NotRepaired(
            f"nothing was changed: another session keeps a lock on the {difference.thing.kind} "
            f"{difference.thing.name}; try again when it has ended"
        ) from error
    except psycopg.Error as error:
        detail = f" ({error.diag.message_detail})" if error.diag.message_detail else ""
        raise NotRepaired(
            f"nothing was changed: {difference.words}; {error.diag.message_primary or error}{detail}; "
            f"the statement was: {' '.join(statement.split())[:200]}"
        ) from error
