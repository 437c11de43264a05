"""`clerk-supabase resync`: one user or organization, read from Clerk and applied."""

from __future__ import annotations

import math

import click

from clerk_supabase.reconcile.pages import ReconcileSettings
from clerk_supabase_cli.operate.comparing import exit_for, open_reconcile
from clerk_supabase_cli.operate.reconcile_report import (
    print_resync,
)
from clerk_supabase_cli.options import (
    ClerkId,
    clerk_api_url_option,
    database_url_option,
    json_option,
    named_queues,
    private_metadata_option,
    sync_queue_options,
)
from clerk_supabase_cli.printing import print_json


@click.command("resync")
@click.argument("object_id", metavar="ID", type=ClerkId())
@click.option(
    "--force",
    is_flag=True,
    help="Apply what Clerk says even if it calls itself older than the row. At once, not through the queue.",
)
@private_metadata_option
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
    with open_reconcile(database_url, clerk_api_url, named_queues(stack_name, sync_queue_url), settings) as tools:
        report = tools.reconcile.resync(object_id, math.inf, force=force)
    if as_json:
        print_json(report)
    else:
        print_resync(object_id, report)
    exit_for(report)
