"""`clerk-supabase adopt`: the way in for an app with users and tables of its own, step by step."""

from __future__ import annotations

import click

from clerk_supabase_cli.found_commands import FoundCommands


@click.group("adopt", cls=FoundCommands, packages={"Steps": "clerk_supabase_cli.commands.adopt"})
def adopt_command() -> None:
    """Connect tables of an app that exists with the mirror: inspect, compare, link, switch, undo."""
