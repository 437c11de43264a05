"""`clerk-supabase undo`: restores the objects deleted by a comparison."""

from __future__ import annotations

import click

from clerk_supabase_cli.operate.comparing import details_of, open_runs
from clerk_supabase_cli.options import (
    database_url_option,
    json_option,
)
from clerk_supabase_cli.printing import print_json, printable, say


@click.command("undo")
@click.argument("run_id", metavar="RUN", type=int)
@database_url_option
@json_option
def undo_command(run_id: int, database_url: str, as_json: bool) -> None:
    """Restore the objects that one comparison alone deleted.

    An object that an event or another comparison deleted, too, stays deleted. Deletes of this comparison that still
    wait in a queue are never applied. The next comparison finds the same objects again if Clerk still lacks them; so
    let no comparison run until Clerk has them again.

    \b
    Example:
      clerk-supabase undo 42
    """
    with open_runs(database_url) as runs:
        details_of(runs, run_id)
        undone = runs.undo(run_id)
    if as_json:
        restored = [{"kind": kind, "id": each} for kind, each in undone.restored]
        print_json({"run_id": run_id, "restored": restored, "waiting": undone.waiting})
        return
    for kind, each in undone.restored:
        say(printable(f"{kind} {each}"))
    say(f"{len(undone.restored)} restored")
    if undone.waiting:
        say(f"deletes of this run that were not applied yet, and never will be: {undone.waiting}")
