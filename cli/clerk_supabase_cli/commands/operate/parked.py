"""`clerk-supabase parked`: events that could not be applied, for a person to read, send again or discard."""

from __future__ import annotations

import base64
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, TypeVar

import click
from rich.progress import Progress

from clerk_supabase.aws.queue import Queue
from clerk_supabase.model.envelope import REASON_CLASSES
from clerk_supabase_cli.operate.database import open_database
from clerk_supabase_cli.operate.parked import (
    OPEN_STATES,
    STATES,
    ParkedEvent,
    Selection,
    State,
    body_as_text,
    check_discardable,
    check_replayable,
    count,
    discard,
    find,
    read,
    replay,
)
from clerk_supabase_cli.operate.queues import HOW_TO_NAME_QUEUES, AwsUnreachable, Queues, client
from clerk_supabase_cli.operator_name import operator_name
from clerk_supabase_cli.options import (
    Moment,
    database_url_option,
    json_option,
    named_queues,
    queue_options,
    wide_option,
)
from clerk_supabase_cli.printing import counted, in_utc, print_json, printable, say
from clerk_supabase_cli.terminal import Listing, Terminal

Command = TypeVar("Command", bound=Callable[..., Any])

_LISTED_STATES: dict[str, tuple[State, ...]] = {
    "open": OPEN_STATES,
    **{state: (state,) for state in STATES},
    "all": STATES,
}
_ON_A_PAGE = 100


@click.group("parked")
def parked_command() -> None:
    """List, show, replay or discard events that could not be applied.

    \b
    Examples:
      clerk-supabase parked list
      clerk-supabase parked replay --all
    """


def _filter_options(command: Command) -> Command:
    for option in (
        click.option("--before", type=Moment(), help="Parked before that time; see --since."),
        click.option("--since", type=Moment(), help="Parked at or after 2026-01-31T12:00 (UTC), or within 2h, 3d."),
        click.option("--entity", "entity_id", help="Clerk id of the event's object, such as user_..."),
        click.option("--reason", help="Part of the reason."),
        click.option("--class", "reason_class", type=click.Choice(REASON_CLASSES), help="Class of the reason."),
        click.option("--type", "event_type", help="Clerk's type, such as user.updated; * stands for anything."),
    ):
        command = option(command)
    return command


@parked_command.command("list")
@_filter_options
@click.option("--scrubbed", is_flag=True, help="Only events without a body.")
@click.option(
    "--state",
    type=click.Choice(list(_LISTED_STATES)),
    default="open",
    show_default=True,
    help="open: parked, or replayed without a result yet; settled: applied after all.",
)
@click.option(
    "--limit", type=click.IntRange(min=1), help=f"Largest number of events; by default {_ON_A_PAGE}, with --json all."
)
@wide_option
@json_option
@database_url_option
@queue_options
def list_command(
    database_url: str, *, wide: bool, as_json: bool, limit: int | None, state: str, scrubbed: bool, **options: Any
) -> None:
    """List parked events, last parked first.

    \b
    Examples:
      clerk-supabase parked list
      clerk-supabase parked list --type user.updated --since 2h
    """
    queues, filters = _split(options)
    selection = Selection(**filters, has_body=False if scrubbed else None, states=_LISTED_STATES[state])
    with open_database(database_url) as connection:
        total = count(connection, selection)
        events = find(connection, selection, limit=limit or (None if as_json else _ON_A_PAGE))
    overflow, why_unknown = _overflow(queues)
    if as_json:
        print_json({"total": total, "events": events, "in_parked_queue": overflow})
        return
    if events:
        Terminal(wide=wide).show(parked_list(events))
    say(counted(total) + (f", {len(events)} of them shown" if len(events) < total else ""))
    if overflow is None:
        say(f"parked queue: not looked at; {printable(why_unknown)}", err=True)
    elif overflow:
        say(f"parked queue: {overflow} more wait there until the database takes them")


