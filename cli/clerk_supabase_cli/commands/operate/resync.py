"""`clerk-supabase resync`: reads a user or organization from Clerk, and applies the answer."""

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
    help="Apply Clerk's answer even if its version is older than the row; at once, not through the queue.",
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
    """Read a user or an organization from Clerk, and apply the answer. Its memberships are read, too.

    Objects missing in Clerk are deleted, except objects with an event in the last five minutes, because the API may
    lag. An object of Clerk's is restored if only a comparison deleted the object; an object deleted by an event stays
    deleted, and a newer event stays newer, also with --force. Each different object is printed, with its repair.

    The secret key comes from CLERK_SECRET_KEY. Exit status 0: all objects are as in Clerk, or sent to the queue. 1: the
    resync failed. 2: the options are wrong. 3: some objects could not be changed or read; the reason is printed.

    \b
    Examples:
      clerk-supabase resync user_2abc
      clerk-supabase resync org_2abc --force
    """
    settings = ReconcileSettings(keep_private_metadata=keep_private_metadata)
    with open_reconcile(database_url, clerk_api_url, named_queues(stack_name, sync_queue_url), settings) as tools:
        report = tools.reconcile.resync(object_id, math.inf, force=force)
    if as_json:
        print_json(report)
    else:
        print_resync(object_id, report)
    exit_for(report)
