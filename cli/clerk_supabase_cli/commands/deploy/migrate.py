"""`clerk-supabase migrate`: applies the migrations, and compares and repairs the objects of the database."""

from __future__ import annotations

from pathlib import Path

import click

from clerk_supabase_cli.failure import Failure
from clerk_supabase_cli.operate.install.migrations import (
    Blocked,
    ObjectsDiffer,
    migrate,
    prepare_plain_postgres,
    render,
    repair_database,
)
from clerk_supabase_cli.operate.install.mirror import DEFAULT, checked_name
from clerk_supabase_cli.operate.install.preflight_types import InTheWay
from clerk_supabase_cli.options import json_option, parsed_database_url_option
from clerk_supabase_cli.printing import print_json, printable, say
from clerk_supabase_cli.project import find_root


@click.command("migrate")
@parsed_database_url_option
@click.option("--plain-postgres", is_flag=True, help="Without Supabase: first create the API's roles and auth.jwt().")
@click.option("--repair", "repairs", is_flag=True, help="Repair missing and different objects; keeps rows.")
@click.option("--dry-run", is_flag=True, help="Print the migrations or repairs, and change nothing.")
@click.option(
    "--schema",
    metavar="NAME",
    callback=lambda _context, _parameter, name: None if name is None else checked_name(name),
    help=f"Name of the schema for the mirror's tables, before the first migration.  [default: {DEFAULT}]",
)
@click.option(
    "--render",
    "folder",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write the SQL files for --schema into DIR, for psql or `supabase db push`; no database is needed.",
)
@json_option
def migrate_command(
    database_url: str | None,
    *,
    plain_postgres: bool,
    repairs: bool,
    dry_run: bool,
    schema: str | None,
    folder: Path | None,
    as_json: bool,
) -> None:
    """Apply the missing SQL migrations, and compare the database. Its objects must be the objects of this version.

    First looks for everything in the way: names that are taken, roles and rights that are missing, a server that takes
    no writes. Each finding is printed with its remedy, nothing is changed, and the exit status is 1.

    In the end each missing or different object is printed, whatever tool applied the migrations, and the exit status
    is 1. Your own additions (columns, triggers, policies, indexes, rights of other roles) are no differences.

    --repair creates these objects again in a single transaction: functions, triggers, policies, rights, indexes, and
    missing columns, tables and rows. No row is deleted, and each decision left to you is printed.

    --dry-run looks in the same way, and then tries the files or the repair in a single transaction, which is rolled
    back in the end: an error or difference in a dry run would occur without --dry-run, too.

    --schema chooses the name of the schema with the mirror's tables. The database records the name, which cannot be
    changed later.

    \b
    Examples:
      clerk-supabase migrate --dry-run
      clerk-supabase migrate
    """
    if folder is not None:
        _render(folder, schema or DEFAULT, is_alone=not (plain_postgres or repairs or dry_run))
        return
    if database_url is None:
        raise click.UsageError("Missing option '--database-url' or the environment variable DATABASE_URL.")
    if repairs and schema is not None:
        raise click.UsageError("--repair takes the name of the schema from the database: leave --schema out")
    if dry_run and plain_postgres:
        raise click.UsageError("--plain-postgres changes the database, and --dry-run must not")
    if plain_postgres:
        prepare_plain_postgres(database_url, find_root())
    if repairs:
        _repair(database_url, is_trial=dry_run, as_json=as_json)
    elif as_json:
        _apply_as_json(database_url, schema, is_trial=dry_run)
    else:
        _apply(database_url, schema, is_trial=dry_run)


def _render(folder: Path, schema: str, *, is_alone: bool) -> None:
    if not is_alone:
        raise click.UsageError("--render writes files and needs no other option but --schema")
    for file in render(find_root(), folder, schema):
        say(f"wrote {printable(str(file))}")


def _apply(database_url: str, schema: str | None, *, is_trial: bool) -> None:
    applied = 0
    try:
        for name in migrate(database_url, find_root(), schema=schema, is_trial=is_trial, note=_note):
            say(f"{'would apply' if is_trial else 'applied'} {name}")
            applied += 1
    except ObjectsDiffer as error:
        for difference in error.found:
            say(printable(difference.words))
        raise
    except Blocked as error:
        for each in error.found:
            _print(each, "in the way")
        # The lines above say the rest.
        raise Failure(_blocked(len(error.found))) from error
    if applied == 0:
        say("up to date")
    else:
        say(f"{applied} would be applied; nothing was changed" if is_trial else f"{applied} applied")


def _apply_as_json(database_url: str, schema: str | None, *, is_trial: bool) -> None:
    """Applies the migrations, and prints an object also if they fail."""
    done: dict[str, list[object]] = {"applied": [], "differences": [], "in_the_way": [], "notes": []}
    try:
        for name in migrate(database_url, find_root(), schema=schema, is_trial=is_trial, note=done["notes"].append):
            done["applied"].append(name)
    except ObjectsDiffer as error:
        done["differences"] += [each.words for each in error.found]
        raise
    except Blocked as error:
        done["in_the_way"] += error.found
        raise Failure(_blocked(len(error.found))) from error
    finally:
        print_json({"dry_run": is_trial, **done})


def _blocked(number: int) -> str:
    things = "1 thing is" if number == 1 else f"{number} things are"
    return f"nothing was changed, because {things} in the way"


def _note(each: InTheWay) -> None:
    _print(each, "note", err=True)


def _print(each: InTheWay, label: str, *, err: bool = False) -> None:
    say(printable(f"{label}: {each.found}"), err=err)
    say(printable(f"  -> {each.todo}"), err=err)


def _repair(database_url: str, *, is_trial: bool, as_json: bool) -> None:
    statements = repair_database(database_url, find_root(), is_trial=is_trial)
    if as_json:
        print_json({"dry_run": is_trial, "statements": statements})
        return
    for statement in statements:
        say(f"{statement};", as_it_is=True)
    if not statements:
        say("nothing differs")
    else:
        did = "would be run; nothing was changed" if is_trial else "run"
        say(f"{len(statements)} statements {did}", err=True)
