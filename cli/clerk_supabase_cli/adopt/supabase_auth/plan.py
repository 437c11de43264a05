"""The statements that turn uuids into Clerk's ids, in the order in which Postgres takes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final, Literal, LiteralString

from psycopg import sql

from clerk_supabase_cli.adopt.supabase_auth.dependents.generated_columns import GeneratedColumn
from clerk_supabase_cli.adopt.supabase_auth.dependents.policies import Policy, policies
from clerk_supabase_cli.adopt.supabase_auth.dependents.triggers import triggers
from clerk_supabase_cli.adopt.supabase_auth.dependents.views import View, views
from clerk_supabase_cli.adopt.supabase_auth.rewriting import REQUESTING, rewritten
from clerk_supabase_cli.adopt.supabase_auth.units import Unit
from clerk_supabase_cli.adopt.supabase_auth.user_columns import UserColumn
from clerk_supabase_cli.operate.database import Connection

WithoutOwner = Literal["stop", "empty", "keep"]
"""For rows of a user without a pair. empty: null. keep: the uuid as text, which is the id of nobody."""

# All keys that a moved column is part of, on either side.
_KEYS: Final = """
    select distinct
        format('alter table %%s drop constraint %%I', c.conrelid::regclass, c.conname),
        format('alter table %%s add constraint %%I %%s', c.conrelid::regclass, c.conname, pg_get_constraintdef(c.oid)),
        c.confrelid <> 'auth.users'::regclass,
        format('comment on constraint %%I on %%s is %%L', c.conname, c.conrelid::regclass, d.description),
        d.description is not null
    from pg_constraint as c
    cross join lateral unnest(c.conkey, c.confkey) as k (child, parent)
    inner join unnest(%(relations)s::oid[], %(numbers)s::int[]) as moved (relation, number)
        on (c.conrelid, k.child) = (moved.relation, moved.number)
        or (c.confrelid, k.parent) = (moved.relation, moved.number)
    left join pg_description as d on d.classoid = 'pg_constraint'::regclass and d.objoid = c.oid
    where c.contype = 'f' and c.conparentid = 0
    order by 1
"""


_FUNCTIONS: Final = """
    select distinct f.id::regprocedure::text
    from unnest(%(relations)s::oid[]) as moved (id)
    cross join lateral clerk_sync.functions_about(moved.id::regclass) as f (id)
    order by 1
"""


@dataclass(frozen=True, slots=True)
class Plan:
    """Statements for a unit, and remarks for a person."""

    statements: list[str]
    notes: list[str]
    views: list[str]
    """Views that are made again."""


def plan(
    connection: Connection,
    unit: Unit,
    generated: Sequence[GeneratedColumn],
    *,
    drops_old: bool,
    without_owner: WithoutOwner,
) -> Plan:
    """Reads the catalogue and writes the statements; changes nothing. *generated*: computed from the unit's columns."""
    columns = unit.columns
    made_again = [*columns, *(each.column for each in generated)]
    where = {"relations": [c.relation for c in made_again], "numbers": [c.number for c in made_again]}
    keys = connection.execute(_KEYS, where).fetchall()
    its_views = views(connection, made_again)
    its_triggers = triggers(connection, made_again)
    tables = {each.relation for each in columns}
    its_policies = [
        each for each in policies(connection, made_again) if each.reads or (each.relation in tables and each.asks)
    ]
    statements = [
        *(view.drop for view in reversed(its_views)),
        *(policy.drop for policy in its_policies),
        *(trigger.drop for trigger in its_triggers),
        *(drop for drop, *_ in keys),
        *(each.drop for each in generated),
        *_columns(connection, columns, drops_old=drops_old, without_owner=without_owner),
        *(each.add for each in generated),
        *dict.fromkeys(statement for each in generated for statement in each.after),
        *(add for _, add, stays, *_ in keys if stays),
        *(comment for *_, stays, comment, has_comment in keys if stays and has_comment),
        *(statement for trigger in its_triggers for statement in trigger.statements()),
        *(statement for policy in its_policies for statement in policy.statements()),
        *(statement for view in its_views for statement in view.statements()),
    ]
    notes = _notes(columns, its_policies, its_views)
    notes += [f"{each.column.at} is computed anew, and is the last column of its table then" for each in generated]
    notes += [
        f"function {name} names these tables: look for uuid in its arguments and variables"
        for (name,) in connection.execute(_FUNCTIONS, {"relations": [*tables]})
    ]
    return Plan(statements, notes, [view.name for view in its_views])


