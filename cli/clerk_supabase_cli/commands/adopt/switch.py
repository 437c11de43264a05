"""`clerk-supabase adopt switch`: from now on the app's tables follow the mirror."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import click
import rich.progress

from clerk_supabase_cli.adopt.feeds import (
    Feed,
    Filled,
    Outlook,
    Unfed,
    feeds,
    fill,
    outlook,
    retry,
    switch,
    unfed_rows,
)
from clerk_supabase_cli.adopt.mapping import Mapping, read_mappings
from clerk_supabase_cli.adopt.options import mapping_option
from clerk_supabase_cli.operate.database import Connection, open_database
from clerk_supabase_cli.options import database_url_option, json_option
from clerk_supabase_cli.printing import counted, print_json, printable, say
from clerk_supabase_cli.terminal import Terminal

_SHOWN: Final = 20


@click.command("switch")
@mapping_option
@click.option("--write", is_flag=True, help="Switch the feeds on and fill the tables; without it nothing is changed.")
@click.option("--retry", "is_retry", is_flag=True, help="Only try the unfed rows again.")
@database_url_option
@json_option
def switch_command(*, mapping_file: Path, write: bool, is_retry: bool, database_url: str, as_json: bool) -> None:
    """Let the app's tables follow the mirror, by the mapping in adopt.toml.

    Prints the number of rows that would be written. With --write, the feed of each table is switched on, and the table
    is filled; an interrupted back-fill goes on when the command runs again. Safe to run twice.

    \b
    Examples:
      clerk-supabase adopt switch
      clerk-supabase adopt switch --write
    """
    if write and is_retry:
        raise click.UsageError("--write tries unfed rows again, too: give one of --write and --retry")
    with open_database(database_url) as connection:
        if is_retry:
            _print_retry(retry(connection), unfed_rows(connection, _SHOWN), as_json=as_json)
            return
        mappings = read_mappings(mapping_file)
        planned = outlook(connection, mappings)
        if not as_json:
            for line in (line for each in planned for line in _of_outlook(each)):
                say(printable(line))
        filled, others = _switch(connection, database_url, mappings, quiet=as_json) if write else ([], [])
        left = unfed_rows(connection, _SHOWN) if filled else []
    if as_json:
        print_json({"changed": write, "outlook": planned, "filled": filled, "others": others})
        return
    for each in filled:
        words = f"{each.table} follows the mirror: {counted(each.written, 'row')} written, {each.unfed:,} unfed"
        say(printable(words))
    if left:
        _print_unfed(left, sum(each.unfed for each in filled))
        say("correct these rows or adopt.toml, then: clerk-supabase adopt switch --retry")
    for other in others:
        words = (
            f"{other.table} ({other.kind}s) follows the mirror, too, and {mapping_file.name} does not name this table"
        )
        say(printable(f"{words}; to end this: clerk-supabase adopt undo --table '{other.table}' --write"))
    if not write:
        say("nothing was changed; to do it: clerk-supabase adopt switch --write")


def _switch(
    connection: Connection, url: str, mappings: Sequence[Mapping], *, quiet: bool
) -> tuple[list[Filled], list[Feed]]:
    """Switches the feeds on and fills the tables; returns the results, and the feeds that no mapping names."""
    # All feeds first: a table of members needs the rows of its parents.
    numbers = [(mapping, switch(connection, url, mapping, lambda words: say(words, err=True))) for mapping in mappings]
    with _bar(quiet=quiet) as progress:
        filled = [fill(connection, number, progress(mapping.table)) for mapping, number in numbers]
    if any(each.unfed for each in filled):
        retry(connection)
    named = {number for _, number in numbers}
    return filled, [each for each in feeds(connection) if each.number not in named]


@contextmanager
def _bar(*, quiet: bool) -> Iterator[Callable[[str], Callable[[int, int], None]]]:
    """Shows a progress bar on stderr, if stderr is a terminal."""
    console = Terminal(stderr=True)
    columns = (
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TimeElapsedColumn(),
    )
    with rich.progress.Progress(*columns, console=console, disable=quiet or not console.is_live) as bar:

        def begin(name: str) -> Callable[[int, int], None]:
            task = bar.add_task(printable(name), total=None)
            return lambda done, total: bar.update(task, completed=done, total=total)

        yield begin


def _of_outlook(planned: Outlook) -> Iterator[str]:
    """Yields lines about a table, so that no name is cut on a narrow terminal."""
    parts = [
        f"{number:,} to {verb}"
        for number, verb in (
            (planned.inserts, "insert"),
            (planned.updates, "update"),
            (planned.deletes, "delete or clear"),
        )
        if number
    ]
    if planned.unlinked:
        parts.append(f"{planned.unlinked:,} later, after a row of another table")
    yield f"{planned.table}, from {counted(planned.objects, 'object')}: {', '.join(parts) or 'nothing to write'}"
    if planned.failing:
        objects = counted(planned.failing, "object")
        yield f"{planned.table}: an expression raises an error for {objects}, whose rows will be unfed"
    for statement in planned.revokes:
        yield f"the switch also runs: {statement}; (no request of the API needs this right)"


def _print_retry(retried: dict[str, int], left: Sequence[Unfed], *, as_json: bool) -> None:
    if as_json:
        print_json(retried)
        return
    numbers = f"{retried['written']:,} written, {retried['left']:,} left"
    say(f"tried {counted(retried['tried'], 'unfed row')}: {numbers}")
    _print_unfed(left, retried["left"])


def _print_unfed(rows: Iterable[Unfed], number: int) -> None:
    """Prints the first unfed rows, with the ids of their objects and the reasons."""
    heading = ""
    for each in rows:
        if heading != (heading := f"{each.table}: {each.reason}"):
            say(printable(f"  {heading}"))
        say(printable(f"    {each.object_id}"))
    if number > _SHOWN:
        say(f"  the first {_SHOWN} of {number:,} are shown; all are in clerk_sync.unfed_rows")
