"""`clerk-supabase adopt link`: Clerk's ids for rows of the app without an id."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import click

from clerk_supabase_cli.adopt.checking import Checked, check_mappings
from clerk_supabase_cli.adopt.links.planning import REASONS, Left, Link, Links, key_of
from clerk_supabase_cli.adopt.links.proofs import NotLinked, Proofs, verified_column
from clerk_supabase_cli.adopt.links.writing import Writer, write_links
from clerk_supabase_cli.adopt.mapping import Mapping as TableMapping
from clerk_supabase_cli.adopt.mapping import fault_of_expression, read_mappings
from clerk_supabase_cli.adopt.options import mapping_option
from clerk_supabase_cli.adopt.tables import reading
from clerk_supabase_cli.operate.database import open_database
from clerk_supabase_cli.operator_name import operator_name
from clerk_supabase_cli.options import database_url_option, json_option
from clerk_supabase_cli.printing import counted, print_json, printable, say

_SECONDS: Final = 600.0
_SHOWN: Final = 20


@click.command("link")
@mapping_option
@click.option("--id-column", metavar="COLUMN", help="Another column of the table with Clerk's id of the user.")
@click.option(
    "--own-key",
    metavar="COLUMN",
    help="The column that Clerk has as external_id; by default the primary key. Clerk's backend API sets external_id.",
)
@click.option("--email-column", metavar="COLUMN", help="The column with the address; by default the one in adopt.toml.")
@click.option(
    "--their-verified",
    metavar="EXPRESSION",
    help="Whether your app has verified the address of a row, named theirs: `theirs.confirmed_at is not null`. By "
    "default a column such as email_verified, if there is one.",
)
@click.option(
    "--seen",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Output of an earlier dry run with --json: write only links that it lists.",
)
@click.option("--write", is_flag=True, help="Write the links; without this option, only show them.")
@database_url_option
@json_option
def link_command(
    *,
    mapping_file: Path,
    id_column: str | None,
    own_key: str | None,
    email_column: str | None,
    their_verified: str | None,
    seen: Path | None,
    write: bool,
    database_url: str,
    as_json: bool,
) -> None:
    """Find the users of rows without a Clerk id, and with --write, set the id where the column is null.

    A row is linked by Clerk's id in another column, else by Clerk's external_id equal to the row's key, else by an
    e-mail address: verified in Clerk and in the app, of one user and one row, equal except for the case of A to Z.
    Every other row is left to a person, with the reason. `clerk-supabase adopt undo` takes the links back.

    \b
    Examples:
      clerk-supabase adopt link
      clerk-supabase adopt link --write
    """
    if their_verified and (fault := fault_of_expression(their_verified)):
        raise click.BadParameter(fault, param_hint="--their-verified")
    users = [each for each in read_mappings(mapping_file) if each.kind == "user"]
    if not users:
        raise NotLinked(f"{mapping_file} maps no [users], and only users are linked")
    pairs = _read_seen(seen) if seen else None
    with open_database(database_url) as connection:
        with reading(connection, seconds=_SECONDS):
            [checked] = check_mappings(connection, users)
            proofs = _proofs(checked, id_column, own_key, email_column, their_verified)
            links = Links(checked, proofs)
            plan = links.plan(connection)
        found: Sequence[Link] = [
            each for each in plan.links if pairs is None or _pair(each.row, each.clerk_id) in pairs
        ]
        left = plan.left
        if write:
            writer = Writer(connection, database_url, operator_name(), lambda line: say(line, err=True))
            found, not_written = write_links(links, writer, found)
            left = [*left, *not_written]
    if as_json:
        links_found = [{"row": each.row, "found_by": each.found_by, "clerk_id": each.clerk_id} for each in found]
        print_json({"written": write, "proofs": proofs, "links": links_found, "left": left})
        return
    _print(checked, proofs, found, left, is_written=write)


def _proofs(
    checked: Checked, id_column: str | None, own_key: str | None, email_column: str | None, verified: str | None
) -> Proofs:
    email = email_column or _email_column(checked.mapping)
    return Proofs(id_column, own_key, email, (verified or verified_column(checked.table)) if email else None)


def _email_column(mapping: TableMapping) -> str | None:
    """The column that the mapping fills with the address."""
    columns = {**mapping.on_insert, **mapping.update}
    return next((column for column, text in columns.items() if re.search(r"\bmirror\.email\b", text)), None)


def _read_seen(path: Path) -> set[tuple[str, str]]:
    try:
        links = json.loads(path.read_text("utf-8"))["links"]
        return {_pair(dict(each["row"]), str(each["clerk_id"])) for each in links}
    except (OSError, ValueError, KeyError, TypeError):
        raise NotLinked(f"{path} is not the output of: clerk-supabase adopt link --json") from None


def _pair(row: Mapping[str, Any], clerk_id: str) -> tuple[str, str]:
    return key_of(row), clerk_id


def _print(checked: Checked, proofs: Proofs, links: Sequence[Link], left: Sequence[Left], *, is_written: bool) -> None:
    name = checked.table.name
    verb = "were linked" if is_written else "can be linked"
    counts = Counter(each.found_by for each in links)
    parts = ", ".join(f"{number} by {found_by}" for found_by, number in counts.items())
    linked = f"{counted(len(links), 'row')} {verb}{f' ({parts})' if parts else ''}"
    say(printable(f"{name}: {linked}, {len(left):,} left to you"))
    if proofs.email_column and not proofs.their_verified:
        say("your table does not say which addresses are verified: --their-verified tells, if your app knows it")
    if not proofs.email_column:
        say(
            "no row was looked up by its address, because adopt.toml maps no column to mirror.email: add --email-column"
        )
    _print_groups((f"{verb} by {link.found_by}", link.row, link.clerk_id) for link in links[:_SHOWN])
    _print_groups(
        (f"left to you: {_reason(each.reason, proofs)}", each.row, each.clerk_id or "") for each in left[:_SHOWN]
    )
    if len(links) > _SHOWN or len(left) > _SHOWN:
        say(f"the first {_SHOWN} of each are shown; --json lists all")
    if links and not is_written:
        say("nothing was changed; to write the links: clerk-supabase adopt link --write")


def _reason(reason: str, proofs: Proofs) -> str:
    """The words of a reason. Without a column for the address, nothing is known of the address of a row."""
    if reason == "no_address" and not proofs.email_column:
        return "nothing proves whose row this is"
    return REASONS.get(reason, reason)  # type: ignore[call-overload, no-any-return]


def _print_groups(pairs: Iterable[tuple[str, Mapping[str, Any], str]]) -> None:
    """Prints headings, and below each heading its rows and users: a line each, so that ids can be copied."""
    for heading, group in groupby(sorted(pairs, key=lambda pair: pair[0]), key=lambda pair: pair[0]):
        say(printable(f"  {heading}"))
        for _, row, clerk_id in group:
            key = ", ".join(str(value) for value in row.values())
            say(printable(f"    {key} {clerk_id}".rstrip()))
