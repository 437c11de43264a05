"""Measures the targets, each as a ratio to a named baseline of the same run, and prints one table."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import click
from rich.console import Console

from clerk_supabase_cli.project import find_root
from tests.bench import (
    cold_start,
    concurrency,
    convergence,
    end_to_end,
    feeds,
    first_login,
    ingest,
    invocations,
    outage,
    reconcile,
    row_level_security,
    slices,
    storage,
    sync,
    tokens,
)
from tests.bench.peers import measure as peers
from tests.bench.results import Result, show, write


@click.command()
@click.option("--only", multiple=True, help="Just the measurements whose name contains this; may be repeated.")
@click.option("--schedules", default=10_000, show_default=True, help="How many random schedules must converge.")
@click.option("--seed", default=1, show_default=True, help="Which random schedules.")
@click.option(
    "--rows",
    default=1_000_000,
    type=click.IntRange(min=1_000),
    show_default=True,
    help="How large tables with row-level security are.",
)
@click.option(
    "--organizations",
    default=1_000,
    type=click.IntRange(min=10),
    show_default=True,
    help="How many organizations share them.",
)
# With fewer, a run reads so few pages that its ratio to all of them says nothing.
@click.option(
    "--users",
    default=100_000,
    type=click.IntRange(min=10_000),
    show_default=True,
    help="How many reconcile compares.",
)
@click.option(
    "--members",
    default=1_000_000,
    type=click.IntRange(min=50_000),
    show_default=True,
    help="How many users and memberships quick runs meet.",
)
@click.option("--back-fill", default=100_000, show_default=True, help="How many it fills an empty database with.")
@click.option("--outage-events", default=10_000, show_default=True, help="How many events arrive during an outage.")
@click.option("--deployed-events", default=400, show_default=True, help="How many the emulated AWS gets, of each kind.")
@click.option("--peer-users", default=10_000, show_default=True, help="How many the peers fill an empty table with.")
@click.option(
    "--peer-turns",
    default=8,
    type=click.IntRange(min=1),
    show_default=True,
    help="How many turns each pair of peers takes; few for a busy machine.",
)
@click.option("--json", "file", type=click.Path(dir_okay=False, path_type=Path), help="Write the numbers there, too.")
def main(  # noqa: PLR0917 - click passes them by name
    only: tuple[str, ...],
    schedules: int,
    seed: int,
    rows: int,
    organizations: int,
    users: int,
    members: int,
    back_fill: int,
    outage_events: int,
    deployed_events: int,
    peer_users: int,
    peer_turns: int,
    file: Path | None,
) -> None:
    """Measures everything and prints the table. A missed target is no error; a failed measurement is an error."""
    root = find_root(Path(__file__).parent)
    console = Console(width=None if sys.stdout.isatty() else 160)
    with console.status("") as status:
        measurements: dict[str, Callable[[Path], Iterator[Result]]] = {
            "sync": sync.measure,
            "feeds": feeds.measure,
            "storage": storage.measure,
            "ingest": ingest.measure,
            "tokens": tokens.measure,
            "row-level security": partial(row_level_security.measure, rows=rows, organizations=organizations),
            "first login": first_login.measure,
            "cold start": cold_start.measure,
            "concurrency": concurrency.measure,
            "reconcile": partial(reconcile.measure, users=users, back_fill=back_fill),
            "quick runs": partial(slices.measure, size=members),
            "convergence": partial(convergence.measure, schedules=schedules, seed=seed, progress=status.update),
            "outage": partial(outage.measure, events=outage_events),
            "end to end": partial(end_to_end.measure, events=deployed_events),
            "invocations": invocations.measure,
            "peers": partial(peers.measure, users=peer_users, turns=peer_turns),
        }
        chosen = [name for name in measurements if not only or any(part in name for part in only)]
        if not chosen:
            raise click.UsageError(f"nothing to measure; there is {', '.join(measurements)}")
        results: list[Result] = []
        for name in chosen:
            status.update(f"measuring {name}")
            results += measurements[name](root)
    show(results, console)
    if file is not None:
        write(results, file)


if __name__ == "__main__":
    main()
