"""Changes the code at random, one small change at a time, and lists the changes that no test notices."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Final

import click

from clerk_supabase_cli.local.postgres import EmbeddedPostgres
from tests.mutate import equivalents
from tests.mutate.chosen import Chooser
from tests.mutate.lanes import Lane, Outcome, lane, preload
from tests.mutate.mutants import Mutant
from tests.mutate.python_rules import is_python, python_mutants
from tests.mutate.sql_rules import sql_mutants
from tests.mutate.template_rules import template_mutants

ROOT: Final = Path(__file__).resolve().parents[2]
LISTED: Final = Path(__file__).with_name("equivalents.txt")
_LIKELIEST: Final = 4
_STAGES: Final = 3
KINDS: Final[dict[str, tuple[tuple[str, ...], Callable[[str, str], list[Mutant]]]]] = {
    "python": (("layers/shared/clerk_supabase/**/*.py", "functions/*/*.py"), python_mutants),
    "sql": (("sql/migrations/*.sql",), sql_mutants),
    "template": (("template.yaml",), template_mutants),
}


def mutants_of(root: Path, kind: str) -> list[Mutant]:
    """Every mutant of a kind, in the order of files and places."""
    patterns, rules = KINDS[kind]
    files = [path for pattern in patterns for path in sorted(root.glob(pattern))]
    return [
        each for path in files for each in rules(path.relative_to(root).as_posix(), path.read_text(encoding="utf-8"))
    ]


def in_order(mutants: Sequence[Mutant], seed: int) -> list[Mutant]:
    """The mutants in an order of the seed's own, in which each keeps its place when others come or go."""
    return sorted(mutants, key=lambda each: sha256("\0".join((str(seed), *each.key)).encode()).digest())


def is_code(mutant: Mutant) -> bool:
    """Tells whether the mutant can run, as far as this can be known without Postgres or CloudFormation."""
    text = (ROOT / mutant.file).read_text(encoding="utf-8")
    return not mutant.file.endswith(".py") or is_python(mutant.applied(text))


def in_stages(files: Sequence[str]) -> tuple[Sequence[str], ...]:
    """The unit tests, which need no database; then the likeliest of the others; then the rest."""
    unit = [file for file in files if file.startswith("tests/unit/")]
    others = [file for file in files if file not in unit]
    return unit, others[:_LIKELIEST], others[_LIKELIEST:]


@dataclass
class Score:
    """The numbers of outcomes for the mutants of one file, or of all."""

    noticed: int = 0
    left_out: int = 0
    survivors: list[Mutant] = field(default_factory=list)

    @property
    def text(self) -> str:
        counted = self.noticed + len(self.survivors)
        return f"{self.noticed} of {counted} noticed, {100 * self.noticed / max(1, counted):.1f} %"

    def add(self, mutant: Mutant, outcome: Outcome) -> None:
        if outcome.verdict in ("not valid", "too slow"):
            self.left_out += 1
        elif outcome.verdict == "survived":
            self.survivors.append(mutant)
        else:
            self.noticed += 1


class Hunt:
    """Runs the tests of one mutant after the other."""

    def __init__(self, lanes: Sequence[Lane], chooser: Chooser, seconds: float, total: int) -> None:
        self._free = list(lanes)
        self._chooser = chooser
        self._seconds = seconds
        self._total = total
        self._done = 0
        self._lock = threading.Lock()
        self._green: set[str] = set()
        self._seconds_of: dict[tuple[str, str, str], float] = {}
        self.by_file: dict[str, Score] = {}

    def hunt(self, mutants: Sequence[Mutant], jobs: int) -> None:
        """Run the tests that can notice each mutant, the fast tests first; print the outcome of each mutant."""
        left = list(mutants)
        for number in range(_STAGES):
            survives = self._each(left, number, jobs)
            left = [mutant for mutant, does in zip(left, survives, strict=True) if does]

    def _each(self, mutants: Sequence[Mutant], number: int, jobs: int) -> list[bool]:
        if jobs == 1:
            return [self._survives(mutant, number) for mutant in mutants]
        with ThreadPoolExecutor(jobs) as pool:
            try:
                return list(pool.map(lambda mutant: self._survives(mutant, number), mutants))
            except BaseException:
                # Who ends this process does not wait for those that have not begun.
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _survives(self, mutant: Mutant, number: int) -> bool:
        """Run the tests of one stage; tell whether the mutant has to be tried with the tests of the next."""
        files = in_stages(self._chooser.files(mutant))[number]
        with self._lock:
            one = self._free.pop()
        started = time.monotonic()
        outcome = self._run(one, mutant, files) if files else Outcome("survived", "", 0)
        with self._lock:
            self._free.append(one)
            seconds = self._seconds_of[mutant.key] = self._seconds_of.get(mutant.key, 0) + time.monotonic() - started
            if outcome.verdict == "survived" and number < _STAGES - 1:
                return True
            self._done += 1
            self.by_file.setdefault(mutant.file, Score()).add(mutant, outcome)
            progress = f"{self._done:4}/{self._total} {outcome.verdict:9} {seconds:5.1f} s"
            click.echo(f"{progress}  {mutant.file}:{mutant.line}  {outcome.by}")
            if outcome.verdict == "survived":
                click.echo(f"{equivalents.as_text(mutant.name)}\n")
        return False

    def _run(self, one: Lane, mutant: Mutant, files: Sequence[str]) -> Outcome:
        outcome = one.run(mutant, files, self._seconds)
        if outcome.verdict == "timeout" and one.run(None, files, self._seconds).verdict == "timeout":
            return replace(outcome, verdict="too slow")
        if outcome.verdict == "noticed":
            self._check(one, outcome.by.partition("[")[0])
        return outcome

    def _check(self, one: Lane, test: str) -> None:
        """Raise ClickException for a test that fails without any change, and would seem to notice everything."""
        # A module that the change makes impossible to import has no name of a test.
        if "::" in test and test not in self._green:
            if one.run(None, [test], self._seconds).verdict == "noticed":
                raise click.ClickException(f"{test} fails without any change of the code")
            self._green.add(test)


