"""`clerk-supabase explain`: the timeline of a Clerk id."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import click

from clerk_supabase_cli.operate.database import DatabaseUnreachable, why_unreachable
from clerk_supabase_cli.operate.monitor.explain import Entity, Moment, UnknownId, report, report_queued, timeline
from clerk_supabase_cli.operate.monitor.outages import Outages, in_words
from clerk_supabase_cli.operate.monitor.queued import InQueues, look_for
from clerk_supabase_cli.options import (
    database_url_option,
    json_option,
    logs_of,
    named_queues,
    queue_options,
    wide_option,
)
from clerk_supabase_cli.printing import print_json, printable, say
from clerk_supabase_cli.terminal import Terminal


@click.command("explain")
@click.argument("clerk_id")
@database_url_option
@queue_options
@wide_option
@json_option
def explain_command(clerk_id: str, database_url: str, *, wide: bool, as_json: bool, **queues: str | None) -> None:
    """Print the timeline of a Clerk id. The lines are arrived events, their outcomes, and changes of rows.

    With a named stack, events that wait in its queues are listed last: the log of ingest names them. While the
    database is unavailable, only these are printed, and the exit status is 1.

    \b
    Examples:
      clerk-supabase explain user_2abc
      clerk-supabase explain org_2abc --json
    """
    show = _print_json if as_json else _print
    outages, asked_at = Outages.of(database_url), datetime.now(UTC)
    unreachable = why_unreachable(database_url)
    queued = look_for(
        clerk_id, lambda: named_queues(**queues), logs_of(queues["stack_name"]), None if unreachable else database_url
    )
    if unreachable:
        if queued.events or as_json:
            show(clerk_id, [], [], queued, wide=wide)
        if not unreachable.is_outage:
            raise unreachable
        raise DatabaseUnreachable(in_words(outages.failed(asked_at, str(unreachable)), queued.total))
    outages.answered(asked_at)
    try:
        objects, moments = timeline(database_url, clerk_id)
    except UnknownId as error:
        if not queued.events:
            raise UnknownId(f"{error} ({queued})") from None
        objects, moments = [], []
    show(clerk_id, objects, moments, queued, wide=wide)


def _print(
    clerk_id: str, objects: Sequence[Entity], moments: Sequence[Moment], queued: InQueues, *, wide: bool
) -> None:
    for line in (*report(clerk_id, objects, moments), *report_queued(queued.events)):
        Terminal(wide=wide).say(line, indent=4)
    if queued.not_looked_at:
        say(printable(str(queued)), err=True)


def _print_json(
    _clerk_id: str, objects: Sequence[Entity], moments: Sequence[Moment], queued: InQueues, *, wide: bool
) -> None:
    del wide
    print_json({"objects": objects, "timeline": moments, "in_queues": queued})
