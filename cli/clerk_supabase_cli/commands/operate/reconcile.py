"""`clerk-supabase reconcile`: a comparison of Clerk with Postgres, started by a person."""

from __future__ import annotations

import math
import time

import click
from click.core import ParameterSource

from clerk_supabase.postgres.connection_string import parse
from clerk_supabase.reconcile.pages import ReconcileSettings
from clerk_supabase.reconcile.records import Reset
from clerk_supabase.reconcile.request import Mode, Request
from clerk_supabase_cli.operate.comparing import details_of, exit_for, open_reconcile, open_runs
from clerk_supabase_cli.operate.database import DATABASE_URL
from clerk_supabase_cli.operate.reconcile_report import (
    NAMED,
    ON_A_PAGE,
    findings_list,
    print_report,
    print_run,
    progress_bar,
    runs_list,
)
from clerk_supabase_cli.options import (
    clerk_api_url_option,
    database_url_option,
    json_option,
    named_queues,
    optional_database_url_option,
    private_metadata_option,
    sync_queue_options,
    wide_option,
)
from clerk_supabase_cli.printing import print_json, printable, say
from clerk_supabase_cli.terminal import Terminal


@click.group("reconcile", invoke_without_command=True)
@click.option("--full", "mode", flag_value="full", help="Compare every object in Clerk's lists.  [default]")
@click.option(
    "--quick", "mode", flag_value="quick", help="Compare changed and new objects, counts, and a slice of the rest."
)
@click.option("--dry-run", is_flag=True, help="Only compare: repair and delete nothing.")
@click.option("--versions-only", is_flag=True, help="Do not compare columns: faster, but finds no edits by hand.")
@click.option(
    "--allow-deletes",
    type=click.IntRange(min=0),
    metavar="N",
    help="Delete up to N rows of a kind, instead of the brake's limit; Clerk must still confirm each delete.",
)
@click.option(
    "--delete-margin",
    type=click.IntRange(0, 3600),
    default=ReconcileSettings().delete_margin_ms // 1000,
    show_default=True,
    metavar="SECONDS",
    help="Least age of a row to delete, and least time between the two proofs of a delete; 0: both in this run.",
)
@click.option(
    "--allow-emptied",
    type=click.IntRange(min=0),
    metavar="N",
    help="Let a column lose its value in up to N rows of a kind, instead of the brake's limit.",
)
@private_metadata_option
@sync_queue_options
@clerk_api_url_option
@optional_database_url_option
@wide_option
@json_option
@click.pass_context
def reconcile_command(  # noqa: PLR0917 - click passes them by name
    context: click.Context,
    mode: Mode | None,
    dry_run: bool,
    versions_only: bool,
    allow_deletes: int | None,
    delete_margin: int,
    allow_emptied: int | None,
    keep_private_metadata: bool,
    stack_name: str | None,
    sync_queue_url: str | None,
    clerk_api_url: str,
    database_url: str | None,
    wide: bool,
    as_json: bool,
) -> None:
    """Compare Clerk with Postgres, and repair the differences.

    Reads Clerk's Backend API with the secret key in CLERK_SECRET_KEY; there is no option for the key. Repairs go
    through the sync queue, if you name the queue; otherwise the command applies them at once. Continues a run that was
    cut off.

    Exit status 0: the run is complete. 1: the run failed. 2: the options are wrong. 3: some objects could not be
    compared, the brake stopped the run, or another run is at work; the reason is printed.

    \b
    Examples:
      clerk-supabase reconcile --dry-run
      clerk-supabase reconcile --quick
    """
    if context.invoked_subcommand is not None:
        _reject_options_before(context)
        return
    if not database_url:
        raise click.UsageError("Say where the database is: --database-url, or DATABASE_URL.")
    parse(database_url, DATABASE_URL)
    request = Request(
        mode or "full",
        dry_run=dry_run,
        versions_only=versions_only,
        allow_deletes=allow_deletes,
        allow_emptied=allow_emptied,
    )
    settings = ReconcileSettings(keep_private_metadata=keep_private_metadata, delete_margin_ms=delete_margin * 1000)
    with open_reconcile(database_url, clerk_api_url, named_queues(stack_name, sync_queue_url), settings) as tools:
        began = time.monotonic()
        with progress_bar(quiet=as_json) as progress:
            report = tools.reconcile.run(request, math.inf, progress)
        assert report.run_id is not None  # noqa: S101 - run() always begins one; only resync() does not
        details = details_of(tools.runs, report.run_id)
        print_report(report, details, time.monotonic() - began, as_json=as_json, console=Terminal(wide=wide))
    exit_for(report)


