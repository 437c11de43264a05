"""`clerk-supabase adopt supabase-auth`: the way from Supabase Auth to Clerk, step by step."""

from __future__ import annotations

import click

from clerk_supabase_cli.found_commands import FoundCommands


@click.group(
    "supabase-auth",
    cls=FoundCommands,
    packages={"Steps": "clerk_supabase_cli.commands.adopt_supabase_auth"},
    order=("inspect", "export", "link", "move"),
)
def supabase_auth_command() -> None:
    """Move users and tables from Supabase Auth to Clerk: inspect, export, link, move.

    \b
    Examples:
      clerk-supabase adopt supabase-auth inspect
      clerk-supabase adopt supabase-auth export ../export
    """
