"""`clerk-supabase adopt undo`: the app's tables no longer follow the mirror."""

from __future__ import annotations

import click

from clerk_supabase_cli.adopt.feeds import feeds, remove
from clerk_supabase_cli.adopt.links import Writer, unlink
from clerk_supabase_cli.operate.database import Connection, open_database
from clerk_supabase_cli.operator_name import operator_name
from clerk_supabase_cli.options import database_url_option, json_option
from clerk_supabase_cli.printing import print_json, printable, say


@click.command("undo")
@click.option("--write", is_flag=True, help="Remove the feeds and guards; without it nothing is changed.")
@click.option("--links", "with_links", is_flag=True, help="Take back the ids that adopt link wrote, too.")
@database_url_option
@json_option
def undo_command(*, write: bool, with_links: bool, database_url: str, as_json: bool) -> None:
    """Remove all feeds and guards, and leave the rows of the app as they are. Harmless to run twice.

    The list of unfed rows goes, too. The mirror itself stays.
    """
    with open_database(database_url) as connection:
        found = feeds(connection)
        if write:
            for each in found:
                remove(connection, database_url, each, lambda words: say(words, err=True))
        unlinked = _unlink(connection, database_url, write=write) if with_links else []
    if as_json:
        print_json({"changed": write and bool(found or unlinked), "feeds": found, "links": unlinked})
        return
    for each in found:
        what = "no longer follows the mirror" if write else "follows the mirror"
        say(printable(f"{each.table} ({each.kind}s) {what}; {each.unfed:,} unfed rows"))
    for each_link in unlinked:
        say(printable(each_link))
    if not found:
        say("no table follows the mirror: nothing to undo")
    elif not write:
        say("nothing was changed; adopt undo --write removes the feeds")


def _unlink(connection: Connection, url: str, *, write: bool) -> list[str]:
    writer = Writer(connection, url, operator_name(), lambda words: say(words, err=True), is_trial=not write)
    return [str(each) for each in unlink(writer)]
