"""`clerk-supabase adopt supabase-auth link`: pairs of old and new ids."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import click

from clerk_supabase_cli.adopt.supabase_auth.pairs import link
from clerk_supabase_cli.operate.database import open_database
from clerk_supabase_cli.options import database_url_option, json_option
from clerk_supabase_cli.printing import print_json, printable, say

_SHOWN: Final = 20


@click.command("link")
@click.option("--write", is_flag=True, help="Keep the pairs in clerk_migration.identities.")
@click.option("--replace", is_flag=True, help="Also replace pairs that have changed in Clerk.")
@database_url_option
@json_option
def link_command(*, write: bool, replace: bool, database_url: str, as_json: bool) -> None:
    """Link users of Supabase Auth with users of Clerk, by external_id. Without --write only looks.

    Lists everybody who is not linked: users without a user in Clerk, uuids that two users of Clerk have, users of Clerk
    with another external_id, and pairs that have changed since. Safe to run again: new pairs are added.

    \b
    Examples:
      clerk-supabase adopt supabase-auth link
      clerk-supabase adopt supabase-auth link --write
    """
    if replace and not write:
        raise click.UsageError("--replace changes pairs: type it together with --write")
    with open_database(database_url) as connection:
        links = link(connection, writes=write, replaces=replace)
    if as_json:
        print_json({"written": write, "links": links})
        return
    say(f"{links.new} {'linked now' if write else 'would be linked'}, {links.known} linked before")
    _print("not linked", [f"{each.old_id} {each.email or ''}: {each.why}" for each in links.unlinked])
    _print(
        "not linked, because several users of Clerk have the id",
        [f"{each.old_id}: {', '.join(each.clerk_ids)}; delete the wrong user in Clerk" for each in links.double],
    )
    _print(
        "changed since they were linked",
        [
            f"{each.old_id}: {each.clerk_id}, in Clerk now {each.now or 'nobody'}; moved rows hold the former id"
            for each in links.changed
        ],
    )
    _print(
        "users of Clerk with an external_id of somewhere else",
        [f"{each.clerk_id}: {each.external_id}" for each in links.foreign],
    )
    if links.new and not write:
        say("nothing was changed; to keep these pairs: clerk-supabase adopt supabase-auth link --write")


def _print(title: str, lines: Sequence[str]) -> None:
    if not lines:
        return
    say(f"{len(lines)} {title}:")
    for line in _some(lines):
        say(f"  {printable(line)}")


def _some(lines: Sequence[str]) -> Iterable[str]:
    yield from lines[:_SHOWN]
    if len(lines) > _SHOWN:
        yield f"and {len(lines) - _SHOWN} more; --json lists all"
