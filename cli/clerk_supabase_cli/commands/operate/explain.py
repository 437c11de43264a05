"""`clerk-supabase explain`: the timeline of a Clerk id."""

from __future__ import annotations

import click

from clerk_supabase_cli.operate.explain import show, timeline
from clerk_supabase_cli.options import database_url_option, json_option
from clerk_supabase_cli.printing import print_json
from clerk_supabase_cli.terminal import Terminal


@click.command("explain")
@click.argument("clerk_id")
@database_url_option
@json_option
def explain_command(clerk_id: str, database_url: str, *, as_json: bool) -> None:
    """Print the timeline of a Clerk id. The lines are arrived events, their outcomes, and changes of rows.

    \b
    Examples:
      clerk-supabase explain user_2abc
      clerk-supabase explain org_2abc --json
    """
    if as_json:
        objects, moments = timeline(database_url, clerk_id)
        print_json({"objects": objects, "timeline": moments})
    else:
        show(database_url, clerk_id, Terminal())
