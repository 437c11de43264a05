"""The verdicts of checks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from clerk_supabase_cli.doctor.patient import Patient


class Verdict(StrEnum):
    """The verdicts, the worst last."""

    SKIPPED = "skipped"
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


_SEVERITY: Final = list(Verdict)


@dataclass(frozen=True, slots=True)
class Finding:
    """An observation, and advice. Neither text quotes a secret or personal data."""

    verdict: Verdict
    words: str
    todo: str = ""


def ok(words: str) -> Finding:
    """All is well."""
    return Finding(Verdict.OK, words)


def warn(words: str, todo: str) -> Finding:
    """The deployment works, but a person should look."""
    return Finding(Verdict.WARN, words, todo)


def fail(words: str, todo: str) -> Finding:
    """Something does not work, or is not safe."""
    return Finding(Verdict.FAIL, words, todo)


def skipped(words: str) -> Finding:
    """The check did not run, for the reason in *words*."""
    return Finding(Verdict.SKIPPED, words)


@dataclass(frozen=True, slots=True)
class Check:
    """An entry of the registry."""

    name: str
    """For `--check` and for machines; kept."""
    looks_at: str
    look: Callable[[Patient], Iterator[Finding]]
    """The check; may raise NotLookedAt, and errors of the reads. Findings before the error count."""
    seconds: float = 30.0
    """Seconds after which the check has failed."""
    waits_for_canary: bool = False
    """True: the time of a canary is added to the limit."""


@dataclass(frozen=True, slots=True)
class Result:
    """The findings of a check; the worst finding decides the verdict."""

    name: str
    looks_at: str
    findings: Sequence[Finding]
    seconds: float

    @property
    def verdict(self) -> Verdict:
        """The verdict of the worst finding."""
        return worst(finding.verdict for finding in self.findings)

    def as_json(self) -> dict[str, object]:
        """The result as JSON for machines, with names that stay the same."""
        return {
            "name": self.name,
            "looks_at": self.looks_at,
            "verdict": self.verdict,
            "findings": self.findings,
            "seconds": round(self.seconds, 3),
        }


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The worst verdict; `skipped` without any."""
    return max(verdicts, key=_SEVERITY.index, default=Verdict.SKIPPED)
