"""`clerk-supabase explain`: the timeline of a Clerk id."""

from __future__ import annotations

import click

from clerk_supabase_cli.operate.explain import show
from clerk_supabase_cli.options import database_url_option
from clerk_supabase_cli.terminal import Terminal


@click.command("explain")
@click.argument("clerk_id")
@database_url_option
def explain_command(clerk_id: str, database_url: str) -> None:
    """Print the timeline of a Clerk id. The lines are arrived events, their outcomes, and changes of rows.

    \b
    Example:
      clerk-supabase explain user_2abc
    """
    show(database_url, clerk_id, Terminal())
