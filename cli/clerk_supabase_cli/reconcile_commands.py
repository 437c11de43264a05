"""`clerk-supabase reconcile`, `resync` and `undo`: Clerk against Postgres, started by a person."""

from __future__ import annotations

import logging
import math
import os
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Final

import click
from click.core import ParameterSource

from clerk_supabase.clerk_http import ClerkHttp
from clerk_supabase.connection_string import parse, with_parameter
from clerk_supabase.queue import Queue
from clerk_supabase.reconcile import Reconcile, Request
from clerk_supabase.reconcile_pages import ReconcileSettings
from clerk_supabase.repairs import DirectRepairs, QueueRepairs
from clerk_supabase.run_report import Report
from clerk_supabase.runs import Mode, Reset, RunDetails, Runs
from clerk_supabase.store import Store
from clerk_supabase.telemetry import logger
from clerk_supabase_cli.failure import Failure
from clerk_supabase_cli.options import (
    DATABASE_URL,
    ClerkId,
    clerk_api_url_option,
    database_url_option,
    json_option,
    named_queues,
    optional_database_url_option,
    sync_queue_options,
)
from clerk_supabase_cli.printing import StandardError, print_json, printable, say
from clerk_supabase_cli.queues import client
from clerk_supabase_cli.reconcile_report import (
    DIFFERENCES,
    ON_A_PAGE,
    findings_table,
    print_report,
    print_resync,
    print_run,
    progress_bar,
    runs_table,
)
from clerk_supabase_cli.terminal import Terminal

_KEY_VARIABLE: Final = "CLERK_SECRET_KEY"
# More are counted by the run, and not worth a table.
_MOST_GROUPED: Final = 100_000
# As long as the role of the worker waits. The owner's role has no limit, and the app may keep a lock for hours.
_LOCK_SECONDS: Final = 5.0
_NOT_COMPLETE: Final = 3


_private_metadata_option = click.option(
    "--keep-private-metadata",
    is_flag=True,
    envvar="KEEP_PRIVATE_METADATA",
    help="For a stack with KeepPrivateMetadata.  [env: KEEP_PRIVATE_METADATA]",
)


class NoSuchRun(Failure):
    """No comparison has this number."""


@click.group("reconcile", invoke_without_command=True)
@click.option("--full", "mode", flag_value="full", help="Every object that Clerk lists.  [default]")
@click.option("--quick", "mode", flag_value="quick", help="What changed or is new, counts, and a slice of the rest.")
@click.option("--dry-run", is_flag=True, help="Only look: nothing is repaired and nothing deleted.")
@click.option(
    "--versions-only", is_flag=True, help="Do not compare columns, which finds no edits by hand, but is faster."
)
@click.option(
    "--allow-deletes",
    type=click.IntRange(min=0),
    metavar="N",
    help="Delete up to N rows of a kind, instead of what the brake allows; each is confirmed by Clerk all the same.",
)
@click.option(
    "--delete-margin",
    type=click.IntRange(0, 3600),
    default=ReconcileSettings().delete_margin_ms // 1000,
    show_default=True,
    metavar="SECONDS",
    help="Delete nothing younger, and only what Clerk says twice, so far apart, to be gone; 0: both times in this run.",
)
@click.option(
    "--allow-emptied",
    type=click.IntRange(min=0),
    metavar="N",
    help="Let a column lose its value in up to N rows of a kind, instead of what the brake allows.",
)
@_private_metadata_option
@sync_queue_options
@clerk_api_url_option
@optional_database_url_option
@json_option
@click.pass_context
def reconcile_commands(  # noqa: PLR0917 - click passes them by name
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
    as_json: bool,
) -> None:
    """Compare Clerk with Postgres, and repair what differs.

    Reads Clerk's Backend API with the secret key in CLERK_SECRET_KEY, which is taken from nowhere else. Repairs go
    through the sync queue, if it is named, else they are applied at once. Goes on with a run that was cut off.

    Exit status 0: the run is complete. 1: it failed. 2: it was asked for wrongly. 3: not all could be compared, the
    brake was pulled, or another process is at work; the reason is printed.
    """
    if context.invoked_subcommand is not None:
        _refuse_options_before(context)
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
    with _reconcile(database_url, clerk_api_url, stack_name, sync_queue_url, settings) as tools:
        began = time.monotonic()
        with progress_bar(quiet=as_json) as progress:
            report = tools.reconcile.run(request, math.inf, progress)
        assert report.run_id is not None  # noqa: S101 - run() always begins one; only resync() does not
        details = _details(tools.runs, report.run_id)
        print_report(report, details, time.monotonic() - began, as_json=as_json)
    _exit_for(report)