def _columns(
    connection: Connection, columns: Sequence[UserColumn], *, drops_old: bool, without_owner: WithoutOwner
) -> list[str]:
    statements: list[sql.Composed] = []
    by_table = groupby(sorted(columns, key=lambda each: each.relation), key=lambda each: each.relation)
    for _, grouped in by_table:
        its = [*grouped]
        of = its[0].of
        if defaults := [each for each in its if each.default is not None]:
            statements.append(_alter(of, "alter column {name} drop default", defaults))
        if not drops_old:
            # Neither the new column nor the new type fires a trigger of the app.
            statements.append(_alter(of, "add column {backup} {type} generated always as ({name}) stored", its))
            statements.append(_alter(of, "alter column {backup} drop expression", its))
        statements.append(_alter(of, "alter column {name} type text using {new_id}", its, without_owner))
        statements += [
            sql.SQL("alter table {} alter column {} set default {}").format(of, each.name, sql.SQL(new))
            for each in its
            if (new := new_default(each))
        ]
        statements.append(sql.SQL("analyze {}").format(of))
    return [statement.as_string(connection) for statement in statements]


def _alter(
    of: sql.Identifier, change: LiteralString, columns: Sequence[UserColumn], without_owner: WithoutOwner = "stop"
) -> sql.Composed:
    changes = [
        sql.SQL(change).format(
            name=each.name,
            backup=sql.Identifier(each.backup),
            type=sql.SQL("text" if each.is_text else "uuid"),
            new_id=_new_id(each, without_owner),
        )
        for each in columns
    ]
    return sql.SQL("alter table {} {}").format(of, sql.SQL(", ").join(changes))


def _new_id(column: UserColumn, without_owner: WithoutOwner) -> sql.Composed:
    """The expression for the new value of the column."""
    if column.is_text:
        empties = sql.Literal(without_owner == "empty")
        return sql.SQL("clerk_migration.clerk_id_of_text({}::text, {})").format(column.name, empties)
    clerk_id = sql.SQL("clerk_migration.clerk_id_of({})").format(column.name)
    return sql.SQL("coalesce({}, {}::text)" if without_owner == "keep" else "{}").format(clerk_id, column.name)


def new_default(column: UserColumn) -> str | None:
    """The default of the column with Clerk's ids; None where a default of uuids has no counterpart."""
    if column.default is None:
        return None
    new = rewritten(column.default, REQUESTING)
    return new if column.is_text or new != column.default else None


def _notes(columns: Sequence[UserColumn], its_policies: Sequence[Policy], its_views: Sequence[View]) -> list[str]:
    notes = [
        f"{each.at} loses its default {each.default}: no uuid is an id of Clerk's"
        for each in columns
        if each.default is not None and new_default(each) is None
    ]
    notes += [
        f"{each.at}: deleting a user no longer touches its rows (the key to auth.users did: on delete {each.on_delete})"
        for each in columns
        if each.on_delete not in (None, "restrict")
    ]
    for policy in its_policies:
        if policy.asks and policy.is_for_everybody:
            notes.append(
                f"policy {policy.name} on {policy.table} is for {', '.join(policy.roles)}: a user banned in Clerk "
                "passes until the token ends, within a minute; create it `to authenticated` to end this"
            )
        if policy.still_calls:
            notes.append(
                f"policy {policy.name} on {policy.table} asks for a value that Clerk's token does not hold, such as "
                "auth.email(), and lets nobody pass: write it again"
            )
    notes += [
        f"the view {view.name} reads its tables as its owner, without their policies: "
        f"alter view {view.name} set (security_invoker = on)"
        for view in its_views
        if view.reads_as_owner
    ]
    return notes
