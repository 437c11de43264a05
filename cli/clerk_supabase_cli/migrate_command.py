"""`clerk-supabase migrate`."""

from __future__ import annotations

import click

from clerk_supabase_cli.migrations import migrate, prepare_plain_postgres
from clerk_supabase_cli.options import database_url_option
from clerk_supabase_cli.printing import say
from clerk_supabase_cli.project import find_root


@click.command("migrate")
@database_url_option
@click.option("--plain-postgres", is_flag=True, help="Not Supabase: first create the API's roles and auth.jwt().")
def migrate_command(database_url: str, plain_postgres: bool) -> None:
    """Apply the SQL migrations that are missing, in order."""
    root = find_root()
    if plain_postgres:
        prepare_plain_postgres(database_url, root)
    applied = 0
    for name in migrate(database_url, root):
        say(f"applied {name}")
        applied += 1
    say("up to date" if applied == 0 else f"{applied} applied")
