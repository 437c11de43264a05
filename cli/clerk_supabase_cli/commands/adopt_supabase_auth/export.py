"""`clerk-supabase adopt supabase-auth export`: the users, in files for Clerk's import."""

from __future__ import annotations

from pathlib import Path

import click

from clerk_supabase_cli.adopt.supabase_auth.export.exported import AppMetadataSide
from clerk_supabase_cli.adopt.supabase_auth.export.files import export
from clerk_supabase_cli.operate.database import open_database
from clerk_supabase_cli.options import database_url_option, json_option
from clerk_supabase_cli.printing import print_json, printable, say


@click.command("export")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--app-metadata",
    "side",
    type=click.Choice(["public", "private"]),
    default="public",
    show_default=True,
    help="Clerk's metadata that takes Supabase's app metadata: the user reads the public metadata, too.",
)
@database_url_option
@json_option
def export_command(*, folder: Path, side: AppMetadataSide, database_url: str, as_json: bool) -> None:
    """Write the users to FOLDER: users.json for Clerk's import, and left_out.ndjson for you.

    The files hold password hashes and addresses: only you can read them, and FOLDER must not be part of a git
    repository, unless git ignores it. Delete both after the import. Safe to run again: complete files replace the files
    of before.

    \b
    Example:
      clerk-supabase adopt supabase-auth export ../export
    """
    with open_database(database_url) as connection:
        done = export(connection, folder, side)
    if as_json:
        print_json(done)
        return
    say(printable(f"{done.users} users in {done.users_file}"))
    for hasher, number in done.passwords.items():
        say(f"  {number} {'without a password' if hasher == 'none' else f'with a password of {hasher}'}")
    say(printable(f"left out, with the reasons in {done.left_out_file}:"))
    for what, number in done.left_out.items():
        say(f"  {what}: {number:,}")
    if not done.left_out:
        say("  nothing")