@parked_command.command("show")
@click.argument("svix_id")
@json_option
@database_url_option
def show_command(svix_id: str, database_url: str, as_json: bool) -> None:
    """Show a parked event with its body, which may hold personal data.

    \b
    Example:
      clerk-supabase parked show msg_2abc
    """
    with open_database(database_url) as connection:
        event, body = read(connection, svix_id)
    if as_json:
        print_json({"event": event, **_body_as_json(body)})
        return
    for name, value in _fields(event):
        say(f"{name:<14} {printable(value)}")
    say(f"\n{body_as_text(body)}" if body is not None else "\nThe body was deleted.", as_it_is=True)


@parked_command.command("replay")
@click.argument("svix_ids", metavar="[SVIX_ID]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All parked events.")
@_filter_options
@click.option("--again", is_flag=True, help="Also events replayed before, without a result yet.")
@json_option
@database_url_option
@queue_options
def replay_command(
    svix_ids: tuple[str, ...], everything: bool, again: bool, database_url: str, as_json: bool, **options: Any
) -> None:
    """Send parked events to the sync queue again. Name svix ids, a filter, or --all.

    An event goes the usual way: sync applies the event, or parks it again. A second replay is harmless.

    \b
    Examples:
      clerk-supabase parked replay msg_2abc
      clerk-supabase parked replay --reason refused --since 2h
    """
    queues, filters = _split(options)
    _must_say_which(svix_ids, everything=everything, filters=filters)
    url = _sync_queue_url(queues)
    states = OPEN_STATES if again or svix_ids else ("parked",)
    selection = Selection(svix_ids, **filters, states=states)
    with open_database(database_url) as connection:
        if svix_ids:
            check_replayable(connection, svix_ids)
        scrubbed = count(connection, Selection(svix_ids, **filters, has_body=False, states=states))
        with _progress(count(connection, selection) - scrubbed, quiet=as_json) as advance:
            result = replay(connection, Queue(client("sqs"), url), selection, advance)
    if as_json:
        print_json(
            {
                "replayed": result.sent,
                "without_body": scrubbed,
                "too_large": result.too_large,
                "stopped_by": result.stopped_by or None,
            }
        )
    else:
        say(f"{result.sent} replayed, through {url}")
        if scrubbed:
            say(f"{scrubbed} cannot be replayed without a body; see: clerk-supabase parked list --scrubbed")
    if result.too_large:
        say(f"clerk-supabase: too large for a queue: {printable(', '.join(result.too_large))}", err=True)
    if result.stopped_by:
        say(f"clerk-supabase: stopped, run it again for the rest: {printable(result.stopped_by)}", err=True)
    if result.too_large or result.stopped_by:
        sys.exit(1)


@parked_command.command("discard")
@click.argument("svix_ids", metavar="[SVIX_ID]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All parked events.")
@_filter_options
@click.option("--scrubbed", is_flag=True, help="Only events without a body.")
@click.option("--yes", is_flag=True, help="Do not ask for a confirmation.")
@json_option
@database_url_option
def discard_command(
    svix_ids: tuple[str, ...],
    everything: bool,
    *,
    scrubbed: bool,
    yes: bool,
    database_url: str,
    as_json: bool,
    **filters: Any,
) -> None:
    """Discard parked events, by svix id, by filter or all. Their bodies are deleted; author and moment stay.

    \b
    Example:
      clerk-supabase parked discard msg_2abc
    """
    _must_say_which(svix_ids, everything=everything, filters=filters | {"scrubbed": scrubbed or None})
    states = OPEN_STATES if svix_ids else ("parked",)
    selection = Selection(svix_ids, **filters, has_body=False if scrubbed else None, states=states)
    with open_database(database_url) as connection:
        if svix_ids:
            check_discardable(connection, svix_ids)
        events = find(connection, selection)
        if events and not yes:
            if not as_json:
                Terminal().show(parked_list(events[:_ON_A_PAGE]))
            click.confirm(f"Discard {counted(len(events))} for good?", abort=True, err=True)
        discarded = discard(connection, events, operator_name())
    if as_json:
        print_json({"discarded": discarded})
    else:
        say(f"{discarded} discarded")


