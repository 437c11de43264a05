"""`clerk-supabase retention`: the shortest times for which the database keeps records."""

from __future__ import annotations

from typing import Final

import click

from clerk_supabase_cli.operate.database import open_database
from clerk_supabase_cli.operate.retention import PARAMETERS, allow, allowed
from clerk_supabase_cli.options import database_url_option, json_option
from clerk_supabase_cli.printing import print_json, say

_DAYS: Final = click.IntRange(0, 36_500)


@click.command("retention")
@click.option("--hold-back-days", type=_DAYS, help="Days between the delete in Clerk and the purge of a row, at least.")
@click.option(
    "--purge-by",
    type=click.Choice(["scrub", "delete"]),
    help="delete: the stack may delete rows of users, and your foreign keys cascade; scrub: the stack may not.",
)
@click.option("--deliveries-days", type=_DAYS, help="Days for the records of webhooks, at least.")
@click.option("--audit-days", type=_DAYS, help="Days for the audit log, at least.")
@click.option("--runs-days", type=_DAYS, help="Days for the runs of reconcile and their findings, at least.")
@click.option("--sessions-days", type=_DAYS, help="Days for sessions, from their end, at least.")
@database_url_option
@json_option
def retention_command(
    *,
    hold_back_days: int | None,
    purge_by: str | None,
    deliveries_days: int | None,
    audit_days: int | None,
    runs_days: int | None,
    sessions_days: int | None,
    database_url: str,
    as_json: bool,
) -> None:
    """Show or change the shortest times that records are kept.

    The parameters of the stack may ask for a longer time. A shorter time has no effect, because a thief of sync's
    password could ask for any time.

    \b
    Examples:
      clerk-supabase retention
      clerk-supabase retention --hold-back-days 7 --purge-by delete
    """
    given: dict[str, int | str | None] = {
        "hold_back_days": hold_back_days,
        "purge_by": purge_by,
        "deliveries_days": deliveries_days,
        "audit_days": audit_days,
        "runs_days": runs_days,
        "sessions_days": sessions_days,
    }
    changes = {name: value for name, value in given.items() if value is not None}
    with open_database(database_url) as connection:
        values = allow(connection, changes) if changes else allowed(connection)
    if as_json:
        print_json(values)
        return
    for name, value in values.items():
        say(f"{name.replace('_', '-'):<16} {value!s:>6}   {PARAMETERS.get(name, '')}".rstrip())
