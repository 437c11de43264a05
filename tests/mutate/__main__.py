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

from tests.mutate import equivalents
from tests.mutate.chosen import Chooser
from tests.mutate.lanes import Lane, Outcome, Seat, preload, seat
from tests.mutate.mutants import Mutant
from tests.mutate.plans import Planner
from tests.mutate.prepared import prepare
from tests.mutate.python_rules import is_python, python_mutants
from tests.mutate.reached import Reached
from tests.mutate.record import record
from tests.mutate.results import Results
from tests.mutate.sql_rules import sql_mutants
from tests.mutate.template_rules import template_mutants
from tests.mutate.warm import Order

ROOT: Final = Path(__file__).resolve().parents[2]
LISTED: Final = Path(__file__).with_name("equivalents.txt")
_LIKELIEST: Final = 4
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

    def __init__(self, seats: Sequence[Seat], planner: Planner, results: Results, seconds: float, total: int) -> None:
        self._free = list(seats)
        self._planner = planner
        self._results = results
        self._seconds = seconds
        self._total = total
        self._done = 0
        self._lock = threading.Lock()
        self._green = results.green
        self._broken: set[str] = set()
        self.by_file: dict[str, Score] = {}

    def hunt(self, mutants: Sequence[Mutant], jobs: int) -> None:
        """Run the tests that can notice each mutant, the likeliest first; print the outcome of each mutant."""
        with ThreadPoolExecutor(jobs) as pool:
            try:
                list(pool.map(self._decide, mutants))
            except BaseException:
                # Who ends this process does not wait for those that have not begun.
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _decide(self, mutant: Mutant) -> None:
        known = self._results.outcome(mutant)
        if known is not None:
            self._say(mutant, known)
            return
        with self._lock:
            seat = self._free.pop()
        started = time.monotonic()
        outcome = self._outcome(seat, mutant)
        while outcome.verdict == "noticed" and not self._is_green(seat, outcome.by):
            outcome = self._outcome(seat, mutant)
        outcome = replace(outcome, seconds=time.monotonic() - started)
        with self._lock:
            self._free.append(seat)
            self._results.add(mutant, outcome)
        self._say(mutant, outcome)

    def _say(self, mutant: Mutant, outcome: Outcome) -> None:
        with self._lock:
            self._done += 1
            self.by_file.setdefault(mutant.file, Score()).add(mutant, outcome)
            progress = f"{self._done:4}/{self._total} {outcome.verdict:9} {outcome.seconds:5.1f} s"
            click.echo(f"{progress}  {mutant.file}:{mutant.line}  {outcome.by}")
            if outcome.verdict == "survived":
                click.echo(f"{equivalents.as_text(mutant.name)}\n")

    def _outcome(self, seat: Seat, mutant: Mutant) -> Outcome:
        if mutant.file == "template.yaml":
            return self._anew(seat.lane, mutant)
        plan = self._planner.plan(mutant)
        tests = [test for test in plan.tests if test.partition("[")[0] not in self._broken]
        outcome = Outcome("not swapped", "", 0)
        if mutant.file.endswith(".sql"):
            return self._warm(seat, mutant, Order(tests, self._seconds, migrates=True))
        if plan.function is not None:
            changed = mutant.applied((ROOT / mutant.file).read_text(encoding="utf-8"))
            swap = (mutant.file, plan.function, changed)
            outcome = self._warm(seat, mutant, Order(tests, self._seconds, swap=swap))
        has_more = outcome.verdict == "not swapped" or (outcome.verdict == "survived" and plan.during_import)
        return self._anew(seat.lane, mutant) if has_more else outcome

    def _warm(self, seat: Seat, mutant: Mutant, order: Order) -> Outcome:
        outcome = seat.lane.run_warm(seat.warm, mutant, order)
        if outcome.verdict == "timeout":
            alone = replace(order, tests=[outcome.by], swap=None, migrates=False)
            if seat.lane.run_warm(seat.warm, None, alone).verdict != "survived":
                return replace(outcome, verdict="too slow")
        return outcome

    def _anew(self, one: Lane, mutant: Mutant) -> Outcome:
        """Run the files of tests in new processes, which import the mutant."""
        outcome = Outcome("survived", "", 0)
        for files in in_stages(self._planner.chooser.files(mutant)):
            if files and outcome.verdict == "survived":
                outcome = one.run(mutant, files, 3 * self._seconds, without=sorted(self._broken))
                if outcome.verdict == "timeout" and one.run(None, files, 3 * self._seconds).verdict == "timeout":
                    return replace(outcome, verdict="too slow")
        return outcome

    def _is_green(self, seat: Seat, test: str) -> bool:
        """Tell whether a test passes without any change; else no mutant is tried with it any more."""
        name = test.partition("[")[0]
        # A module that the change makes impossible to import has no name of a test.
        if "::" not in test or name in self._green:
            return True
        if test in seat.warm.collected:
            outcome = seat.lane.run_warm(seat.warm, None, Order([test], self._seconds))
        else:
            outcome = seat.lane.run(None, [name], 3 * self._seconds)
        if outcome.verdict != "survived":
            click.echo(f"{name} fails without any change of the code: left out")
            self._broken.add(name)
            return False
        self._green.add(name)
        return True


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
@click.option("--results", type=click.Path(path_type=Path), help="A file of outcomes, which a later run takes over.")
@click.option("--reached", "known", type=click.Path(path_type=Path), help="A file for what each test runs.")
@click.option(
    "--record/--no-record",
    "is_recording",
    default=True,
    help="First record what each test runs, into the file of --reached.",
)
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
    results: Path | None,
    known: Path | None,
    is_recording: bool,
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
        prepared = kept.enter_context(prepare(ROOT))
        seats = [
            kept.enter_context(seat(ROOT, prepared, is_recording=is_recording and known is not None))
            for _ in range(jobs)
        ]
        if is_recording and known is not None:
            reached = record([each.warm for each in seats], known)
        else:
            reached = Reached.read(known) if known is not None and known.exists() else Reached()
        hunt = Hunt(
            seats, Planner(ROOT, Chooser(ROOT), reached, seats[0].warm.collected), Results(results), seconds, len(drawn)
        )
        hunt.hunt(drawn, jobs)
    report(hunt.by_file)
    click.echo(f"{(time.monotonic() - started) / max(1, len(drawn)):.1f} s for each")
    noticed = sum(score.noticed for score in hunt.by_file.values())
    counted = noticed + sum(len(score.survivors) for score in hunt.by_file.values())
    if 100 * noticed < at_least * counted:
        sys.exit(1)


if __name__ == "__main__":
    main()