def report(by_file: dict[str, Score]) -> None:
    """Print the score of each file, and every survivor the way the list of equivalents has them."""
    total = Score()
    click.echo()
    for file, score in sorted(by_file.items()):
        click.echo(f"{file}: {score.text}")
        total.noticed += score.noticed
        total.left_out += score.left_out
        total.survivors += score.survivors
    for mutant in sorted(total.survivors, key=lambda each: (each.file, each.line)):
        click.echo(f"\n# {mutant.file}:{mutant.line}\n{equivalents.as_text(mutant.name)}")
    click.echo(f"\n{total.text} ({total.left_out} more were no code, or could not be tried in time)")


@click.command()
@click.option("--seed", default=1, show_default=True, help="Which mutants are drawn.")
@click.option("--count", default=100, show_default=True, help="How many.")
@click.option("--kind", type=click.Choice([*KINDS, "all"]), default="all", show_default=True, help="Of what.")
@click.option("--only", default="", help="Just those of files whose path contains this; several with commas.")
@click.option(
    "--again",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Just those that a file names: what an earlier run printed.",
)
@click.option("--jobs", default=1, show_default=True, help="How many at once.")
@click.option("--seconds", default=90.0, show_default=True, help="How long the tests of one may take.")
@click.option("--at-least", default=0.0, help="Fail when a smaller share of them, in percent, is noticed.")
@click.option("--list", "is_listing", is_flag=True, help="Print the mutants and run nothing.")
def main(  # noqa: PLR0917 - click passes them by name
    seed: int,
    count: int,
    kind: str,
    only: str,
    again: Path | None,
    jobs: int,
    seconds: float,
    at_least: float,
    is_listing: bool,
) -> None:
    """Changes the code at random, and says which changes no test notices."""
    mutants = [each for name in KINDS for each in mutants_of(ROOT, name)]
    try:
        listed = equivalents.read(LISTED)
        equivalents.check(listed, {each.name for each in mutants})
    except equivalents.ListIsWrong as error:
        raise click.ClickException(str(error)) from None
    wanted = mutants if kind == "all" else mutants_of(ROOT, kind)
    there = [
        each
        for each in equivalents.without(wanted, listed)
        if not only or any(part in each.file for part in only.split(","))
    ]
    if again is not None:
        survived = set(equivalents.names_in(again.read_text(encoding="utf-8")))
        there = [each for each in there if each.name in survived]
    drawn = list(islice(filter(is_code, in_order(there, seed)), count))
    click.echo(f"{len(drawn)} of {len(there)} mutants, seed {seed}")
    if is_listing:
        for mutant in drawn:
            click.echo(f"\n# {mutant.file}:{mutant.line}\n{equivalents.as_text(mutant.name)}")
        return
    # The tests that run end with this process.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    preload()
    started = time.monotonic()
    with ExitStack() as kept:
        has_sql = any(each.file.endswith(".sql") for each in drawn)
        servers = [kept.enter_context(EmbeddedPostgres()) if has_sql else None for _ in range(jobs)]
        lanes = [kept.enter_context(lane(ROOT, server)) for server in servers]
        hunt = Hunt(lanes, Chooser(ROOT), seconds, len(drawn))
        hunt.hunt(drawn, jobs)
    report(hunt.by_file)
    click.echo(f"{(time.monotonic() - started) / max(1, len(drawn)):.1f} s for each")
    noticed = sum(score.noticed for score in hunt.by_file.values())
    counted = noticed + sum(len(score.survivors) for score in hunt.by_file.values())
    if 100 * noticed < at_least * counted:
        sys.exit(1)


if __name__ == "__main__":
    main()
