"""`clerk-supabase status`: the waiting, parked and stuck events of a deployment."""

from __future__ import annotations

import sys
import time

import click

from clerk_supabase_cli.operate.monitor import status
from clerk_supabase_cli.operate.monitor.outages import Outages
from clerk_supabase_cli.operate.monitor.prometheus import exposition
from clerk_supabase_cli.operate.monitor.report import report
from clerk_supabase_cli.operate.monitor.watch import watch
from clerk_supabase_cli.operate.queues import HOW_TO_NAME_QUEUES
from clerk_supabase_cli.options import (
    NumberRange,
    json_option,
    logs_of,
    named_queues,
    optional_database_url_option,
    queue_options,
    wide_option,
)
from clerk_supabase_cli.printing import print_json, say
from clerk_supabase_cli.terminal import Terminal


@click.command("status")
@click.option("--watch", "watches", is_flag=True, help="Look again and again; in a pipe, print what changes.")
@click.option(
    "--every",
    type=NumberRange(0.5, 3600),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="Pause between two looks of --watch.",
)
@click.option(
    "--prometheus", "as_metrics", is_flag=True, help="Print metrics for Prometheus; the exit status is 0 then."
)
@optional_database_url_option
@queue_options
@wide_option
@json_option
def status_command(
    database_url: str | None,
    *,
    watches: bool,
    every: float,
    as_metrics: bool,
    wide: bool,
    as_json: bool,
    **queues: str | None,
) -> None:
    """Print waiting and parked events, and the ages of comparisons. The lag of events is printed, too.

    Reads the named parts: the database, the queues, or both. An outage of the database is told within seconds, with its
    begin: the first look that failed, of this command or of the commands before, or with a named stack the first
    failure in the logs of its functions. Exit status 0: nothing is stuck. 1: something is stuck, or a named part could
    not be read. 2: nothing was named. With --watch, of the last look before Ctrl-C.

    \b
    Examples:
      clerk-supabase status
      clerk-supabase status --watch
      clerk-supabase status --prometheus
      clerk-supabase status --stack-name clerk-supabase-sync --json
    """
    if not database_url and not any(queues.values()):
        raise click.UsageError(f"Name the database (--database-url), the queues ({HOW_TO_NAME_QUEUES}) or both.")
    if [watches, as_metrics, as_json].count(True) > 1:
        raise click.UsageError("Choose one of --watch, --prometheus and --json.")

    outages = Outages.of(database_url)

    def look() -> status.Status:
        return status.look(
            database_url,
            lambda: named_queues(**queues),
            logs_of(queues["stack_name"]),
            outages,
            compares_objects=not watches,
        )

    console = Terminal(wide=wide)
    if watches:
        looked = watch(look, console, lambda: time.sleep(every))
    else:
        looked = look()
        if as_metrics:
            say(exposition(looked), as_it_is=True)
            return
        if as_json:
            print_json(looked.as_json())
        else:
            console.show(*report(looked))
    if looked.problems:
        sys.exit(1)