# The arguments


def _split(options: dict[str, Any]) -> tuple[Callable[[], Queues | None], dict[str, Any]]:
    """The queues, found when they are needed, and the filters."""
    names = ("stack_name", "sync_queue_url", "dead_letter_queue_url", "parked_queue_url")
    given = {name: options.pop(name) for name in names}
    return lambda: named_queues(**given), options


def _must_say_which(svix_ids: tuple[str, ...], *, everything: bool, filters: dict[str, Any]) -> None:
    said = [bool(svix_ids), everything, any(value is not None for value in filters.values())]
    if said.count(True) != 1:
        raise click.UsageError("Say which events: their svix ids, a filter, or --all; one of the three.")


def _sync_queue_url(queues: Callable[[], Queues | None]) -> str:
    found = queues()
    if found is None or "sync" not in found.urls:
        raise click.UsageError(f"Say where the sync queue is: {HOW_TO_NAME_QUEUES}, or --sync-queue-url URL.")
    return found.urls["sync"]


def _overflow(queues: Callable[[], Queues | None]) -> tuple[int | None, str]:
    """The number of events in the parked queue; None with a reason if the number is unknown."""
    try:
        found = queues()
        if found is None or "parked" not in found.urls:
            return None, f"name it by {HOW_TO_NAME_QUEUES}"
        return Queues({"parked": found.urls["parked"]}).depths()["parked"].total, ""
    except AwsUnreachable as error:
        return None, str(error)


# The output


@contextmanager
def _progress(total: int, *, quiet: bool) -> Iterator[Callable[[int], None]]:
    """A progress bar on stderr, if stderr is a terminal."""
    console = Terminal(stderr=True)
    with Progress(console=console, disable=quiet or not console.is_live) as bar:
        task = bar.add_task("replay", total=total)
        yield lambda done: bar.advance(task, done)


def parked_list(events: Sequence[ParkedEvent]) -> Listing:
    """A list with a row for each event."""
    listed = Listing("event", "object", "state", "type", "parked (UTC)", "why")
    for each in events:
        why = f"{each.reason_class}: {each.reason}"
        parked = in_utc(each.last_parked_at)
        listed.add_row(each.svix_id, each.entity_id or "", _state(each), each.event_type or "", parked, why)
    return listed


def _state(event: ParkedEvent) -> str:
    if event.state == "settled":
        return f"settled: {event.outcome}"
    return event.state if event.has_body or event.state == "discarded" else f"{event.state}, no body"


def _fields(event: ParkedEvent) -> list[tuple[str, str]]:
    moments: list[tuple[str, datetime | None]] = [
        ("received", event.received_at),
        ("first parked", event.first_parked_at),
        ("last parked", event.last_parked_at),
        ("replayed", event.replayed_at),
        ("applied", event.applied_at),
        ("discarded", event.discarded_at),
    ]
    fields = [
        ("svix id", event.svix_id),
        ("type", event.event_type),
        ("entity", event.entity_id),
        ("state", _state(event)),
        ("reason", f"{event.reason_class}: {event.reason}"),
        ("first reason", event.first_reason),
        ("retried", f"{event.attempts} times" if event.attempts else None),
        *((name, in_utc(moment) and f"{in_utc(moment)} UTC") for name, moment in moments),
        ("discarded by", event.discarded_by),
    ]
    return [(name, value) for name, value in fields if value]


def _body_as_json(body: bytes | None) -> dict[str, str | None]:
    """The exact bytes: as text if possible, else in base64."""
    try:
        return {"body": None if body is None else body.decode(), "body_base64": None}
    except UnicodeDecodeError:
        return {"body": None, "body_base64": base64.b64encode(body or b"").decode()}
