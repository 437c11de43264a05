"""Steps of the database's owner, with edits by hand. A statement refused by the app has no effect."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from random import Random
from typing import Any, Final, LiteralString

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from clerk_supabase.model.found_kinds import FACTS
from clerk_supabase_cli.simulator.app_rules import TABLES
from clerk_supabase_cli.simulator.episodes.stage import Stage
from clerk_supabase_cli.simulator.snapshots import Place

_FIRST_ROWS: Final = """
select distinct on (kind, entity_id) kind, entity_id, new_values from clerk_sync.audit_log
where operation = 'insert' and new_values is not null order by kind, entity_id, audit_id
"""
_PUT_BACK: Final = "insert into clerk.{table} select (jsonb_populate_record(null::clerk.{table}, %s)).*"
_POINTING: Final[Mapping[str, frozenset[str]]] = {
    parent: frozenset(kind for kind, facts in FACTS.items() if parent in facts.parents.values()) for parent in FACTS
}
"""By kind: the kinds whose rows point to its rows."""


def some_row(stage: Stage, chance: Random, *, is_hidden: bool | None = None) -> tuple[Place, Mapping[str, Any]] | None:
    snapshot = stage.snapshot()
    rows = [
        (place, row)
        for place, row in sorted(snapshot.rows.items())
        if (is_hidden is None or (row["deleted_at"] is not None) == is_hidden)
        and not (place in snapshot.entities and snapshot.entities[place].is_purged)
    ]
    return chance.choice(rows) if rows else None


def _by_hand(stage: Stage, place: Place, statement: LiteralString, *parameters: object) -> None:
    """Runs a statement about a row; {table}, {key} and {text} are the names of its table and columns."""
    names = dict(zip(("table", "key", "text"), map(sql.Identifier, TABLES[place[0]]), strict=True))
    with suppress(psycopg.Error):
        stage.admin.execute(sql.SQL(statement).format(**names), [*parameters, place[1]])


def edit(stage: Stage, chance: Random) -> None:
    """The owner writes into a mirrored column."""
    if found := some_row(stage, chance, is_hidden=False):
        _by_hand(stage, found[0], "update clerk.{table} set {text} = 'by hand' where {key} = %s")


def hide(stage: Stage, chance: Random) -> None:
    """The owner hides a row."""
    if found := some_row(stage, chance, is_hidden=False):
        _by_hand(stage, found[0], "update clerk.{table} set deleted_at = now() where {key} = %s")


def show(stage: Stage, chance: Random) -> None:
    """The owner makes a hidden row visible."""
    if found := some_row(stage, chance, is_hidden=True):
        _by_hand(stage, found[0], "update clerk.{table} set deleted_at = null where {key} = %s")


def remove(stage: Stage, chance: Random) -> None:
    """The owner deletes a row."""
    if found := some_row(stage, chance):
        _by_hand(stage, found[0], "delete from clerk.{table} where {key} = %s")


def remove_organization(stage: Stage, chance: Random) -> None:
    """The owner deletes the row of an organization, with or without its children; Clerk keeps the organization."""
    org_ids = sorted(place[1] for place in stage.snapshot().rows if place[0] == "organization")
    if not org_ids:
        return
    org_id = chance.choice(org_ids)
    is_cascade = chance.random() < 0.5
    with suppress(psycopg.Error), stage.admin.transaction():
        if not is_cascade:
            # Neither triggers nor foreign keys act, so the audit log does not see the delete.
            stage.admin.execute("set local session_replication_role = replica")
            stage.truncated.add("organization")
        stage.admin.execute("delete from clerk.organizations where clerk_org_id = %s", [org_id])

    def happen() -> None:
        if org_id in stage.world.organizations:
            stage.world.sign_up()
            stage.world.add_membership(org_id, list(stage.world.users)[-1], role="org:member")
            stage.world.invite(org_id)

    stage.lets(happen)


def restore(stage: Stage, chance: Random) -> None:
    """The owner restores the first state of a row, from a backup."""
    inserts = stage.admin.execute(_FIRST_ROWS).fetchall()
    if inserts:
        kind, object_id, row = chance.choice(inserts)
        _by_hand(stage, (kind, object_id), "delete from clerk.{table} where {key} = %s")
        restore = "insert into clerk.{table} select (jsonb_populate_record(null::clerk.{table}, %s)).* where %s <> ''"
        _by_hand(stage, (kind, object_id), restore, Jsonb(row | {"deleted_at": None}))


def change_key(stage: Stage, chance: Random) -> None:
    """The owner changes the primary key of a row."""
    if found := some_row(stage, chance):
        _by_hand(stage, found[0], "update clerk.{table} set {key} = {key} || 'y' where {key} = %s")
        stage.rekeyed |= {found[0][1], f"{found[0][1]}y"}


def truncate(stage: Stage, chance: Random) -> None:
    """The owner truncates a table, and the tables with foreign keys to its rows."""
    kind = chance.choice(list(TABLES))
    with suppress(psycopg.Error):
        stage.admin.execute(sql.SQL("truncate clerk.{} cascade").format(sql.Identifier(TABLES[kind][0])))
        stage.truncated |= {kind} | _POINTING.get(kind, frozenset())


def save_table(stage: Stage, chance: Random) -> None:
    """The owner copies the present rows of a table."""
    kind = chance.choice(list(TABLES))
    stage.copies[kind] = [row for (of_kind, _), row in sorted(stage.snapshot().rows.items()) if of_kind == kind]


def restore_table(stage: Stage, chance: Random) -> None:
    """The owner deletes the rows of a table, with their children, and inserts the rows of an older copy."""
    if not stage.copies:
        return
    kind = chance.choice(sorted(stage.copies))
    table = sql.Identifier(TABLES[kind][0])
    with suppress(psycopg.Error), stage.admin.transaction():
        stage.admin.execute(sql.SQL("delete from clerk.{table}").format(table=table))
        for row in stage.copies[kind]:
            stage.admin.execute(sql.SQL(_PUT_BACK).format(table=table), [Jsonb(row)])


def edit_profile(stage: Stage, chance: Random) -> None:
    """The owner writes into a public profile."""
    user_ids = sorted(stage.snapshot().profiles)
    if user_ids:
        update = "update clerk.users_public set username = 'by hand' where clerk_id = %s"
        stage.admin.execute(update, [chance.choice(user_ids)])
        stage.are_profiles_edited = True