@reconcile_commands.command("runs")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="How many at most.")
@json_option
@database_url_option
def runs_command(limit: int, database_url: str, as_json: bool) -> None:
    """List what was compared, newest first."""
    with _runs(database_url) as runs:
        found = runs.list(limit)
    if as_json:
        print_json({"runs": found})
    elif found:
        Terminal().print(runs_table(found))
    else:
        say("nothing was compared yet; start with: clerk-supabase reconcile")


@reconcile_commands.command("show")
@click.argument("run_id", metavar="RUN", type=int)
@click.option("--difference", type=click.Choice(DIFFERENCES), help="Only objects that differed like this.")
@click.option("--limit", type=click.IntRange(min=1), help=f"How many objects; default {ON_A_PAGE}, with --json all.")
@json_option
@database_url_option
def show_command(run_id: int, difference: str | None, limit: int | None, database_url: str, as_json: bool) -> None:
    """Show one comparison: how it went, and every object that differed, with the likely cause."""
    with _runs(database_url) as runs:
        details = _details(runs, run_id)
    found = [each for each in details.findings if difference in (None, each.difference)]
    if as_json:
        print_json({"run": details.run, "windows": details.windows, "findings": found[:limit]})
        return
    print_run(details.run)
    shown = found[: limit or ON_A_PAGE]
    if shown:
        Terminal().print(findings_table(shown))
    if len(shown) < len(found):
        say(f"{len(found)} differed, {len(shown)} of them shown; --limit shows more")


