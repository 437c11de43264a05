"""`clerk-supabase migrate`."""

from __future__ import annotations

import click

from clerk_supabase_cli.migrations import ObjectsDiffer, migrate, prepare_plain_postgres, repair_database
from clerk_supabase_cli.options import database_url_option
from clerk_supabase_cli.printing import printable, say
from clerk_supabase_cli.project import find_root


@click.command("migrate")
@database_url_option
@click.option("--plain-postgres", is_flag=True, help="Not Supabase: first create the API's roles and auth.jwt().")
@click.option("--repair", "repairs", is_flag=True, help="Make objects that differ what this version makes; keeps rows.")
@click.option("--dry-run", is_flag=True, help="Say what would be applied or repaired, and change nothing.")
def migrate_command(database_url: str, *, plain_postgres: bool, repairs: bool, dry_run: bool) -> None:
    """Apply the SQL migrations that are missing, in order, and compare what is there with what they make.

    Whatever tool applied them: each object that is missing, or is another than this version makes, is named, and the
    exit status is 1. What you have added yourself (columns, triggers, policies, indexes, rights of other roles) is no
    difference.

    --repair makes these objects anew in one transaction: functions, triggers, policies, rights, indexes, and columns
    and tables that are missing. It deletes no row, and says what only you can decide.

    --dry-run does all this in one transaction that is rolled back in the end: what fails or differs there would do so
    without it, too.
    """
    if dry_run and plain_postgres:
        raise click.UsageError("--plain-postgres changes the database, which --dry-run does not")
    if plain_postgres:
        prepare_plain_postgres(database_url, find_root())
    if repairs:
        _repair(database_url, is_trial=dry_run)
    else:
        _apply(database_url, is_trial=dry_run)


def _apply(database_url: str, *, is_trial: bool) -> None:
    applied = 0
    try:
        for name in migrate(database_url, find_root(), is_trial=is_trial):
            say(f"{'would apply' if is_trial else 'applied'} {name}")
            applied += 1
    except ObjectsDiffer as error:
        for difference in error.found:
            say(printable(difference.words))
        raise
    if applied == 0:
        say("up to date")
    else:
        say(f"{applied} would be applied; nothing was changed" if is_trial else f"{applied} applied")


def _repair(database_url: str, *, is_trial: bool) -> None:
    statements = repair_database(database_url, find_root(), is_trial=is_trial)
    for statement in statements:
        say(f"{statement};")
    if not statements:
        say("nothing differs")
    else:
        did = "would be run; nothing was changed" if is_trial else "run"
        say(f"{len(statements)} statements {did}", err=True)
