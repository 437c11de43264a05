"""`clerk-supabase console`: a page on this machine that shows events as they become rows."""

from __future__ import annotations

import click

from clerk_supabase_cli.options import database_url_option, instance_options, named_queues, queue_options
from clerk_supabase_cli.printing import say


@click.command("console")
@database_url_option
@queue_options
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    help="Port of the page on 127.0.0.1.  [default: a free port]",
)
@click.option(
    "--write",
    "can_write",
    is_flag=True,
    help="Let the page replay and discard parked events, and let its doctor send a test event.",
)
@instance_options
def console_command(
    *,
    database_url: str,
    stack_name: str | None,
    sync_queue_url: str | None,
    dead_letter_queue_url: str | None,
    parked_queue_url: str | None,
    port: int,
    can_write: bool,
    **instance: str,
) -> None:
    """Show a page: is Postgres true to Clerk, how late, what is stuck, what changed. Events appear as they are applied.

    The page answers on 127.0.0.1 only, to a browser that opens the printed address. It shows ids and names of columns;
    the body of a parked event is shown when you ask for it. Without --write, the page changes nothing.

    The doctor of the page reads the same environment variables as `clerk-supabase doctor`.

    \b
    Examples:
      clerk-supabase console
      clerk-supabase console --stack-name clerk-supabase-sync --write
    """
    # The web server would triple the time to start of every other command.
    from clerk_supabase_cli.console.server import Console  # noqa: PLC0415
    from clerk_supabase_cli.console.wanted import Wanted  # noqa: PLC0415
    from clerk_supabase_cli.doctor.patient import Named  # noqa: PLC0415

    wanted = Wanted(
        named=Named.with_secrets(stack_name=stack_name or "", database_url=database_url, **instance),
        queues=lambda: named_queues(stack_name, sync_queue_url, dead_letter_queue_url, parked_queue_url),
        has_queues=bool(stack_name or sync_queue_url),
        port=port,
        can_write=can_write,
    )
    console = Console(wanted)
    say(f"console  {console.address}")
    say(f"         {'may replay and discard' if can_write else 'read-only'}; Ctrl-C ends it")
    console.serve()
