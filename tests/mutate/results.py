"""Outcomes in a file, so that a run that was ended goes on later."""

from __future__ import annotations

import json
from pathlib import Path

from tests.mutate.lanes import Outcome
from tests.mutate.mutants import Mutant


class Results:
    """The outcomes so far; without a file they are not kept."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        lines = path.read_text(encoding="utf-8").splitlines() if path is not None and path.exists() else []
        read = [json.loads(line) for line in lines]
        self._known = {tuple(each["key"]): Outcome(each["verdict"], each["by"], each["seconds"]) for each in read}
        self.green = {each["by"].partition("[")[0] for each in read if each["verdict"] == "noticed"}
        """Tests that pass without any change."""

    def outcome(self, mutant: Mutant) -> Outcome | None:
        """The outcome of a mutant, if it was decided."""
        return self._known.get(mutant.key)

    def add(self, mutant: Mutant, outcome: Outcome) -> None:
        """Keep an outcome."""
        if self._path is None:
            return
        line = {"key": mutant.key, "line": mutant.line, "subject": mutant.subject}
        line |= {"verdict": outcome.verdict, "by": outcome.by, "seconds": round(outcome.seconds, 1)}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(f"{json.dumps(line)}\n")
