"""`clerk-supabase forget`: erases a person from the tables, and names the data in other places."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, get_args

import click

from clerk_supabase_cli.operate.database import Connection, open_database
from clerk_supabase_cli.operate.person import (
    AppsRows,
    Forgotten,
    Held,
    Person,
    PurgeBy,
    apps_rows,
    check_deleted,
    check_only_invited,
    counts,
    find_person,
    forget,
    held,
    mentions,
)
from clerk_supabase_cli.operate.queues import HOW_TO_NAME_QUEUES, QUEUE_NAMES, AwsUnreachable, Name, Queues, client
from clerk_supabase_cli.operate.waiting import Waiting, look
from clerk_supabase_cli.operator_name import operator_name
from clerk_supabase_cli.options import (
    database_url_option,
    json_option,
    named_queues,
    person_options,
    queue_options,
    require_person,
)
from clerk_supabase_cli.printing import print_json, printable, say

# Not the sync queue: its messages are applied within seconds, and a search would delay them.
_LOOKED_INTO: Final[tuple[Name, ...]] = ("dead_letters", "parked")

_ELSEWHERE: Final = {
    "queues": "events on their way can restore an address: run the command again once status shows empty queues",
    "logs": "ids only, until LogRetentionDays are over",
    "Clerk": "open invitations, and domains verified with an address: data sent again is stored again",
    "Svix": "sent messages, until Svix deletes them",
    "Supabase": "backups, until they expire",
}


@dataclass(frozen=True, slots=True)
class _Report:
    """The result of the command. With `dry_run`, `emptied` counts the rows that would be emptied."""

    users: Sequence[str]
    words: Sequence[str]
    not_looked_for: Mapping[str, str]
    unverified: Sequence[str]
    dry_run: bool
    emptied: Mapping[str, int]
    refused: Mapping[str, int]
    kept_ids: Mapping[str, int]
    of_others: Sequence[Mapping[str, str | None]]
    of_the_app: Sequence[AppsRows]
    queues: Mapping[Name, Waiting]
    elsewhere: Mapping[str, str]


@click.command("forget")
@person_options
@click.option(
    "--purge-by",
    type=click.Choice(get_args(PurgeBy)),
    default="scrub",
    show_default=True,
    help="scrub: the user's row keeps its key; delete: no row is left, and the app's foreign keys cascade or refuse.",
)
@click.option("--dry-run", is_flag=True, help="Only print the number of rows to empty.")
@click.option("--yes", is_flag=True, help="Do not ask for a confirmation.")
@database_url_option
@queue_options
@json_option
def forget_command(
    *,
    user_id: str | None,
    addresses: tuple[str, ...],
    purge_by: PurgeBy,
    dry_run: bool,
    yes: bool,
    database_url: str,
    as_json: bool,
    **queue_urls: Any,
) -> None:
    """Erase a person: a deleted user, or an invited person. The user was deleted in Clerk; an address names the person
    who was only invited.

    Ends the hold-back for this person alone, and empties every table with the person's data. Safe to run again.

    \b
    Examples:
      clerk-supabase forget user_2abc --dry-run
      clerk-supabase forget --email ada@example.com
    """
    require_person(user_id, addresses)
    queues, why_unknown = _queues(queue_urls)
    with open_database(database_url) as connection:
        person, rows = _find(connection, user_id, addresses)
        waiting = _look(connection, queues, person, remove=False)
        done = Forgotten(counts(rows, "own", "part"), {})
        if not dry_run:
            if not yes:
                _confirm(person, done.emptied, waiting)
            # Before the rows, because an interrupted command learns the addresses from the rows when it runs again; and
            # so that no message moves from the queue into a table that is already empty.
            waiting = _look(connection, queues, person, remove=True)
            done = forget(connection, person, purge_by=purge_by, erased_by=operator_name())
            rows = held(connection, person)
        report = _report(person, done, rows, apps_rows(connection, person), waiting, dry_run=dry_run)
    if as_json:
        print_json(report)
    else:
        _print(report)
    if why_unknown:
        say(f"queues: not looked into; {why_unknown}", err=True)


def _find(connection: Connection, user_id: str | None, addresses: Sequence[str]) -> tuple[Person, list[Held]]:
    """The person, and the rows with personal data. Raises NotForgotten for a person who has to stay."""
    if user_id is not None:
        check_deleted(connection, user_id)
    person = find_person(connection, user_id, addresses)
    rows = held(connection, person)
    check_only_invited(person, addresses, rows)
    return person, rows


def _report(
    person: Person,
    done: Forgotten,
    rows: Sequence[Held],
    of_the_app: Sequence[AppsRows],
    waiting: Mapping[Name, Waiting],
    *,
    dry_run: bool,
) -> _Report:
    return _Report(
        person.users,
        person.words,
        person.others,
        person.unverified,
        dry_run,
        done.emptied,
        done.refused,
        counts(rows, "ids"),
        _others(rows),
        of_the_app,
        waiting,
        _ELSEWHERE,
    )


def _confirm(person: Person, found: Mapping[str, int], waiting: Mapping[Name, Waiting]) -> None:
    say(printable(f"known by: {', '.join((*person.users, *person.words))}"), err=True)
    in_queues = {QUEUE_NAMES[name]: each.about for name, each in waiting.items()}
    for place, number in {**found, **in_queues}.items():
        say(f"  {place:<36} {number}", err=True)
    click.confirm("Forget this person for good?", abort=True, err=True)


def _others(rows: Sequence[Held]) -> list[Mapping[str, str | None]]:
    """The objects of other people that name the person."""
    named = dict.fromkeys((each.place, each.id) for each in rows if each.verdict == "others")
    return [{"place": place, "id": each} for place, each in named]


# The queues


def _queues(given: Mapping[str, Any]) -> tuple[Mapping[Name, str], str]:
    """The queues to search, or the reason why there are no queues."""
    try:
        found = named_queues(**given) or Queues({})
    except AwsUnreachable as error:
        return {}, str(error)
    urls = {name: url for name, url in found.urls.items() if name in _LOOKED_INTO}
    return urls, "" if urls else f"name them by {HOW_TO_NAME_QUEUES}"


def _look(connection: Connection, urls: Mapping[Name, str], person: Person, *, remove: bool) -> dict[Name, Waiting]:
    def names_the_person(body: bytes) -> bool:
        return mentions(connection, person, body)

    return {name: look(client("sqs"), url, names_the_person, remove=remove) for name, url in urls.items()}


# The output


def _print(report: _Report) -> None:
    say(printable(f"known by: {', '.join((*report.users, *report.words))}"))
    for word, owner in report.not_looked_for.items():
        say(printable(f"not looked for: {word}, which {owner} has in Clerk"))
    for address in report.unverified:
        say(printable(f"not looked for: {address}, which is unverified; add it by --email if it is the person's"))
    _print_emptied(report)
    for name, each in report.queues.items():
        say(
            f"{QUEUE_NAMES[name]}: {each.about} of {each.seen} messages name the person, {each.removed} removed; "
            f"{each.unseen} more could not be looked at"
        )
    for place, number in report.kept_ids.items():
        say(f"kept, ids and times only: {place}, {number}")
    for other in report.of_others:
        say(printable(f"kept, because the row is another person's: {other['place']}, {other['id']}"))
    for row in report.of_the_app:
        say(printable(f"kept, because the rows are your app's: {row.place}, {row.row_count} by {row.column_name}"))
    say("not in these tables:")
    for where, what in report.elsewhere.items():
        say(f"  {where}: {what}")


def _print_emptied(report: _Report) -> None:
    if not report.emptied:
        say("nothing is left to empty")
    else:
        say("would be emptied:" if report.dry_run else "emptied:")
    for place, number in report.emptied.items():
        say(f"  {place:<36} {number}")
    for constraint, number in report.refused.items():
        say(printable(f"could not be deleted, and was scrubbed: {number}, by {constraint}"))