@reconcile_commands.command("reset")
@click.option(
    "--instance", is_flag=True, help="Forget which Clerk instance is mirrored, too: the next run records its own."
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@database_url_option
def reset_command(*, instance: bool, yes: bool, as_json: bool, database_url: str) -> None:
    """End runs that are at work, and let the next one compare everything, as after a leaked password.

    Runs lose their lease, and nothing goes on from what earlier ones say was compared. What they found is kept.
    """
    with _runs(database_url) as runs:
        found = runs.reset(instance=instance, dry_run=True)
        if not yes:
            say(_reset_said(found, "would be"), err=True)
            click.confirm("Reset the runs?", abort=True, err=True)
        found = runs.reset(instance=instance, dry_run=False)
    if as_json:
        print_json({"running": found.running, "trusted": found.trusted, "instance_id": found.instance_id})
    else:
        say(_reset_said(found, "is"))


@click.command("resync")
@click.argument("object_id", metavar="ID", type=ClerkId())
@click.option(
    "--force",
    is_flag=True,
    help="Apply what Clerk says even if it calls itself older than the row. At once, not through the queue.",
)
@_private_metadata_option
@sync_queue_options
@clerk_api_url_option
@database_url_option
@json_option
def resync_command(  # noqa: PLR0917 - click passes them by name
    object_id: str,
    force: bool,
    keep_private_metadata: bool,
    stack_name: str | None,
    sync_queue_url: str | None,
    clerk_api_url: str,
    database_url: str,
    as_json: bool,
) -> None:
    """Read one user (user_...) or organization (org_...) and its memberships from Clerk, and apply them.

    What Clerk says is gone is deleted, unless an event told of it in the last five minutes: the API may lag. What only
    a comparison had deleted is restored when Clerk has it; what an event of Clerk's deleted stays so, and a newer event
    stays newer, also with --force. Each object that was not as in Clerk is printed, with what was done about it.

    The secret key is taken as for `reconcile`. Exit status 0: all is as in Clerk, or sent to the queue. 1: it failed.
    2: it was asked for wrongly. 3: not all could be changed or read; the reason is printed.
    """
    settings = ReconcileSettings(keep_private_metadata=keep_private_metadata)
    with _reconcile(database_url, clerk_api_url, stack_name, sync_queue_url, settings) as tools:
        report = tools.reconcile.resync(object_id, math.inf, force=force)
    if as_json:
        print_json(report)
    else:
        print_resync(object_id, report)
    _exit_for(report)


@click.command("undo")
@click.argument("run_id", metavar="RUN", type=int)
@database_url_option
@json_option
def undo_command(run_id: int, database_url: str, as_json: bool) -> None:
    """Restore what one comparison alone deleted.

    What an event or another comparison deleted, too, stays deleted. Deletes of the comparison that are still on their
    way are not applied when they arrive. What is gone in Clerk is found again by the next comparison; so let none run
    until Clerk has it again.
    """
    with _runs(database_url) as runs:
        _details(runs, run_id)
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


# What is worked with


class _DatabaseUrl:
    """The owner's connection string: TLS if the server has it, unless the string says more."""

    source = DATABASE_URL

    def __init__(self, url: str) -> None:
        says_how = "sslmode" in parse(url, self.source).parameters
        self._value = url if says_how else with_parameter(url, "sslmode", "prefer")

    def value(self) -> str:
        return self._value

    def changed(self) -> bool:
        return False


class _SecretKey:
    """The key in the environment."""

    def __init__(self) -> None:
        self._value = os.environ.get(_KEY_VARIABLE, "")
        if not self._value:
            raise click.UsageError(
                f"Put the secret key of Clerk's Backend API (sk_live_... or sk_test_...) into {_KEY_VARIABLE}. "
                "It is no option, because options can be read by everybody on this machine."
            )

    def value(self) -> str:
        return self._value

    def changed(self) -> bool:
        return False


@dataclass(frozen=True, slots=True)
class _Tools:
    reconcile: Reconcile
    runs: Runs


@contextmanager
def _runs(database_url: str) -> Iterator[Runs]:
    with closing(Store(_DatabaseUrl(database_url), lock_seconds=_LOCK_SECONDS)) as store:
        yield Runs(store)


@contextmanager
def _reconcile(
    database_url: str,
    clerk_api_url: str,
    stack_name: str | None,
    sync_queue_url: str | None,
    settings: ReconcileSettings,
) -> Iterator[_Tools]:
    try:
        http = ClerkHttp(_SecretKey(), clerk_api_url)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    queues = named_queues(stack_name, sync_queue_url)
    url = queues.urls.get("sync") if queues else None
    repairs = (
        QueueRepairs(Queue(client("sqs"), url), keep_private_metadata=settings.keep_private_metadata)
        if url
        else DirectRepairs(keep_private_metadata=settings.keep_private_metadata)
    )
    with closing(http), _runs(database_url) as runs, _log_on_stderr():
        yield _Tools(Reconcile(http, runs, repairs, settings), runs)


@contextmanager
def _log_on_stderr() -> Iterator[None]:
    """Warnings only: what the functions log for CloudWatch would be in the way of what is printed."""
    handler, level = logger.registered_handler, logger.log_level
    before = handler.setStream(StandardError()) if isinstance(handler, logging.StreamHandler) else None
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
        if isinstance(handler, logging.StreamHandler) and before is not None:
            handler.setStream(before)


def _details(runs: Runs, run_id: int) -> RunDetails:
    details = runs.show(run_id, limit=_MOST_GROUPED)
    if details is None:
        raise NoSuchRun(f"there is no run {run_id}; try: clerk-supabase reconcile runs")
    return details


def _reset_said(found: Reset, verb: str) -> str:
    """Describe what a reset does, or did."""
    ended = ", ".join(map(str, found.running)) or "none"
    lines = [f"runs at work, ended: {ended}", f"finished runs that the next one does not build on: {found.trusted}"]
    if found.instance_id is not None:
        lines.append(f"Clerk instance that {verb} forgotten: {found.instance_id}")
    return "\n".join(map(printable, lines))


def _refuse_options_before(context: click.Context) -> None:
    """Options of a comparison, before the name of a command that compares nothing, were meant for something else."""
    given = [
        each.opts[0]
        for each in context.command.params
        if each.name and context.get_parameter_source(each.name) is ParameterSource.COMMANDLINE
    ]
    if given:
        raise click.UsageError(f"{', '.join(given)}: put options after `{context.invoked_subcommand}`.")


def _exit_for(report: Report) -> None:
    if report.state == "failed":
        sys.exit(1)
    if report.state != "complete":
        sys.exit(_NOT_COMPLETE)
