"""`clerk-supabase explain`: the timeline of a Clerk id."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial

import click

from clerk_supabase_cli.operate.database import DatabaseUnreachable, why_unreachable
from clerk_supabase_cli.operate.monitor.explain import (
    Entity,
    Moment,
    UnknownId,
    is_event,
    object_of_event,
    report,
    report_queued,
    timeline,
)
from clerk_supabase_cli.operate.monitor.function_logs import FunctionLogs
from clerk_supabase_cli.operate.monitor.outages import Outages, in_words
from clerk_supabase_cli.operate.monitor.queued import InQueues, look_for
from clerk_supabase_cli.operate.queues import AwsUnreachable
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
    """Print the timeline of a Clerk id. The lines are arrived events, their outcomes, and changes of rows. The id of
    an event (msg_...) stands for its object.

    With a named stack, events that wait in its queues are listed last: the log of ingest names them. While the
    database is unavailable, only these are printed, and the exit status is 1.

    \b
    Examples:
      clerk-supabase explain user_2abc
      clerk-supabase explain org_2abc --json
    """
    logs = logs_of(queues["stack_name"])
    outages, asked_at = Outages.of(database_url), datetime.now(UTC)
    unreachable = why_unreachable(database_url)
    readable_url = None if unreachable else database_url
    event, clerk_id = clerk_id, _object_of(clerk_id, readable_url, logs)
    show = _print_json if as_json else partial(_print, "" if event == clerk_id else event)
    queued = look_for(clerk_id, lambda: named_queues(**queues), logs, readable_url)
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


def _object_of(typed: str, database_url: str | None, logs: FunctionLogs | None) -> str:
    """The id of the object, also for the id of one of its events. *database_url*: None while the database is out."""
    if not is_event(typed):
        return typed
    found = object_of_event(database_url, typed) if database_url else None
    if found is None and logs is not None:
        with suppress(AwsUnreachable):
            found = logs.object_of(typed)
    return found or typed


def _print(
    event: str, clerk_id: str, objects: Sequence[Entity], moments: Sequence[Moment], queued: InQueues, *, wide: bool
) -> None:
    if event:
        what = "a repair" if event.startswith("reconcile-") else "an event"
        say(printable(f"{event} is {what} of {clerk_id}"))
    for line in (*report(clerk_id, objects, moments), *report_queued(queued.events)):
        Terminal(wide=wide).say(line, indent=4)
    if queued.not_looked_at:
        say(printable(str(queued)), err=True)


def _print_json(
    clerk_id: str, objects: Sequence[Entity], moments: Sequence[Moment], queued: InQueues, *, wide: bool
) -> None:
    del wide
    print_json({"id": clerk_id, "objects": objects, "timeline": moments, "in_queues": queued})
