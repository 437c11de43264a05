"""Records once for all mutants which tests run which code."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Final

import click

from tests.mutate.reached import Reached
from tests.mutate.warm import Order, Warm

_LONGEST: Final = 100.0
# Of no use for a mutant: each starts servers of its own, reads the whole checkout, or tries random worlds for long.
_LEFT_OUT: Final = (
    *("test_simulator", "test_simulation", "test_simulated_pipeline", "test_lost_events", "test_embedded_postgres"),
    *("test_planted_faults", "test_documents", "test_mutate", "test_mutated_migrations", "test_tls", "test_containers"),
    *("test_uninstall", "test_installed", "test_screens", "test_pooler_errors", "test_adopt_supabase_auth"),
)


def record(warm: Sequence[Warm], path: Path | None = None) -> Reached:
    """Run every test, of all files that take less than some minutes. *path*: a file of the record, which goes on."""
    found = Reached.read(path) if path is not None and path.exists() else Reached()
    found.during_import = set(warm[0].during_import)
    free = list(warm)
    by_file: dict[str, list[str]] = {}
    for test in warm[0].collected:
        file = test.partition("::")[0]
        if Path(file).stem not in _LEFT_OUT and "Postgres 16" not in test and file not in found.files:
            by_file.setdefault(file, []).append(test)

    lock = Lock()

    def one_file(tests: Sequence[str]) -> None:
        mine: Warm = free.pop()
        try:
            answer = mine.run(Order(tests, _LONGEST, records=True))
        finally:
            free.append(mine)
        recorded = answer.get("tests", {})
        with lock:
            found.files.add(tests[0].partition("::")[0])
            for test, (seconds, keys) in recorded.items():
                found.add(test, seconds, keys)
            if path is not None and len(found.files) % 8 == 0:
                found.write(path)
        click.echo(f"{tests[0].partition('::')[0]}: {len(recorded)} of {len(tests)}")

    with ThreadPoolExecutor(len(warm)) as pool:
        list(pool.map(one_file, by_file.values()))
    if path is not None:
        found.write(path)
    return found
