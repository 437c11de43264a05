"""`clerk-supabase adopt inspect`: a look at the app's tables, and a first mapping."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import click

from clerk_supabase_cli.adopt.inspection import SECONDS, Candidate, Inspection, inspect, words_of
from clerk_supabase_cli.adopt.options import DEFAULT_FILE
from clerk_supabase_cli.adopt.tables import reading
from clerk_supabase_cli.adopt.writing import write_mapping
from clerk_supabase_cli.failure import Failure
from clerk_supabase_cli.operate.database import open_database
from clerk_supabase_cli.options import database_url_option, json_option
from clerk_supabase_cli.printing import counted, print_json, printable, say
from clerk_supabase_cli.whole_files import write_whole


class NotWritten(Failure):
    """adopt.toml is not written, for the reason in the message."""


@click.command("inspect")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=DEFAULT_FILE,
    show_default=True,
    help="File for the mapping.",
)
@click.option("--force", is_flag=True, help="Replace the file, with all that you have edited.")
@database_url_option
@json_option
def inspect_command(*, output: Path, force: bool, database_url: str, as_json: bool) -> None:
    """Find the app's tables with users and organizations, and write a first mapping to be read and edited.

    Reads only, in a read-only transaction; reads samples of large tables. Changes nothing in the database.

    \b
    Example:
      clerk-supabase adopt inspect
    """
    if not force and os.path.lexists(output):
        raise NotWritten(_exists(output, force=force))
    with open_database(database_url) as connection, reading(connection, seconds=SECONDS):
        found = inspect(connection)
        text = write_mapping(connection, found)
    _write(output, text, force=force)
    if as_json:
        print_json({**found.as_json(), "mapping": str(output)})
        return
    for line in _lines(found):
        say(printable(line))
    if found.has_mirror:
        named = "" if output == DEFAULT_FILE else f" --mapping {output}"
        say(printable(f"wrote {output}: read it, edit it, and go on with: clerk-supabase adopt compare{named}"))
    else:
        say(
            printable(
                f"wrote {output}, to look at only: run clerk-supabase migrate, fill the mirror, and inspect again"
            )
        )


def _write(path: Path, text: str, *, force: bool) -> None:
    """Writes the file as a whole. Without *force*, a file that appeared meanwhile stays. Raises NotWritten."""
    try:
        write_whole(path, text, replaces=force)
    except FileExistsError:
        raise NotWritten(_exists(path, force=force)) from None
    except OSError as error:
        raise NotWritten(f"{path} cannot be written: {error.strerror}") from None


def _exists(path: Path, *, force: bool) -> str:
    if force:
        return f"{path} is no file that can be replaced: name another file with --output"
    return f"{path} exists; keep it with --output OTHER, or replace it with --force"


def _lines(found: Inspection) -> Iterator[str]:
    if not found.has_mirror:
        yield "there is no mirror yet, so no id is known to be Clerk's"
    for tool, table in found.tools.items():
        yield f"{tool} owns a schema of this database ({table})"
    if found.hidden:
        yield f"row-level security hides rows from this role, so these tables are left out: {', '.join(found.hidden)}"
        yield "to look at these tables, too, connect as a role with BYPASSRLS, as postgres of Supabase has it"
    if not found.candidates:
        yield f"none of {found.tables} tables has ids of Clerk's in a unique column"
    for each in found.candidates:
        yield ""
        yield from _of_candidate(each)
    if found.holders:
        yield ""
        yield "other columns with ids of Clerk's:"
        yield from (f"  {each.table} ({each.column}): {each.kind}" for each in found.holders)
    if found.asks:
        yield ""
        yield "these ask for the user of the token, and go on as they are:"
        for code in found.asks:
            place = f" on {code.on_table}" if code.on_table else ""
            yield f"  {code.kind} {code.name}{place}: {', '.join(code.asks)}"


def _of_candidate(each: Candidate) -> Iterator[str]:
    together = f", unique together with {', '.join(each.unique_with)}" if each.unique_with else ""
    yield f"{each.table_kind} {each.table}, column {each.column} ({each.kind}){together}"
    about = "about " if each.estimated else ""
    numbers = (
        (each.rows - each.unlinked if each.linked is None else 0, "with an id of Clerk's"),
        (each.linked, "with the id of an object in Clerk"),
        (each.deleted, "of objects deleted in Clerk"),
        (each.unknown, "with an id that the mirror does not have"),
        (each.unlinked, "without an id of Clerk's"),
        (each.double, "with the id of another row"),
    )
    said = [f"{number:,} {what}" for number, what in numbers if number]
    for title, names in (
        (f"{about}{counted(each.rows, 'row')}", said or ["without a row, nothing can be compared"]),
        ("a new row needs", each.needed),
        ("unique", [" + ".join(unique) for unique in each.unique]),
        ("computed by Postgres", each.computed),
        ("keys that point here", list(map(words_of, each.keys))),
        ("triggers", each.triggers),
        ("views", each.views),
        ("named by", each.named_by),
    ):
        if len(names) == 1:
            yield f"  {title}: {names[0]}"
        elif names:
            yield f"  {title}:"
            yield from (f"    {name}" for name in names)