@reconcile_command.command("runs")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="Largest number of runs.")
@wide_option
@json_option
@database_url_option
def runs_command(limit: int, database_url: str, *, wide: bool, as_json: bool) -> None:
    """List the comparisons, newest first.

    \b
    Example:
      clerk-supabase reconcile runs
    """
    with open_runs(database_url) as runs:
        found = runs.list(limit)
    if as_json:
        print_json({"runs": found})
    elif found:
        Terminal(wide=wide).show(runs_list(found))
    else:
        say("nothing was compared yet; start with: clerk-supabase reconcile")


@reconcile_command.command("show")
@click.argument("run_id", metavar="RUN", type=int)
@click.option("--difference", type=click.Choice(NAMED), help="Only objects with this difference.")
@click.option(
    "--limit", type=click.IntRange(min=1), help=f"Largest number of objects; by default {ON_A_PAGE}, with --json all."
)
@wide_option
@json_option
@database_url_option
def show_command(
    run_id: int, difference: str | None, limit: int | None, database_url: str, *, wide: bool, as_json: bool
) -> None:
    """Show a comparison: its result, and every different object. Each object has its likely cause.

    \b
    Example:
      clerk-supabase reconcile show 42
    """
    with open_runs(database_url) as runs:
        details = details_of(runs, run_id)
    found = [each for each in details.findings if difference in (None, each.difference)]
    if as_json:
        print_json({"run": details.run, "windows": details.windows, "findings": found[:limit]})
        return
    console = Terminal(wide=wide)
    print_run(details.run, console)
    shown = found[: limit or ON_A_PAGE]
    if shown:
        console.show(findings_list(shown))
    if len(shown) < len(found):
        say(f"{len(found)} differed, {len(shown)} of them shown; --limit shows more")


@reconcile_command.command("reset")
@click.option("--instance", is_flag=True, help="Forget the mirrored Clerk instance, too: the next run records its own.")
@click.option("--yes", is_flag=True, help="Do not ask for a confirmation.")
@json_option
@database_url_option
def reset_command(*, instance: bool, yes: bool, as_json: bool, database_url: str) -> None:
    """End the runs at work, and let the next run compare everything. A leaked password is such a case.

    Runs lose their lease, and no run continues from the results of earlier runs. Their findings are kept.

    \b
    Example:
      clerk-supabase reconcile reset
    """
    with open_runs(database_url) as runs:
        found = runs.reset(instance=instance, dry_run=True)
        if not yes:
            say(_reset_said(found, "would be"), err=True)
            click.confirm("Reset the runs?", abort=True, err=True)
        found = runs.reset(instance=instance, dry_run=False)
    if as_json:
        print_json({"running": found.running, "trusted": found.trusted, "instance_id": found.instance_id})
    else:
        say(_reset_said(found, "is"))


def _reset_said(found: Reset, verb: str) -> str:
    """Describes the effect of a reset, before or after the reset."""
    ended = ", ".join(map(str, found.running)) or "none"
    lines = [f"runs at work, ended: {ended}", f"finished runs that the next one does not build on: {found.trusted}"]
    if found.instance_id is not None:
        lines.append(f"Clerk instance that {verb} forgotten: {found.instance_id}")
    return "\n".join(map(printable, lines))


def _reject_options_before(context: click.Context) -> None:
    """Raises UsageError for options of a comparison before the name of a subcommand, which compares nothing."""
    given = [
        each.opts[0]
        for each in context.command.params
        if each.name and context.get_parameter_source(each.name) is ParameterSource.COMMANDLINE
    ]
    if given:
        raise click.UsageError(f"{', '.join(given)}: put options after `{context.invoked_subcommand}`.")
