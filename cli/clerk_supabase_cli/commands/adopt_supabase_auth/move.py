"""`clerk-supabase adopt supabase-auth move`: uuid columns of the app become text with Clerk's ids."""

from __future__ import annotations

from collections.abc import Sequence

import click

from clerk_supabase_cli.adopt.supabase_auth.auth_schema import see_all_rows
from clerk_supabase_cli.adopt.supabase_auth.move import Mode, Moved, Options, found_units, move
from clerk_supabase_cli.adopt.supabase_auth.plan import WithoutOwner
from clerk_supabase_cli.adopt.supabase_auth.remaining import Remaining, not_moved_by_keys, remaining
from clerk_supabase_cli.failure import Failure
from clerk_supabase_cli.operate.database import open_database
from clerk_supabase_cli.options import database_url_option, json_option, lock_timeout_option
from clerk_supabase_cli.printing import counted, print_json, printable, say


class SomeNotMoved(Failure):
    """At least one table stays as it was."""


@click.command("move")
@click.argument("tables", nargs=-1)
@click.option(
    "--column",
    "columns",
    multiple=True,
    metavar="SCHEMA.TABLE.COLUMN",
    help="A uuid column that no foreign key leads to; repeatable.",
)
@click.option("--write", is_flag=True, help="Move the tables; without, nothing is locked or changed.")
@click.option("--rehearse", is_flag=True, help="Run every statement, then roll back; locks the tables meanwhile.")
@click.option("--drop-old", is_flag=True, help="Do not keep the old uuids in <column>_supabase.")
@click.option(
    "--without-owner",
    type=click.Choice(["stop", "empty", "keep"]),
    default="stop",
    show_default=True,
    help="For rows of users who are not in Clerk: stop their table, empty the column, or keep the uuid as text, which "
    "is the id of nobody.",
)
@lock_timeout_option
@database_url_option
@json_option
def move_command(
    *,
    tables: tuple[str, ...],
    columns: tuple[str, ...],
    write: bool,
    rehearse: bool,
    drop_old: bool,
    without_owner: WithoutOwner,
    lock_seconds: float,
    database_url: str,
    as_json: bool,
) -> None:
    """Turn the uuid columns of TABLES, or of all tables with keys to auth.users, into text with Clerk's ids.

    Tables whose keys, policies or views compare such columns are moved together, in a single transaction, or not at
    all. Defaults, policies and views get Clerk's id in place of auth.uid(); indexes and keys between your tables stay.
    Keys to auth.users are dropped. Rows of a user who is not in Clerk stop their table,
    unless --without-owner says otherwise.

    Without --write prints the statements. Safe to run again: goes on with the tables that are left.

    \b
    Examples:
      clerk-supabase adopt supabase-auth move
      clerk-supabase adopt supabase-auth move public.projects --write
    """
    if write and rehearse:
        raise click.UsageError("--write keeps the result and --rehearse does not: type one of them")
    mode: Mode = "write" if write else "rehearse" if rehearse else "look"
    options = Options(mode, drop_old, without_owner, lock_seconds)
    done: list[Moved] = []
    with open_database(database_url) as connection:
        for unit in found_units(connection, tables, columns, drops_old=drop_old):
            done.append(move(connection, database_url, unit, options, lambda words: say(words, err=True)))
            if not as_json:
                _print_unit(done[-1], mode)
        with connection.transaction():
            see_all_rows(connection)
            left = [*not_moved_by_keys(connection), *remaining(connection)]
    if as_json:
        print_json({"changed": write, "tables": done, "todo": left})
    else:
        _print_end(done, left)
    if stopped := [table for each in done if each.outcome == "not moved" for table in each.tables]:
        raise SomeNotMoved(f"not moved: {', '.join(stopped)}")


def _print_unit(unit: Moved, mode: Mode) -> None:
    say(printable(f"{unit.outcome}: {', '.join(unit.columns)}"))
    if unit.why:
        say(f"  {printable(unit.why)}")
    for orphan in unit.without_owner:
        say(f"  {printable(orphan.column)}: {orphan.old_id}, {counted(orphan.rows, 'row')}")
    if mode != "write":
        for statement in unit.statements:
            say(f"  {statement};", as_it_is=True)
    for note in unit.notes:
        say(f"  note: {printable(note)}")


def _print_end(done: Sequence[Moved], left: Sequence[Remaining]) -> None:
    if not done:
        say("no table is left to move")
    if left:
        say("left for you:")
    for each in left:
        say(f"  {printable(each.what)}: {each.todo}")
