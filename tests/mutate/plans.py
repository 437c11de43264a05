"""Chooses the tests of one mutant, one by one, from the record of the tests that run the changed code."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Final

from tests.mutate.chosen import Chooser
from tests.mutate.mutants import Mutant
from tests.mutate.reached import Reached, statement_around
from tests.mutate.swap import function_around

_FIRST_OF_FILE: Final = 6
_FIRST_SECONDS: Final = 15.0
_ALL_SECONDS: Final = 60.0
# The supposed time of a test without a record.
_NOT_RECORDED: Final = 0.2
_SQL: Final = "tests/integration/test_sql.py"
_OF_ROWS: Final = "users organizations visibility documents tasks profiles rights"
_CLAIMS: Final = {
    **dict.fromkeys(("0002", "0006", "0018", "0021", "0036"), _OF_ROWS),
    **dict.fromkeys(("0019", "0020"), "secure ownership lint rights"),
    "0029": "buckets",
    "0037": "plans",
}
"""The files of sql/tests about a migration, by its number."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Tests in the order in which they are run."""

    tests: Sequence[str]
    seconds: float
    """The time the tests took when they were recorded."""
    function: str | None
    """The name of the changed function of Python."""
    during_import: bool
    """True: the code also runs before any test."""


class Planner:
    """Makes the plan of each mutant."""

    def __init__(self, root: Path, chooser: Chooser, reached: Reached, collected: Sequence[str]) -> None:
        self._root = root
        self.chooser = chooser
        self._collected = collected
        self._reached = reached
        self._by_file: dict[str, list[str]] = defaultdict(list)
        for test in collected:
            file = test.partition("::")[0]
            if test in reached.seconds or (file not in reached.files and "Postgres 16" not in test):
                self._by_file[file].append(test)

    def plan(self, mutant: Mutant) -> Plan:
        """The plan of a mutant of Python or of a migration."""
        files = self.chooser.files(mutant)
        if mutant.file.endswith(".py"):
            text = (self._root / mutant.file).read_text(encoding="utf-8")
            key = f"{mutant.file}:{statement_around(text, mutant.line)}"
            tests = self._in_order(self._reached.by_key.get(key, []), files)
            # Without a record any test of these files may notice.
            tests += self._in_order(self._not_recorded(files), files)
            return self._plan(tests, function_around(text, mutant), key in self._reached.during_import)
        called = self._reached.by_key.get(mutant.subject.rpartition(".")[2], [])
        # A function may be inlined, and what is no function has no record.
        chosen = [test for file in files for test in self._by_file[file]]
        several = (self._in_order(called, files), self._claims(mutant), self._in_order(chosen, files))
        return self._plan(list(dict.fromkeys(chain.from_iterable(several))), None, during_import=False)

    def _claims(self, mutant: Mutant) -> list[str]:
        """The files of claims in SQL about a migration: what they call in databases like Supabase's is not recorded."""
        subjects = _CLAIMS.get(Path(mutant.file).name[:4], "").split()
        tests = [test for test in self._by_file[_SQL] if test.startswith(f"{_SQL}::test_every_claim")]
        return [
            test for test in tests if test.rstrip("]").rpartition("-")[2] in subjects and "[granted by default" in test
        ]

    def _not_recorded(self, files: Sequence[str]) -> list[str]:
        return [test for file in files if file not in self._reached.files for test in self._by_file[file]]

    def _seconds(self, test: str) -> float:
        return self._reached.seconds.get(test, _NOT_RECORDED)

    def _plan(self, tests: Sequence[str], function: str | None, during_import: bool) -> Plan:
        return Plan(tests, sum(self._seconds(test) for test in tests), function, during_import)

    def _in_order(self, tests: Iterable[str], files: Sequence[str]) -> list[str]:
        """The fastest tests of each file, then the others; as many as fit into the time."""
        by_file: dict[str, list[str]] = defaultdict(list)
        for test in tests:
            by_file[test.partition("::")[0]].append(test)
        rank = {file: number for number, file in enumerate(files)}
        ranked = sorted(by_file, key=lambda file: (rank.get(file, 99), self._cost(by_file[file])))
        first = [test for file in ranked for test in sorted(by_file[file], key=self._breadth)[:_FIRST_OF_FILE]]
        order = dict.fromkeys(self._within(sorted(first, key=self._breadth), _FIRST_SECONDS))
        order |= dict.fromkeys(test for file in ranked for test in sorted(by_file[file], key=self._breadth))
        return self._within(order, _ALL_SECONDS)

    def _breadth(self, test: str) -> float:
        """The number of lines and functions that a test runs, and its time: a narrow test looks more closely."""
        return self._reached.breadth.get(test, 100) + 100 * self._seconds(test)

    def _cost(self, tests: Iterable[str]) -> float:
        return sum(self._seconds(test) for test in tests)

    def _within(self, tests: Iterable[str], seconds: float) -> list[str]:
        found = []
        for test in tests:
            if self._seconds(test) <= seconds:
                seconds -= self._seconds(test)
                found.append(test)
        return found
