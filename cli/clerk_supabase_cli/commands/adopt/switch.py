"""`clerk-supabase adopt switch`: from now on the app's tables follow the mirror."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click
import rich.progress

from clerk_supabase_cli.adopt.feeds import Feed, Filled, Outlook, feeds, fill, outlook, retry, switch
from clerk_supabase_cli.adopt.mapping import Mapping, read_mappings
from clerk_supabase_cli.adopt.options import mapping_option
from clerk_supabase_cli.operate.database import Connection, open_database
from clerk_supabase_cli.options import database_url_option, json_option
from clerk_supabase_cli.printing import print_json, printable, say
from clerk_supabase_cli.terminal import Terminal, table


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
    """
    if write and is_retry:
        raise click.UsageError("--write tries unfed rows again, too: give one of --write and --retry")
    with open_database(database_url) as connection:
        if is_retry:
            _print_retry(retry(connection), as_json=as_json)
            return
        mappings = read_mappings(mapping_file)
        planned = outlook(connection, mappings)
        if not as_json:
            _print_outlook(planned)
        filled, others = _switch(connection, database_url, mappings, quiet=as_json) if write else ([], [])
    if as_json:
        print_json({"changed": write, "outlook": planned, "filled": filled, "others": others})
        return
    for each in filled:
        say(printable(f"{each.table} follows the mirror: {each.written:,} rows written, {each.unfed:,} unfed"))
        if each.unfed:
            say("clerk-supabase status names the reasons; adopt switch --retry tries the unfed rows again")
    for other in others:
        words = (
            f"{other.table} ({other.kind}s) follows the mirror, too, and {mapping_file.name} does not name this table"
        )
        say(printable(f"{words}; to end this: clerk-supabase adopt undo --table '{other.table}' --write"))
    if not write:
        say("nothing was changed; adopt switch --write does it")


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
    with rich.progress.Progress(*columns, console=console, disable=quiet or not console.is_terminal) as bar:

        def begin(name: str) -> Callable[[int, int], None]:
            task = bar.add_task(printable(name), total=None)
            return lambda done, total: bar.update(task, completed=done, total=total)

        yield begin


def _print_outlook(planned: Sequence[Outlook]) -> None:
    listed = table("table", "objects", "insert", "update", "delete or clear", "no row yet")
    for each in planned:
        numbers = (each.objects, each.inserts, each.updates, each.deletes, each.unlinked)
        listed.add_row(printable(each.table), *(f"{number:,}" for number in numbers))
    Terminal().print(listed)
    for each in planned:
        if each.failing:
            what = f"an expression raises an error for {each.failing:,} objects, whose rows will be unfed"
            say(printable(f"{each.table}: {what}"))
        for statement in each.revokes:
            say(printable(f"the switch also runs: {statement}; (no request of the API needs this right)"))


def _print_retry(retried: dict[str, int], *, as_json: bool) -> None:
    if as_json:
        print_json(retried)
    else:
        say(f"tried {retried['tried']:,} unfed rows: {retried['written']:,} written, {retried['left']:,} left")
