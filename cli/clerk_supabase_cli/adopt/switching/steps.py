"""The steps of a move to another Clerk instance: each is whole or not at all, and goes on after an interruption."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import psycopg

from clerk_supabase.postgres.failures import is_about_the_connection
from clerk_supabase_cli.adopt.links.statements import SETTINGS
from clerk_supabase_cli.adopt.links.writing import Writer
from clerk_supabase_cli.adopt.switching.columns import (
    IdColumn,
    LeftId,
    Unit,
    as_json,
    as_units,
    find_columns,
    rows_by_id,
    rows_with_ids,
)
from clerk_supabase_cli.adopt.switching.pairing import pair
from clerk_supabase_cli.operate.blockers import LockedByOthers

_BEGIN: Final = "select set_config('statement_timeout', '30min', true)"
# A check that waits for the end of the transaction would keep its table from being altered.
_CONSTRAINTS: Final = "set constraints all immediate"
_SWITCH: Final = "select clerk_sync.begin_switch(%s, %s)"
_MOVE: Final = "select clerk_sync.move_ids(%s)"
_MOVE_BACK: Final = "select clerk_sync.move_ids(%s, true)"
_MOVED_COLUMNS: Final = """
select c."table", c."column", 'moved'
from clerk_sync.instance_switches as s
cross join lateral jsonb_to_recordset(s.moved_columns) as c ("table" text, "column" text)
where s.ended_at is null and to_regclass(c."table") is not null
order by 1, 2
"""
_FINISH: Final = "select clerk_sync.finish_move()"
_BEGIN_UNDO: Final = "select clerk_sync.begin_undo()"
_UNDO: Final = "select clerk_sync.undo_switch()"
_CONFIRM: Final = "select clerk_sync.confirm_switch(%s)"
_RETRY: Final = 'select clerk_sync.retry_unfed(\'{"limit": 100000, "seconds": 60}\')'


@dataclass(frozen=True, slots=True)
class Found:
    """A column with ids of the mirrored instance, before the move."""

    column: str
    known_by: str
    rows: int


@dataclass(frozen=True, slots=True)
class Moved:
    """The outcome for tables that change together."""

    columns: Sequence[str]
    rows: int
    """Rows with the id of a successor: written, or to be written in a dry run."""
    why_not: str | None = None
    """The reason why these tables stay as they were."""


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of a step."""

    users: Mapping[str, int] = field(default_factory=dict)
    """The users of the old instance by proof, or by the reason why no successor is known."""
    moved: Sequence[Moved] = ()
    left: Sequence[LeftId] = ()
    not_valid: Sequence[str] = ()
    """Foreign keys that rows do not satisfy."""

    @property
    def is_whole(self) -> bool:
        """True: every table was moved."""
        return all(each.why_not is None for each in self.moved)


def look(writer: Writer, named: Sequence[str]) -> list[Found]:
    """The app's columns with ids of the mirrored instance. Changes nothing."""
    connection = writer.connection
    with connection.transaction():
        connection.execute(SETTINGS)
        connection.execute(_BEGIN)
        columns = find_columns(connection, named)
        return [Found(each.name, each.known_by, rows_with_ids(connection, each)) for each in columns]


def begin(writer: Writer, to_instance: str) -> None:
    """Archives the rows of the mirrored instance; from then on events of the other instance are accepted.

    Raises LockedByOthers.
    """

    def act() -> None:
        writer.connection.execute(_BEGIN)
        writer.connection.execute(_SWITCH, [to_instance, writer.operator])

    writer.in_turns(act)


def move(writer: Writer, pairs: Sequence[str], named: Sequence[str]) -> Report:
    """Pairs users, replaces their ids in the app's tables, and makes the app's foreign keys again.

    A dry run of *writer* only counts. Raises LockedByOthers, NoPair and NoSuchColumn.
    """
    connection = writer.connection
    if writer.is_trial:
        with connection.transaction(force_rollback=True):
            connection.execute(SETTINGS)
            users = pair(connection, pairs)
            return _counts(writer, users, as_units(connection, find_columns(connection, named)))
    with connection.transaction():
        connection.execute(SETTINGS)
        users = pair(connection, pairs)
    columns = find_columns(connection, named)
    moved = [_move_unit(writer, unit, _MOVE) for unit in as_units(connection, columns)]
    not_valid: list[str] = []
    if Report(moved=moved).is_whole:
        # Before that, a feed would insert a second row for a user whose row has the old id.
        not_valid = _finish(writer, _FINISH)
        connection.execute(_RETRY)
    with connection.transaction():
        connection.execute(SETTINGS)
        left = [each for column in columns for rest in rows_by_id(connection, column) for each in rest]
    return Report(users, moved, left, not_valid)


def undo(writer: Writer) -> Report:
    """Puts the old ids back into the app's tables, and then the rows of the archive into the mirror.

    The mirror stays as it is if a table cannot be moved back. A dry run of *writer* only names the tables. Raises
    LockedByOthers.
    """
    connection = writer.connection
    columns = [IdColumn(*row) for row in connection.execute(_MOVED_COLUMNS)]
    units = as_units(connection, columns)
    if writer.is_trial:
        return Report(moved=[Moved([each.name for each in unit], 0) for unit in units])
    writer.in_turns(lambda: connection.execute(_BEGIN_UNDO))
    moved = [_move_unit(writer, unit, _MOVE_BACK) for unit in units]
    report = Report(moved=moved)
    return Report(moved=moved, not_valid=_finish(writer, _UNDO)) if report.is_whole else report


def confirm(writer: Writer) -> None:
    """Removes the archive, for good."""
    writer.in_turns(lambda: writer.connection.execute(_CONFIRM, [writer.operator]))


def _counts(writer: Writer, users: Mapping[str, int], units: Sequence[Unit]) -> Report:
    moved: list[Moved] = []
    left: list[LeftId] = []
    for unit in units:
        counted = [rows_by_id(writer.connection, each) for each in unit]
        moved.append(Moved([each.name for each in unit], sum(each.rows for found, _ in counted for each in found)))
        left += [each for _, rest in counted for each in rest]
    return Report(users, moved, left)


def _move_unit(writer: Writer, unit: Unit, statement: str) -> Moved:
    columns = [each.name for each in unit]
    try:
        return Moved(columns, writer.in_turns(functools.partial(_write_unit, writer, unit, statement)))
    except LockedByOthers as error:
        return Moved(columns, 0, str(error))
    except psycopg.Error as error:
        if writer.connection.broken or is_about_the_connection(error.sqlstate, str(error)):
            raise
        return Moved(columns, 0, error.diag.message_primary or str(error))


def _write_unit(writer: Writer, unit: Unit, statement: str) -> int:
    writer.connection.execute(SETTINGS)
    writer.connection.execute(_BEGIN)
    writer.connection.execute(_CONSTRAINTS)
    [(rows,)] = writer.connection.execute(statement.encode(), [as_json(unit)]).fetchall()
    return int(rows)


def _finish(writer: Writer, statement: str) -> list[str]:
    def act() -> list[str]:
        writer.connection.execute(_BEGIN)
        [(names,)] = writer.connection.execute(statement.encode()).fetchall()
        return list(names)

    return writer.in_turns(act)
