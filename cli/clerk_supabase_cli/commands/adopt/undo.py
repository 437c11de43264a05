"""`clerk-supabase adopt undo`: the app's tables no longer follow the mirror."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import click

from clerk_supabase_cli.adopt.feeds import Feed, feeds, remove
from clerk_supabase_cli.adopt.links.undoing import Unlinked, unlink
from clerk_supabase_cli.adopt.links.writing import Writer
from clerk_supabase_cli.operate.database import Connection, open_database
from clerk_supabase_cli.operator_name import operator_name
from clerk_supabase_cli.options import database_url_option, json_option
from clerk_supabase_cli.printing import counted, print_json, printable, say


@click.command("undo")
@click.option("--write", is_flag=True, help="Remove the feeds and guards; without it nothing is changed.")
@click.option("--links", "with_links", is_flag=True, help="Take back the ids that adopt link wrote, too.")
@click.option("--table", "of_table", metavar="TABLE", help="Only the feeds of this table, as `adopt undo` prints it.")
@database_url_option
@json_option
def undo_command(*, write: bool, with_links: bool, of_table: str | None, database_url: str, as_json: bool) -> None:
    """Remove all feeds and guards, and leave the rows of the app as they are. Harmless to run twice.

    The list of unfed rows goes, too. The mirror itself stays. A right to create triggers, which `adopt switch` took
    from the roles of the API, is not given back.

    \b
    Examples:
      clerk-supabase adopt undo
      clerk-supabase adopt undo --write --links
    """
    if of_table is not None and with_links:
        raise click.UsageError("--links concerns all tables: leave --table out")
    with open_database(database_url) as connection:
        found = [each for each in feeds(connection) if of_table in (None, each.table)]
        if write:
            for each in found:
                remove(connection, database_url, each, lambda words: say(words, err=True))
        unlinked = _unlink(connection, database_url, write=write) if with_links else []
    is_found = bool(found) or any(each.undone for each in unlinked)
    if as_json:
        print_json({"changed": write and is_found, "feeds": found, "links": unlinked})
        return
    for line in _of_feeds(found, write=write):
        say(printable(line))
    for line in _of_links(unlinked, write=write) if with_links else ["the ids that adopt link wrote stay; see --links"]:
        say(printable(line))
    if not is_found:
        say("there is nothing to undo")
    elif not write:
        say("nothing was changed; add --write to do it")


def _unlink(connection: Connection, url: str, *, write: bool) -> list[Unlinked]:
    return unlink(Writer(connection, url, operator_name(), lambda words: say(words, err=True), is_trial=not write))


def _of_feeds(found: Sequence[Feed], *, write: bool) -> Iterator[str]:
    if not found:
        yield "no table follows the mirror"
    for each in found:
        what = "no longer follows the mirror" if write else "follows the mirror"
        yield f"{each.table} ({each.kind}s) {what}; {counted(each.unfed, 'unfed row')}"


def _of_links(unlinked: Sequence[Unlinked], *, write: bool) -> Iterator[str]:
    if not unlinked:
        yield "no id was written by adopt link"
    for each in unlinked:
        verb = "were" if write else "can be"
        why = each.fault or "the other rows have another id since, or are gone"
        words = f"{each.table}: {each.undone:,} of {each.undone + each.changed:,} ids {verb} taken back"
        yield f"{words}; {why}" if each.changed else words
