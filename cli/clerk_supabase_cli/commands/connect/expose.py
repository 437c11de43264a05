"""`clerk-supabase expose`: views of the mirror, and the functions of policies, in a schema of the app."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import click

from clerk_supabase_cli.failure import Failure
from clerk_supabase_cli.operate.database import open_database
from clerk_supabase_cli.operate.install.exposure import Exposed, expose, unexpose
from clerk_supabase_cli.operate.locking import in_turns
from clerk_supabase_cli.options import database_url_option, json_option
from clerk_supabase_cli.printing import print_json, printable, say

_LOCK_SECONDS: Final = 2.0
_WOULD: Final = {"made": "would make", "corrected": "would correct", "removed": "would remove"}


class StillNeeded(Failure):
    """Objects of the app need some of the views or functions."""


@click.command("expose")
@click.option("--schema", metavar="NAME", help="Schema of the app.  [default: public; with --remove: all schemas]")
@click.option("--remove", is_flag=True, help="Remove exactly the views and functions that this command made.")
@click.option("--dry-run", is_flag=True, help="Only print what would be made or removed.")
@database_url_option
@json_option
def expose_command(*, schema: str | None, remove: bool, dry_run: bool, database_url: str, as_json: bool) -> None:
    """Make views of the mirror's tables in a schema of the app. Clients then need no `.schema('clerk')`.

    A view has the rights of its caller, so the policies of the table hold. The functions of policies, such as
    requesting_user_id(), and the relationships for embedding come with the views. A name of the app is left alone, and
    so is a view that the app replaced. Safe to run again: after an update, this command adds new columns.

    --remove never drops anything that needs a view or function: it names these objects, and exits with 1.

    \b
    Examples:
      clerk-supabase expose
      clerk-supabase expose --remove
    """
    with open_database(database_url) as connection:

        def act() -> Sequence[Exposed]:
            return unexpose(connection, schema) if remove else expose(connection, schema or "public")

        done = in_turns(
            connection,
            database_url,
            act,
            lock_seconds=_LOCK_SECONDS,
            is_trial=dry_run,
            report=lambda words: say(words, err=True),
        )
    if as_json:
        print_json({"dry_run": dry_run, "objects": [each.as_json() for each in done]})
    else:
        _print(done, is_trial=dry_run)
    if remove and (left := [each for each in done if each.outcome == "left"]):
        raise StillNeeded(
            f"{len(left)} could not be removed: change the objects that need them, then run this command again"
        )


def _print(done: Sequence[Exposed], *, is_trial: bool) -> None:
    for each in done:
        outcome = _WOULD.get(each.outcome, each.outcome) if is_trial else each.outcome
        reason = f": {each.reason}" if each.reason else ""
        say(printable(f"{outcome} {each.kind} {each.name}{reason}"))
    if not done:
        say("nothing was exposed")
