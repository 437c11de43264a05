"""`clerk-supabase adopt compare`: the differences between the app's tables and the mirror."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from clerk_supabase_cli.adopt.differences import ROWS, Comparison, Sample, compare, shown_names
from clerk_supabase_cli.adopt.mapping import read_mappings
from clerk_supabase_cli.adopt.options import mapping_option
from clerk_supabase_cli.operate.database import open_database
from clerk_supabase_cli.options import database_url_option, json_option, wide_option
from clerk_supabase_cli.printing import counted, print_json, printable, say
from clerk_supabase_cli.terminal import Listing, Terminal

DIFFERS: Final = 3
"""Exit status of a comparison that finds a difference."""

_MEANINGS: Final = {
    "missing": "objects of Clerk without a row",
    "unknown": "rows with an id that the mirror does not have",
    "deleted": "rows of objects that Clerk has deleted",
    "not_cleared": "rows of deleted objects with values that should be empty",
    "double": "rows with the key of another row",
}


@click.command("compare")
@mapping_option
@click.option(
    "--show",
    multiple=True,
    metavar="COLUMN",
    help=f"List the rows that differ in this column, or that are {', '.join(ROWS)}; repeatable.",
)
@click.option("--limit", type=click.IntRange(min=1), help="Largest number of rows in each list; by default 5, or 100.")
@click.option("--values", "with_values", is_flag=True, help="Print the values that differ, too: personal data.")
@database_url_option
@wide_option
@json_option
def compare_command(
    *,
    mapping_file: Path,
    show: tuple[str, ...],
    limit: int | None,
    with_values: bool,
    database_url: str,
    wide: bool,
    as_json: bool,
) -> None:
    """Compare the app's tables with the mirror, by the mapping in adopt.toml. Changes nothing.

    Exit status 0: no difference. 1: the mapping or the database is wrong. 2: the options are wrong. 3: a difference.

    \b
    Example:
      clerk-supabase adopt compare
    """
    mappings = read_mappings(mapping_file)
    possible = shown_names(mappings)
    for name in show:
        if name not in possible:
            raise click.BadParameter(f"{name} is none of: {', '.join(possible)}", param_hint="--show")
    with open_database(database_url) as connection:
        found = compare(
            connection,
            mappings,
            show=show,
            limit=limit or (100 if show else 5),
            with_values=with_values,
        )
    is_equal = all(each.is_equal for each in found)
    if as_json:
        print_json({"equal": is_equal, "tables": found})
    else:
        print_comparisons(found, Terminal(wide=wide), is_listed=bool(show))
        for name in show:
            if not any(name in each.samples for each in found):
                say(printable(f"--show {name}: there is no such row"))
    if not is_equal:
        sys.exit(DIFFERS)


def print_comparisons(found: Sequence[Comparison], console: Terminal, *, is_listed: bool) -> None:
    """Prints the differences of each table."""
    for each in found:
        heading = (
            f"{each.table} and the mirror's {each.name}: {counted(each.rows, 'row')}, {counted(each.objects, 'object')}"
        )
        console.say(f"{heading}; {'equal' if each.is_equal else 'different'}")
        if each.unlinked:
            console.say(f"  {counted(each.unlinked, 'row')} without an id of Clerk's; see: clerk-supabase adopt link")
        if each.kept:
            console.say(f"  kept, as on_delete says: {counted(each.kept, 'row')} of deleted objects")
        faults = {_MEANINGS[name]: (name, getattr(each, name)) for name in ROWS}
        faults |= {f"rows that differ in {column}": (column, number) for column, number in each.columns.items()}
        shown = Listing("difference", "rows", *([] if is_listed else ["for example"]), numbers={"rows"})
        for words, (name, number) in faults.items():
            if number:
                ids = [] if is_listed else [_examples(each.samples.get(name, ()))]
                shown.add_row(words, f"{number:,}", *ids)
        if shown:
            console.show(shown)
        if is_listed:
            _print_lists(each, console)


def _print_lists(compared: Comparison, console: Terminal) -> None:
    """Prints the rows that `--show` asks for, a line each."""
    for name, samples in compared.samples.items():
        console.say(f"  {name}:")
        for sample in samples:
            console.say(f"    {_example(sample)}")


def _examples(samples: Sequence[Sample]) -> str:
    return ", ".join(map(_example, samples))


def _example(sample: Sample) -> str:
    if sample.mirror is None and sample.app is None:
        return sample.id
    return f"{sample.id}: {sample.mirror!r} in the mirror, {sample.app!r} in the app"
